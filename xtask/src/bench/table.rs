//! The measurements as tables in Markdown: medians, their spread, and the ratio to the column of
//! reference.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::measured::contender::{Contender, Durability};

/// The sections of the page, each with its own comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Brokers with each other.
    Brokers(Durability),
    /// Clusters of three nodes with each other.
    ThreeNodes(Durability),
    /// Brokers with a loop that does the least a server can do.
    BareLoop,
}

/// The values of all runs.
#[derive(Debug, Default)]
pub struct Figures {
    rows: Vec<Row>,
}

/// What identifies a row: its section, the caption of its table, and its name.
#[derive(Debug, Clone, Copy)]
pub struct RowName<'a> {
    /// The section of the page.
    pub section: Section,
    /// The caption of the table.
    pub table: &'a str,
    /// The first cell of the row.
    pub name: &'a str,
}

/// A row. Rows keep the order in which they were first added.
#[derive(Debug)]
struct Row {
    section: Section,
    table: String,
    name: String,
    values: BTreeMap<Contender, Vec<f64>>,
}

impl Figures {
    /// Adds the value of one run.
    pub fn add(&mut self, row: RowName<'_>, contender: Contender, value: f64) {
        let RowName {
            section,
            table,
            name,
        } = row;
        let is_it = |row: &Row| row.section == section && row.table == table && row.name == name;
        let at = self.rows.iter().position(is_it);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                section,
                table: table.to_owned(),
                name: name.to_owned(),
                values: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        let values = self.rows[at].values.entry(contender).or_default();
        values.push(value);
    }

    /// All tables.
    pub fn render(&self) -> String {
        let sections = [
            Section::Brokers(Durability::PageCache),
            Section::Brokers(Durability::Fsync),
            Section::Brokers(Durability::Default),
            Section::ThreeNodes(Durability::PageCache),
            Section::ThreeNodes(Durability::Fsync),
            Section::ThreeNodes(Durability::Default),
            Section::BareLoop,
        ];
        let mut text = String::new();
        for section in sections {
            let rows: Vec<_> = self
                .rows
                .iter()
                .filter(|row| row.section == section)
                .collect();
            if !rows.is_empty() {
                let _ = write!(text, "\n## {}\n", section.title());
                render_section(&mut text, section, &rows);
            }
        }
        text
    }
}

impl Section {
    fn title(self) -> &'static str {
        match self {
            Self::Brokers(Durability::PageCache) => "Acknowledged from the page cache",
            Self::Brokers(Durability::Fsync) => "Acknowledged from stable storage",
            Self::Brokers(Durability::Default) => "As each broker comes",
            Self::ThreeNodes(Durability::PageCache) => {
                "Three nodes, acknowledged from the page cache of all"
            }
            Self::ThreeNodes(Durability::Fsync) => {
                "Three nodes, acknowledged from stable storage of all"
            }
            Self::ThreeNodes(Durability::Default) => "Three nodes, as each broker comes",
            Self::BareLoop => "Beside a bare loop",
        }
    }

    /// The column of reference.
    fn base(self) -> Contender {
        match self {
            Self::Brokers(_) | Self::ThreeNodes(_) => Contender::Kafka,
            Self::BareLoop => Contender::BareLoop,
        }
    }
}

fn render_section(text: &mut String, section: Section, rows: &[&Row]) {
    let measured = rows.iter().flat_map(|row| row.values.keys().copied());
    let columns = Columns::of(section.base(), measured);
    let mut tables: Vec<&str> = Vec::new();
    for row in rows {
        if !tables.contains(&row.table.as_str()) {
            tables.push(&row.table);
        }
    }
    for table in tables {
        let _ = write!(text, "\n| {table} |");
        let mut alignments = String::from("|---|");
        for contender in &columns.contenders {
            let _ = write!(text, " {} |", contender.title());
            alignments.push_str("---:|");
            if columns.has_ratio(*contender) {
                text.push_str(" ratio |");
                alignments.push_str("---:|");
            }
        }
        let _ = writeln!(text, "\n{alignments}");
        for row in rows.iter().filter(|row| row.table == table) {
            render_row(text, row, &columns);
        }
    }
}

