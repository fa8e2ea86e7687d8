//! The file of expectations: one line per test, with tabs between suite, test, Kafka's outcome,
//! Ottla's outcome, and the reason.
//!
//! A test that does not pass on both brokers needs a reason. A test whose outcome differs from run
//! to run is `either`, also with a reason. If a suite prints the place of the first failed check,
//! Ottla's reason must name it: a test that fails earlier than before hides a new problem.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Outcome, Outcomes};
use crate::compat::broker::Kind;
use crate::toolbox;

const HEADER: &str = "suite\ttest\tkafka\tottla\twhy\n";

/// The known outcomes of both brokers.
#[derive(Debug, Default)]
pub struct Expected {
    lines: BTreeMap<(String, String), Line>,
}

/// The known outcome of a test on one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Passes,
    Fails,
    Skips,
    /// Differs from run to run, and the broker is not the cause.
    Either,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Line {
    kafka: Option<Ending>,
    ottla: Option<Ending>,
    why: String,
}

impl Line {
    fn ending(&self, broker: Kind) -> Option<Ending> {
        match broker {
            Kind::Kafka => self.kafka,
            Kind::Ottla => self.ottla,
        }
    }

    fn set(&mut self, broker: Kind, ending: Option<Ending>) {
        match broker {
            Kind::Kafka => self.kafka = ending,
            Kind::Ottla => self.ottla = ending,
        }
    }

    /// Whether it passes on each broker where it ran.
    fn passes(&self) -> bool {
        [self.kafka, self.ottla]
            .iter()
            .all(|ending| matches!(ending, None | Some(Ending::Passes)))
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
                kafka: ending(kafka)?,
                ottla: ending(ottla)?,
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

    /// Makes the outcomes the expected ones; keeps reasons and `either`.
    pub fn record(&mut self, suite: &str, broker: Kind, outcomes: &Outcomes) {
        for ((of, test), line) in &mut self.lines {
            if of == suite && !outcomes.contains_key(test) {
                line.set(broker, None);
            }
        }
        for (test, outcome) in outcomes {
            let line = self
                .lines
                .entry((suite.to_owned(), test.clone()))
                .or_default();
            if line.ending(broker) != Some(Ending::Either) {
                line.set(broker, Some(outcome.into()));
            }
            if line.passes() {
                line.why.clear();
            }
        }
        self.lines
            .retain(|_, line| line.kafka.is_some() || line.ottla.is_some());
    }

    /// The tests with unexpected outcomes, and those that did not run.
    pub fn surprises(&self, suite: &str, broker: Kind, outcomes: &Outcomes) -> Vec<String> {
        let mut found = Vec::new();
        for (test, outcome) in outcomes {
            let line = self.lines.get(&(suite.to_owned(), test.clone()));
            if let Some(surprise) = surprise(line, broker, outcome) {
                found.push(format!("{suite} {test}: {surprise}"));
            }
        }
        for ((of, test), line) in &self.lines {
            if of == suite && line.ending(broker).is_some() && !outcomes.contains_key(test) {
                found.push(format!("{suite} {test}: did not run"));
            }
        }
        found
    }

    /// The tests that do not pass on one of the brokers and have no reason.
    pub fn unexplained(&self) -> Vec<String> {
        self.lines
            .iter()
            .filter(|(_, line)| !line.passes() && line.why.trim().is_empty())
            .map(|((suite, test), _)| format!("{suite} {test}: has no reason"))
            .collect()
    }
}

fn surprise(line: Option<&Line>, broker: Kind, outcome: &Outcome) -> Option<String> {
    let wanted = line.and_then(|line| line.ending(broker));
    let place = match outcome {
        Outcome::Failed { place } => place.as_str(),
        Outcome::Passed | Outcome::Skipped => "",
    };
    if wanted == Some(Ending::Either) {
        return None;
    }
    if wanted != Some(outcome.into()) {
        let ended = word(Some(outcome.into()));
        let at = if place.is_empty() { "" } else { " at " };
        return Some(format!("{ended}{at}{place}, not {}", word(wanted)));
    }
    let told = line.is_none_or(|line| line.why.contains(place));
    (broker == Kind::Ottla && !told)
        .then(|| format!("fails at {place}, which its reason does not name"))
}

fn path() -> PathBuf {
    toolbox::workspace().join("tests/compat/suites.tsv")
}

impl From<&Outcome> for Ending {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Passed => Self::Passes,
            Outcome::Failed { .. } => Self::Fails,
            Outcome::Skipped => Self::Skips,
        }
    }
}

