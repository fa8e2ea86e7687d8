//! What was measured, as one table in Markdown: medians, their spread, and Ottla's share of Kafka's figure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::broker::Durability;
use crate::compat::broker::Kind;

/// The values of all runs.
#[derive(Debug, Default)]
pub struct Figures {
    /// By load (empty for what concerns the broker as such) and figure, in the order in which they first came.
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    load: String,
    figure: &'static str,
    kafka: Vec<f64>,
    ottla: Vec<f64>,
}

impl Figures {
    /// Adds what one run measured.
    pub fn add(&mut self, load: &str, figure: &'static str, kind: Kind, value: f64) {
        let mut rows = self.rows.iter();
        let at = rows.position(|row| row.load == load && row.figure == figure);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                load: load.to_owned(),
                figure,
                kafka: Vec::new(),
                ottla: Vec::new(),
            });
            self.rows.len() - 1
        });
        match kind {
            Kind::Kafka => self.rows[at].kafka.push(value),
            Kind::Ottla => self.rows[at].ottla.push(value),
        }
    }

    /// The table.
    pub fn render(&self, runs: u32, durability: Durability) -> String {
        let when = match durability {
            Durability::PageCache => "in the page cache",
            Durability::StableStorage => "on stable storage",
        };
        let mut text = format!(
            "Medians of {runs} alternating runs (smallest to largest); acknowledged when {when}.\n"
        );
        let mut by_load = BTreeMap::<&str, Vec<&Row>>::new();
        for row in &self.rows {
            by_load.entry(&row.load).or_default().push(row);
        }
        for (load, rows) in by_load {
            let title = if load.is_empty() { "the broker" } else { load };
            let _ = write!(
                text,
                "\n| {title} | Apache Kafka 4.3.1 | Ottla | Ottla / Kafka |\n|---|---|---|---|\n"
            );
            for row in rows {
                let (kafka, ottla) = (Summary::of(&row.kafka), Summary::of(&row.ottla));
                let ratio = ottla.median / kafka.median;
                let _ = writeln!(text, "| {} | {kafka} | {ottla} | {ratio:.2} |", row.figure);
            }
        }
        text
    }
}

/// A median and the ends of what it is the median of.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Summary {
    median: f64,
    least: f64,
    most: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        Self {
            median: f64::midpoint(at(last / 2), at(sorted.len() / 2)),
            least: at(0),
            most: at(last),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |value: f64| {
            if value >= 100.0 {
                format!("{value:.0}")
            } else {
                format!("{value:.2}")
            }
        };
        let (least, most) = (number(self.least), number(self.most));
        write!(f, "{} ({least} to {most})", number(self.median))
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, Summary};
    use crate::bench::broker::Durability;
    use crate::compat::broker::Kind;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert!((Summary::of(&[4.0, 1.0, 2.0, 3.0]).median - 2.5).abs() < 1e-9);
        assert!((Summary::of(&[9.0, 1.0, 2.0]).median - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_table_shows_medians_spread_and_ratio() {
        let mut figures = Figures::default();
        for (kafka, ottla) in [(100.0, 50.0), (200.0, 60.0), (300.0, 40.0)] {
            figures.add("a", "CPU", Kind::Kafka, kafka);
            figures.add("a", "CPU", Kind::Ottla, ottla);
        }
        let text = figures.render(3, Durability::PageCache);
        assert!(
            text.contains("| CPU | 200 (100 to 300) | 50.00 (40.00 to 60.00) | 0.25 |"),
            "{text}"
        );
    }
}