/// The columns of a section; the column of reference comes first, if it was measured.
struct Columns {
    base: Option<Contender>,
    contenders: Vec<Contender>,
}

impl Columns {
    fn of(base: Contender, measured: impl Iterator<Item = Contender>) -> Self {
        let mut contenders: Vec<_> = measured.collect();
        contenders.sort_by_key(|contender| (*contender != base, *contender));
        contenders.dedup();
        Self {
            base: contenders.contains(&base).then_some(base),
            contenders,
        }
    }

    fn has_ratio(&self, contender: Contender) -> bool {
        self.base.is_some_and(|base| base != contender)
    }
}

fn render_row(text: &mut String, row: &Row, columns: &Columns) {
    let summary = |contender| row.values.get(contender).and_then(|v| Summary::of(v));
    let reference = columns.base.as_ref().and_then(summary);
    let _ = write!(text, "| {} |", row.name);
    for contender in &columns.contenders {
        let own = summary(contender);
        let cell = own.map_or_else(|| "-".to_owned(), |own| own.to_string());
        let _ = write!(text, " {cell} |");
        if !columns.has_ratio(*contender) {
            continue;
        }
        match (own, reference) {
            (Some(own), Some(reference)) if reference.median > 0.0 => {
                let _ = write!(text, " {:.2} |", own.median / reference.median);
            }
            _ => text.push_str(" - |"),
        }
    }
    text.push('\n');
}

/// A median with the smallest and the largest value.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    median: f64,
    least: f64,
    most: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
        Some(Self {
            median: f64::midpoint(sorted[middle.0], sorted[middle.1]),
            least: *sorted.first()?,
            most: *sorted.last()?,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: f64| match value {
            value if value >= 100.0 => format!("{value:.0}"),
            value if value >= 10.0 => format!("{value:.1}"),
            value => format!("{value:.2}"),
        };
        let (least, most) = (number(self.least), number(self.most));
        write!(f, "{} ({least}..{most})", number(self.median))
    }
}

#[cfg(test)]
mod tests {
    use super::{Contender, Durability, Figures, RowName, Section, Summary};

    fn cpu(section: Section, name: &str) -> RowName<'_> {
        RowName {
            section,
            table: "CPU",
            name,
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let summary = Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert!((summary.median - 2.5).abs() < 1e-9);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_table_shows_medians_spread_and_ratio() {
        let mut figures = Figures::default();
        let section = Section::Brokers(Durability::PageCache);
        for (kafka, ottla) in [(100.0, 50.0), (200.0, 60.0), (300.0, 40.0)] {
            figures.add(cpu(section, "a"), Contender::Ottla, ottla);
            figures.add(cpu(section, "a"), Contender::Kafka, kafka);
        }
        figures.add(cpu(section, "b"), Contender::Tansu, 1.5);
        let text = figures.render();
        let columns =
            "| CPU | Apache Kafka 4.3.1 | Ottla | ratio | Tansu 0.6.0, in memory | ratio |";
        assert!(text.contains(columns), "{text}");
        let row = "| a | 200 (100..300) | 50.0 (40.0..60.0) | 0.25 | - | - |";
        assert!(text.contains(row), "{text}");
        let row = "| b | - | - | - | 1.50 (1.50..1.50) | - |";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn the_bare_loop_is_what_brokers_are_compared_with() {
        let mut figures = Figures::default();
        figures.add(cpu(Section::BareLoop, "a"), Contender::Ottla, 3.0);
        figures.add(cpu(Section::BareLoop, "a"), Contender::BareLoop, 2.0);
        let text = figures.render();
        assert!(
            text.contains("| CPU | bare loop | Ottla | ratio |"),
            "{text}"
        );
        assert!(text.contains("| 1.50 |"), "{text}");
    }
}
