//! Figures as a table: a row for each figure, a column for each broker, in the order in which they came.

use std::fmt::Write as _;

/// A table under a heading.
#[derive(Debug, Default)]
pub struct Sheet {
    pub title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<(String, String)>)>,
    notes: Vec<String>,
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
        if !self.columns.iter().any(|known| known == column) {
            self.columns.push(column.to_owned());
        }
        let value = (column.to_owned(), value.into());
        match self.rows.iter_mut().find(|(known, _)| known == row) {
            Some((_, values)) => values.push(value),
            None => self.rows.push((row.to_owned(), vec![value])),
        }
    }

    /// What a broker said where it ended, below the table.
    pub fn note(&mut self, column: &str, text: &str) {
        self.notes.push(format!("{column}: {text}"));
    }

    /// The heading, the table and the notes, in Markdown.
    pub fn render(&self) -> String {
        let mut text = String::from("| |");
        for column in &self.columns {
            let _ = write!(text, " {column} |");
        }
        text += "\n|---|";
        text += &"---:|".repeat(self.columns.len());
        text.push('\n');
        for (row, values) in &self.rows {
            let _ = write!(text, "| {row} |");
            for column in &self.columns {
                let value = values.iter().find(|(of, _)| of == column);
                let _ = write!(text, " {} |", value.map_or("-", |(_, value)| value));
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// The measured part of the page with the tables of `sheets` (heading, text) in the place of older ones.
pub fn merged(page: &str, sheets: &[(String, String)]) -> String {
    let mut sections: Vec<(String, String)> = Vec::new();
    for section in page.split("## ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap_or((section, ""));
        sections.push((title.to_owned(), text.trim().to_owned()));
    }
    for (title, text) in sheets {
        let text = text.trim().to_owned();
        match sections.iter_mut().find(|(known, _)| known == title) {
            Some((_, known)) => *known = text,
            None => sections.push((title.clone(), text)),
        }
    }
    let sections = sections.iter();
    let sections: Vec<_> = sections
        .map(|(title, text)| format!("## {title}\n\n{text}\n"))
        .collect();
    sections.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Sheet, merged};

    #[test]
    fn figures_stand_under_their_brokers_and_what_is_missing_is_shown() {
        let mut sheet = Sheet::new("t");
        sheet.set(("maps", "Kafka"), "7");
        sheet.set(("maps", "Ottla"), "0");
        sheet.set(("files", "Ottla"), "2");
        sheet.note("Kafka", "ended");
        assert_eq!(
            sheet.render(),
            "| | Kafka | Ottla |\n|---|---:|---:|\n| maps | 7 | 0 |\n| files | - | 2 |\n\n- Kafka: ended\n"
        );
    }

    #[test]
    fn a_table_replaces_the_one_of_its_heading_and_no_other() {
        let page = "## a\n\nold\n\n## b\n\nstays\n";
        let new = |title: &str| (title.to_owned(), "new\n".to_owned());
        assert_eq!(
            merged(page, &[new("a"), new("c")]),
            "## a\n\nnew\n\n## b\n\nstays\n\n## c\n\nnew\n"
        );
    }
}
