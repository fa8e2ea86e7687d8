//! The file of expectations: one line a test, with tabs between suite, test, Kafka's outcome, Ottla's, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Outcome, Outcomes};
use crate::compat::broker::Kind;
use crate::toolbox;

const HEADER: &str = "suite\ttest\tkafka\tottla\twhy\n";

/// What both brokers are known to do.
#[derive(Debug, Default)]
pub struct Expected {
    lines: BTreeMap<(String, String), Line>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Line {
    kafka: Option<Outcome>,
    ottla: Option<Outcome>,
    why: String,
}

impl Line {
    fn outcome(&mut self, broker: Kind) -> &mut Option<Outcome> {
        match broker {
            Kind::Kafka => &mut self.kafka,
            Kind::Ottla => &mut self.ottla,
        }
    }
}

impl Expected {
    /// Reads the committed file.
    pub fn read() -> Result<Self> {
        let path = path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text)
    }

    /// Writes it back, in order.
    pub fn write(&self) -> Result<()> {
        Ok(fs::write(path(), self.render())?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = BTreeMap::new();
        for (index, row) in text.lines().enumerate().skip(1) {
            let parts: Vec<&str> = row.split('\t').collect();
            let [suite, name, kafka, ottla, why] = parts[..] else {
                anyhow::bail!("line {} of suites.tsv has not five columns", index + 1);
            };
            let line = Line {
                kafka: outcome(kafka)?,
                ottla: outcome(ottla)?,
                why: why.to_owned(),
            };
            lines.insert((suite.to_owned(), name.to_owned()), line);
        }
        Ok(Self { lines })
    }

    fn render(&self) -> String {
        let mut text = HEADER.to_owned();
        for ((suite, test), line) in &self.lines {
            let _ = writeln!(
                text,
                "{suite}\t{test}\t{}\t{}\t{}",
                word(line.kafka),
                word(line.ottla),
                line.why
            );
        }
        text
    }

    /// Takes what happened for what is expected.
    pub fn record(&mut self, suite: &str, broker: Kind, outcomes: &Outcomes) {
        for (test, outcome) in outcomes {
            let line = self
                .lines
                .entry((suite.to_owned(), test.clone()))
                .or_default();
            *line.outcome(broker) = Some(*outcome);
        }
    }

    /// What did not end as expected, or did not run at all.
    pub fn surprises(&self, suite: &str, broker: Kind, outcomes: &Outcomes) -> Vec<String> {
        let mut found = Vec::new();
        for (test, outcome) in outcomes {
            let line = self.lines.get(&(suite.to_owned(), test.clone()));
            let wanted = line.and_then(|line| *line.clone().outcome(broker));
            if wanted != Some(*outcome) {
                found.push(format!(
                    "{suite} {test}: {}, not {}",
                    word(Some(*outcome)),
                    word(wanted)
                ));
            }
        }
        for ((of, test), line) in &self.lines {
            let expected = line.clone().outcome(broker).is_some();
            if of == suite && expected && !outcomes.contains_key(test) {
                found.push(format!("{suite} {test}: did not run"));
            }
        }
        found
    }
}

fn path() -> PathBuf {
    toolbox::workspace().join("tests/compat/suites.tsv")
}

fn outcome(word: &str) -> Result<Option<Outcome>> {
    Ok(match word {
        "passes" => Some(Outcome::Passed),
        "fails" => Some(Outcome::Failed),
        "skips" => Some(Outcome::Skipped),
        "-" => None,
        _ => anyhow::bail!("suites.tsv: '{word}' is none of passes, fails, skips, -"),
    })
}

fn word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => "passes",
        Some(Outcome::Failed) => "fails",
        Some(Outcome::Skipped) => "skips",
        None => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "suite\ttest\tkafka\tottla\twhy\n\
                        one\ta\tpasses\tpasses\t\n\
                        one\tb\tpasses\tfails\tno transactions yet\n";

    #[test]
    fn file_is_read_and_written_alike() {
        assert_eq!(Expected::parse(FILE).unwrap().render(), FILE);
    }

    #[test]
    fn new_failure_unexpected_pass_and_missing_test_are_surprises() {
        let expected = Expected::parse(FILE).unwrap();
        let ran = |outcomes: &[(&str, Outcome)]| {
            let outcomes = outcomes
                .iter()
                .map(|(test, outcome)| ((*test).to_owned(), *outcome))
                .collect();
            expected.surprises("one", Kind::Ottla, &outcomes)
        };
        assert!(ran(&[("a", Outcome::Passed), ("b", Outcome::Failed)]).is_empty());
        assert_eq!(
            ran(&[("a", Outcome::Failed), ("b", Outcome::Passed)]),
            ["one a: fails, not passes", "one b: passes, not fails"]
        );
        assert_eq!(ran(&[("a", Outcome::Passed)]), ["one b: did not run"]);
    }
}
