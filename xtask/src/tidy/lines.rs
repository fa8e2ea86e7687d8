//! Lines are wrapped: code at 100 columns, comments and documents a little later. rustfmt does not wrap comments, and leaves
//! the bodies of macros alone.
//!
//! The text of string literals does not count, because messages and expected outputs are not wrapped.

use super::exceptions::{self, LONG_LINES};
use super::source::{Source, Tree};

const CODE: usize = 100;
const COMMENT: usize = 125;
const DOCUMENT: usize = 140;

/// Documents with long lines that a command writes.
const WRITTEN: &[&str] = &["docs/config.md", "docs/benchmarks.md", "docs/limits.md"];

pub fn check(tree: &Tree) -> Vec<String> {
    let by_hand = tree.sources.iter().filter(|source| !source.is_generated());
    let found = by_hand.filter_map(|source| {
        let long = long_lines(source);
        (!long.is_empty()).then(|| (source.path.clone(), long[0]))
    });
    let mut problems = exceptions::judge(LONG_LINES, found, |place, line| {
        format!("{place}:{line} is too long: at most {CODE} columns of code, {COMMENT} of comment")
    });
    let documents = tree.documents.iter();
    for (path, text) in documents.filter(|(path, _)| !WRITTEN.contains(&path.as_str())) {
        problems.extend(long_prose(text).map(|line| {
            format!("{path}:{line} is too long: at most {DOCUMENT} columns outside of tables")
        }));
    }
    problems
}

/// The numbers of the lines of a file that are too long.
fn long_lines(source: &Source) -> Vec<usize> {
    let widths = widths(&source.text);
    let lines = source.text.lines().zip(widths);
    let is_long = |(line, width): (&str, usize)| {
        let line = line.trim_start();
        // The rows of a table cannot be wrapped.
        let is_row = line.trim_start_matches(['/', '!']).starts_with(" |");
        let limit = if line.starts_with("//") {
            COMMENT
        } else {
            CODE
        };
        width > limit && !is_row
    };
    (1..)
        .zip(lines)
        .filter_map(|(number, line)| is_long(line).then_some(number))
        .collect()
}

/// The width of each line without the text of string literals.
fn widths(text: &str) -> Vec<usize> {
    let mut place = Place::Code;
    text.lines()
        .map(|line| {
            let mut width = 0;
            let mut rest = line;
            while let Some(letter) = rest.chars().next() {
                let (taken, next) = place.step(rest, line);
                if place.counts() || next.counts() {
                    width += rest[..taken].chars().count();
                }
                place = next;
                rest = &rest[taken.max(letter.len_utf8())..];
            }
            if place == Place::Comment {
                place = Place::Code;
            }
            width
        })
        .collect()
}

/// The syntax around a position in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Code,
    Comment,
    Text,
    /// In a raw string literal with this number of `#`.
    Raw(usize),
}

impl Place {
    fn counts(self) -> bool {
        matches!(self, Self::Code | Self::Comment)
    }

    /// The number of bytes at the start of `rest` that belong together, and the place after them. `rest` is the end of
    /// `line`.
    fn step(self, rest: &str, line: &str) -> (usize, Self) {
        let one = rest.chars().next().map_or(0, char::len_utf8);
        match self {
            Self::Comment => (rest.len(), Self::Comment),
            Self::Text if rest.starts_with('\\') => (2.min(rest.len()), Self::Text),
            Self::Text if rest.starts_with('"') => (1, Self::Code),
            Self::Text => (one, Self::Text),
            Self::Raw(hashes) => {
                let end = format!("\"{}", "#".repeat(hashes));
                if rest.starts_with(&end) {
                    (end.len(), Self::Code)
                } else {
                    (one, self)
                }
            }
            Self::Code if rest.starts_with("//") => (rest.len(), Self::Comment),
            Self::Code if rest.starts_with("'\"'") => (3, Self::Code),
            Self::Code if rest.starts_with("'\\\"'") => (4, Self::Code),
            Self::Code if rest.starts_with('"') => (1, Self::Text),
            Self::Code if rest.starts_with('r') => {
                let before = line[..line.len() - rest.len()].chars().next_back();
                let is_word =
                    before.is_some_and(|before| before.is_alphanumeric() && before != 'b');
                let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
                if !is_word && rest[1 + hashes..].starts_with('"') {
                    (2 + hashes, Self::Raw(hashes))
                } else {
                    (1, Self::Code)
                }
            }
            Self::Code => (one, Self::Code),
        }
    }
}

/// The numbers of the lines of a document that are too long, outside of tables and code.
fn long_prose(text: &str) -> impl Iterator<Item = usize> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        let is_prose = !is_code && !is_fence && !line.starts_with('|') && !line.starts_with("   ");
        (is_prose && line.chars().count() > DOCUMENT).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::{long_lines, long_prose};
    use crate::tidy::source::Source;

    fn long(text: &str) -> Vec<usize> {
        long_lines(&Source {
            path: "crates/log/src/x.rs".to_owned(),
            text: text.to_owned(),
        })
    }

    #[test]
    fn long_code_and_long_comments_are_found() {
        let code = format!("let {} = 1;\n", "a".repeat(100));
        let comment = format!("/// {}\n", "a".repeat(125));
        assert_eq!(long(&format!("short\n{code}{comment}")), [2, 3]);
    }

    #[test]
    fn the_text_of_strings_and_the_rows_of_tables_do_not_count() {
        let text = "a".repeat(200);
        assert_eq!(long(&format!("say(\"{text}\");\n")), [0; 0]);
        assert_eq!(
            long(&format!("say(r#\"\n{text}\"\n\"{text}\"#);\n")),
            [0; 0]
        );
        assert_eq!(long(&format!("say('\"'); // {text}\n")), [1]);
        assert_eq!(long(&format!("//! | {text} |\n")), [0; 0]);
    }

    #[test]
    fn long_prose_is_found_outside_of_tables_and_code() {
        let text = "a".repeat(200);
        let document = format!("{text}\n| {text} |\n```\n{text}\n```\n{text}\n");
        assert_eq!(long_prose(&document).collect::<Vec<_>>(), [1, 6]);
    }
}
