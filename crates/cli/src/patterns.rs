//! Patterns for names: `orders-*` matches all topics (or groups) whose names begin with `orders-`.
//!
//! `*` is any text, `?` is one letter, `[ab]` is one of these letters. A topic's name cannot
//! contain these characters. A group's name can: if a group has the pattern as its name, only that
//! group is selected. Only a pattern that begins with `__` matches Kafka's own topics, so that
//! nobody selects them by accident.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Error, Result, anyhow};
use ottla_client::Cluster;

/// The names that a list of names and patterns selects.
#[derive(Debug, Default)]
pub struct Chosen {
    /// The names, each once, in the order given.
    pub names: Vec<String>,
    /// The patterns without a match.
    pub unmatched: Vec<String>,
}

impl Chosen {
    /// The number of names and of patterns without a match.
    pub fn len(&self) -> usize {
        self.names.len() + self.unmatched.len()
    }

    /// The error for a pattern without a match.
    pub fn unmatched_error(what: &str, pattern: &str) -> Error {
        anyhow!("no {what} matches {pattern:?}; `ottla {what} list` shows the existing {what}s")
    }

    fn among(given: &[String], existing: &BTreeSet<String>) -> Self {
        let mut chosen = Self::default();
        let mut seen = HashSet::new();
        for text in given {
            if !is_pattern(text) || existing.contains(text) {
                if seen.insert(text.clone()) {
                    chosen.names.push(text.clone());
                }
                continue;
            }
            let fitting: Vec<_> = existing.iter().filter(|name| fits(text, name)).collect();
            if fitting.is_empty() {
                chosen.unmatched.push(text.clone());
            }
            for name in fitting {
                if seen.insert(name.clone()) {
                    chosen.names.push(name.clone());
                }
            }
        }
        chosen
    }
}

/// The topics of the names and patterns. A name is kept even if no such topic exists.
pub async fn topics(cluster: &Cluster, given: &[String]) -> Result<Chosen> {
    if !given.iter().any(|text| is_pattern(text)) {
        return Ok(Chosen::among(given, &BTreeSet::new()));
    }
    let metadata = cluster.refresh_all().await?;
    Ok(Chosen::among(
        given,
        &metadata.topics.keys().cloned().collect(),
    ))
}

/// The groups of the names and patterns. A name is kept even if no such group exists.
pub async fn groups(cluster: &Cluster, given: &[String]) -> Result<Chosen> {
    if !given.iter().any(|text| is_pattern(text)) {
        return Ok(Chosen::among(given, &BTreeSet::new()));
    }
    let listed = cluster.list_groups().await?.into_iter();
    Ok(Chosen::among(
        given,
        &listed.map(|group| group.group).collect(),
    ))
}

/// Whether the text has characters of a pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether the pattern matches the name.
pub fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with("__") && !pattern.starts_with("__") {
        return false;
    }
    fits_letters(&parts(pattern), &name.chars().collect::<Vec<_>>())
}

/// One element of a pattern.
enum Part {
    Letter(char),
    AnyLetter,
    OneOf(Vec<char>),
    AnyLetters,
}

impl Part {
    fn is(&self, letter: char) -> bool {
        match self {
            Self::Letter(own) => *own == letter,
            Self::AnyLetter => true,
            Self::OneOf(letters) => letters.contains(&letter),
            Self::AnyLetters => false,
        }
    }
}

/// Parses a pattern into its elements; a bracket that is not closed is a letter.
fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        parts.push(match (letter, rest.split_once(']')) {
            ('*', _) => Part::AnyLetters,
            ('?', _) => Part::AnyLetter,
            ('[', Some((letters, behind))) => {
                rest = behind;
                Part::OneOf(letters.chars().collect())
            }
            (letter, _) => Part::Letter(letter),
        });
    }
    parts
}

/// Backtracks to the last `*` only, so the time is at most the pattern's length times the name's.
fn fits_letters(pattern: &[Part], name: &[char]) -> bool {
    let (mut at, mut letter) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while letter < name.len() {
        match pattern.get(at) {
            Some(Part::AnyLetters) => {
                last_star = Some((at, letter));
                at += 1;
            }
            Some(part) if part.is(name[letter]) => {
                at += 1;
                letter += 1;
            }
            _ => match last_star {
                Some((star, taken)) => {
                    last_star = Some((star, taken + 1));
                    at = star + 1;
                    letter = taken + 1;
                }
                None => return false,
            },
        }
    }
    let mut rest = pattern[at..].iter();
    rest.all(|part| matches!(part, Part::AnyLetters))
}

#[cfg(test)]
mod tests {
    use super::{Chosen, fits};

    #[test]
    fn a_star_is_any_letters_and_a_question_mark_is_one() {
        for (pattern, name, expected) in [
            ("orders-*", "orders-eu", true),
            ("orders-*", "orders-", true),
            ("orders-*", "orders", false),
            ("*", "anything", true),
            ("*-*-dlq", "a-b-c-dlq", true),
            ("*-*-dlq", "a-dlq", false),
            ("log?", "logs", true),
            ("log?", "log", false),
            ("*.v1", "a.v1.v1", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("many-[ab]", "many-b", true),
            ("many-[ab]", "many-c", false),
            ("*[0", "x[0", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn only_a_pattern_that_says_so_stands_for_kafkas_own_topics() {
        assert!(!fits("*", "__consumer_offsets"));
        assert!(fits("__*", "__consumer_offsets"));
    }

    #[test]
    fn each_name_is_chosen_once_and_an_idle_pattern_is_told() {
        let text = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let existing = text(&["a1", "a2", "b"]).into_iter().collect();
        let chosen = Chosen::among(&text(&["a2", "a*", "missing", "z*"]), &existing);
        assert_eq!(chosen.names, ["a2", "a1", "missing"]);
        assert_eq!(chosen.unmatched, ["z*"]);
    }
}
