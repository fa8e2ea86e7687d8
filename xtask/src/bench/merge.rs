//! Puts the tables of some loads in place of the older ones of the same captions; all other figures of the page stay.
//!
//! A table is replaced as a whole, and names below itself when it was measured. A run that measured only some rows of a
//! table is refused, because the others would be lost.

use std::fmt::Write as _;

use anyhow::{Result, bail};

/// The table of the broker itself. Its memory is that of all loads, so that a run of some loads says nothing about it.
const OF_ALL_LOADS: &str = "The broker";

/// Figures as text, in sections.
#[derive(Debug)]
struct Figures<'a> {
    preamble: &'a str,
    sections: Vec<Section<'a>>,
}

#[derive(Debug)]
struct Section<'a> {
    title: &'a str,
    tables: Vec<Table<'a>>,
}

/// A table, with the sentence below it.
#[derive(Debug)]
struct Table<'a> {
    caption: &'a str,
    rows: Vec<&'a str>,
    sentence: Option<&'a str>,
}

/// The figures of `older`, except for those that `newer` measured again under `circumstances`.
pub fn merge(older: &str, newer: &str, circumstances: &str) -> Result<String> {
    let mut merged = Figures::parse(older);
    for Section { title, tables } in Figures::parse(newer).sections {
        let tables = tables.into_iter();
        for table in tables.filter(|table| table.caption != OF_ALL_LOADS) {
            merged.section(title).replace(Table {
                sentence: Some(circumstances),
                ..table
            })?;
        }
    }
    Ok(merged.render())
}

impl<'a> Figures<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split("\n## ");
        let preamble = parts.next().unwrap_or_default().trim();
        Self {
            preamble,
            sections: parts.map(Section::parse).collect(),
        }
    }

    fn section(&mut self, title: &'a str) -> &mut Section<'a> {
        let found = self.sections.iter().position(|old| old.title == title);
        let at = found.unwrap_or_else(|| {
            self.sections.push(Section {
                title,
                tables: Vec::new(),
            });
            self.sections.len() - 1
        });
        &mut self.sections[at]
    }

    fn render(&self) -> String {
        let mut text = format!("{}\n", self.preamble);
        for section in &self.sections {
            let _ = writeln!(text, "\n## {}", section.title);
            for table in &section.tables {
                let _ = writeln!(text, "\n{}", table.rows.join("\n"));
                if let Some(sentence) = table.sentence {
                    let _ = writeln!(text, "\n{sentence}");
                }
            }
        }
        text
    }
}

impl<'a> Section<'a> {
    fn parse(text: &'a str) -> Self {
        let mut paragraphs = text.split("\n\n").map(str::trim);
        let title = paragraphs.next().unwrap_or_default();
        let mut tables: Vec<Table<'a>> = Vec::new();
        for paragraph in paragraphs {
            let caption = paragraph.split('|').nth(1).map(str::trim);
            match (caption, tables.last_mut()) {
                (Some(caption), _) => tables.push(Table {
                    caption,
                    rows: paragraph.lines().collect(),
                    sentence: None,
                }),
                (None, Some(table)) => table.sentence = Some(paragraph),
                (None, None) => {}
            }
        }
        Self { title, tables }
    }

    fn replace(&mut self, table: Table<'a>) -> Result<()> {
        let older = self.tables.iter_mut();
        let Some(older) = older.into_iter().find(|old| old.caption == table.caption) else {
            self.tables.push(table);
            return Ok(());
        };
        if let Some(lost) = older
            .names()
            .find(|name| !table.names().any(|n| n == *name))
        {
            bail!(
                "the row {lost:?} of the table {:?} was not measured and would be lost; name all loads of the table",
                table.caption
            );
        }
        *older = table;
        Ok(())
    }
}

impl<'a> Table<'a> {
    /// The first cells of its rows.
    fn names(&self) -> impl Iterator<Item = &'a str> {
        let rows = self.rows.iter().skip(2);
        rows.filter_map(|row| row.split('|').nth(1).map(str::trim))
    }
}

#[cfg(test)]
mod tests {
    use super::merge;

    const OLDER: &str = "\
Measured once.

## Cached

| The broker | Ottla |
|---|---:|
| memory | 1 |

| Latency | Ottla |
|---|---:|
| p50 | 2 |
| p99 | 3 |

| Produce | Ottla |
|---|---:|
| lz4 | 4 |

## Stored

| Latency | Ottla |
|---|---:|
| p50 | 5 |
";

    fn newer(rows: &str) -> String {
        let broker = "| The broker | Ottla |\n|---|---:|\n| memory | 9 |\n";
        format!("Measured again.\n\n## Cached\n\n{broker}\n| Latency | Ottla |\n|---|---:|\n{rows}")
    }

    #[test]
    fn only_the_tables_that_were_measured_are_replaced() {
        let merged = merge(OLDER, &newer("| p50 | 20 |\n| p99 | 30 |\n"), "Again.").unwrap();
        let expected = OLDER.replace(
            "| p50 | 2 |\n| p99 | 3 |\n",
            "| p50 | 20 |\n| p99 | 30 |\n\nAgain.\n",
        );
        assert_eq!(merged, expected);
        let third = merge(
            &merged,
            &newer("| p50 | 6 |\n| p99 | 7 |\n"),
            "A third time.",
        )
        .unwrap();
        assert!(third.contains("| p99 | 7 |\n\nA third time.\n"), "{third}");
        assert!(!third.contains("Again."), "{third}");
    }

    #[test]
    fn a_table_and_a_section_that_are_new_come_last() {
        let newer = "Again.\n\n## Cached\n\n| Cold | Ottla |\n|---|---:|\n| a | 7 |\n\n## Third\n\n| Cold | Ottla |\n|---|---:|\n| a | 8 |\n";
        let merged = merge(OLDER, newer, "Again.").unwrap();
        assert!(merged.contains(
            "| lz4 | 4 |\n\n| Cold | Ottla |\n|---|---:|\n| a | 7 |\n\nAgain.\n\n## Stored"
        ));
        assert!(
            merged.ends_with("## Third\n\n| Cold | Ottla |\n|---|---:|\n| a | 8 |\n\nAgain.\n"),
            "{merged}"
        );
    }

    #[test]
    fn a_table_that_would_lose_rows_is_not_replaced() {
        let refused = merge(OLDER, &newer("| p99 | 30 |\n"), "Again.").unwrap_err();
        assert!(refused.to_string().contains("\"p50\""), "{refused}");
    }
}