fn ending(word: &str) -> Result<Option<Ending>> {
    Ok(match word {
        "passes" => Some(Ending::Passes),
        "fails" => Some(Ending::Fails),
        "skips" => Some(Ending::Skips),
        "either" => Some(Ending::Either),
        "-" => None,
        _ => anyhow::bail!("suites.tsv: '{word}' is none of passes, fails, skips, either, -"),
    })
}

fn word(ending: Option<Ending>) -> &'static str {
    match ending {
        Some(Ending::Passes) => "passes",
        Some(Ending::Fails) => "fails",
        Some(Ending::Skips) => "skips",
        Some(Ending::Either) => "either",
        None => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "suite\ttest\tkafka\tottla\twhy\n\
                        one\ta\tpasses\tpasses\t\n\
                        one\tb\tpasses\tfails\tb.c:7: no transactions yet\n\
                        one\tc\tpasses\teither\tcounts on luck\n";

    fn failed(place: &str) -> Outcome {
        Outcome::Failed {
            place: place.to_owned(),
        }
    }

    fn outcomes(outcomes: &[(&str, Outcome)]) -> Outcomes {
        outcomes
            .iter()
            .map(|(test, outcome)| ((*test).to_owned(), outcome.clone()))
            .collect()
    }

    fn surprises(ran: &[(&str, Outcome)]) -> Vec<String> {
        let expected = Expected::parse(FILE).unwrap();
        expected.surprises("one", Kind::Ottla, &outcomes(ran))
    }

    #[test]
    fn file_is_read_and_written_alike() {
        assert_eq!(Expected::parse(FILE).unwrap().render(), FILE);
    }

    #[test]
    fn new_failure_unexpected_pass_and_missing_test_are_surprises() {
        let known = [
            ("a", Outcome::Passed),
            ("b", failed("b.c:7")),
            ("c", failed("")),
        ];
        assert!(surprises(&known).is_empty());
        assert_eq!(
            surprises(&[
                ("a", failed("a.c:1")),
                ("b", Outcome::Passed),
                ("c", Outcome::Passed)
            ]),
            [
                "one a: fails at a.c:1, not passes",
                "one b: passes, not fails"
            ]
        );
        assert_eq!(
            surprises(&[("a", Outcome::Passed), ("c", Outcome::Skipped)]),
            ["one b: did not run"]
        );
    }

    #[test]
    fn failure_at_another_place_than_the_reason_names_is_a_surprise() {
        assert_eq!(
            surprises(&[
                ("a", Outcome::Passed),
                ("b", failed("b.c:3")),
                ("c", failed("c.c:1"))
            ]),
            ["one b: fails at b.c:3, which its reason does not name"]
        );
    }

    #[test]
    fn blessing_keeps_reasons_and_either_and_drops_tests_that_are_gone() {
        let mut expected = Expected::parse(FILE).unwrap();
        for broker in [Kind::Kafka, Kind::Ottla] {
            expected.record(
                "one",
                broker,
                &outcomes(&[("b", failed("")), ("c", Outcome::Passed)]),
            );
        }
        assert_eq!(
            expected.render(),
            "suite\ttest\tkafka\tottla\twhy\n\
             one\tb\tfails\tfails\tb.c:7: no transactions yet\n\
             one\tc\tpasses\teither\tcounts on luck\n"
        );
        for broker in [Kind::Kafka, Kind::Ottla] {
            expected.record("one", broker, &outcomes(&[("b", Outcome::Passed)]));
        }
        assert_eq!(
            expected.render(),
            "suite\ttest\tkafka\tottla\twhy\none\tb\tpasses\tpasses\t\n"
        );
    }

    #[test]
    fn failure_without_a_reason_is_unexplained() {
        let file = "suite\ttest\tkafka\tottla\twhy\n\
                    one\ta\tpasses\tpasses\t\n\
                    one\tb\tpasses\tfails\t \n\
                    one\tc\tskips\tskips\tneeds JMX\n";
        assert_eq!(
            Expected::parse(file).unwrap().unexplained(),
            ["one b: has no reason"]
        );
    }

    #[test]
    fn committed_file_has_a_reason_for_every_test_that_does_not_pass() {
        assert_eq!(Expected::read().unwrap().unexplained(), [""; 0]);
    }
}
