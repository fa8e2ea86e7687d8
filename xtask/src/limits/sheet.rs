//! Figures as a table: one row per figure, one column per broker, in the order in which they were
//! added. Columns of brokers that are not measured again are read from the page and stay.

use std::fmt::Write as _;

/// A table under a heading.
#[derive(Debug, Default)]
pub struct Sheet {
    pub title: String,
    cells: Vec<Cell>,
    notes: Vec<Note>,
}

#[derive(Debug)]
struct Cell {
    row: String,
    column: String,
    value: String,
}

/// A note about a column, below the table.
#[derive(Debug)]
struct Note {
    column: String,
    text: String,
}

impl Sheet {
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            ..Self::default()
        }
    }

    /// Puts a figure into its cell.
    pub fn set(&mut self, (row, column): (&str, &str), value: impl Into<String>) {
        self.cells.push(Cell {
            row: row.to_owned(),
            column: column.to_owned(),
            value: value.into(),
        });
    }

    /// Adds a note, such as the error at which a broker stopped.
    pub fn note(&mut self, column: &str, text: &str) {
        self.notes.push(Note {
            column: column.to_owned(),
            text: text.to_owned(),
        });
    }

    /// The columns, in the order in which they came.
    pub fn columns(&self) -> Vec<String> {
        in_order(self.cells.iter().map(|cell| &cell.column))
    }

    /// Adds the columns of `text`, an older rendering, that are not measured again.
    pub fn after(self, text: &str) -> Self {
        let mut merged = Self::read(&self.title, text);
        let columns = self.columns();
        merged.cells.retain(|cell| !columns.contains(&cell.column));
        merged.notes.retain(|note| !columns.contains(&note.column));
        merged.cells.extend(self.cells);
        merged.notes.extend(self.notes);
        merged
    }

    fn read(title: &str, text: &str) -> Self {
        let mut sheet = Self::new(title);
        let mut table = text.lines().filter_map(cells_of);
        let columns = table.next().unwrap_or_default();
        // The line below the heading only aligns.
        for row in table.skip(1) {
            let name = row.first().copied().unwrap_or_default();
            let values = columns.iter().zip(&row).skip(1);
            for (column, value) in values.filter(|(_, value)| **value != "-") {
                sheet.set((name, column), *value);
            }
        }
        let notes = text.lines().filter_map(|line| line.strip_prefix("- "));
        for (column, text) in notes.filter_map(|note| note.split_once(": ")) {
            sheet.note(column, text);
        }
        sheet
    }

    /// The table and the notes, in Markdown.
    pub fn render(&self) -> String {
        let columns = self.columns();
        let mut text = format!("| | {} |\n|---|", columns.join(" | "));
        text += &"---:|".repeat(columns.len());
        text.push('\n');
        for row in in_order(self.cells.iter().map(|cell| &cell.row)) {
            let _ = write!(text, "| {row} |");
            for column in &columns {
                let is_it = |cell: &&Cell| cell.row == row && cell.column == *column;
                let value = self.cells.iter().rfind(is_it);
                let value = value.map_or("-", |cell| cell.value.as_str());
                let _ = write!(text, " {value} |");
            }
            text.push('\n');
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for Note { column, text: said } in &self.notes {
            let _ = writeln!(text, "- {column}: {said}");
        }
        text
    }
}

/// The cells of a line of a table.
fn cells_of(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn in_order<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for name in names {
        if !known.contains(name) {
            known.push(name.clone());
        }
    }
    known
}

/// The measured part of a page, with `sheets` in the place of their older versions.
pub fn merged(page: &str, sheets: Vec<Sheet>) -> String {
    let mut sections: Vec<(String, String)> = Vec::new();
    for section in page.split("## ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap_or((section, ""));
        sections.push((title.to_owned(), text.trim().to_owned()));
    }
    for sheet in sheets {
        let title = sheet.title.clone();
        match sections.iter_mut().find(|(known, _)| *known == title) {
            Some((_, text)) => *text = sheet.after(text).render(),
            None => sections.push((title, sheet.render())),
        }
    }
    let sections = sections.iter();
    let sections: Vec<_> = sections
        .map(|(title, text)| format!("## {title}\n\n{}\n", text.trim()))
        .collect();
    sections.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Sheet, merged};

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new("t");
        sheet.set(("maps", "Kafka, 7"), "7");
        sheet.set(("maps", "Ottla"), "0");
        sheet.set(("files", "Ottla"), "2");
        sheet.note("Kafka, 7", "ended: why");
        sheet
    }

    #[test]
    fn figures_stand_under_their_brokers_and_what_is_missing_is_shown() {
        let text = "| | Kafka, 7 | Ottla |\n|---|---:|---:|\n| maps | 7 | 0 |\n| files | - | 2 |\n\n- Kafka, 7: ended: why\n";
        assert_eq!(sheet().render(), text);
        assert_eq!(Sheet::read("t", text).render(), text);
    }

    #[test]
    fn what_is_not_measured_again_stays() {
        let page = format!("## a\n\nstays\n\n## t\n\n{}", sheet().render());
        let mut newer = Sheet::new("t");
        newer.set(("maps", "Ottla"), "1");
        let text =
            "| | Kafka, 7 | Ottla |\n|---|---:|---:|\n| maps | 7 | 1 |\n\n- Kafka, 7: ended: why\n";
        let expected = format!("## a\n\nstays\n\n## t\n\n{text}");
        assert_eq!(merged(&page, vec![newer]), expected);
        assert_eq!(
            merged("", vec![sheet()]),
            format!("## t\n\n{}", sheet().render())
        );
    }
}
