//! The outcomes of a command with several names: each name is tried, and one failure makes the
//! command fail.

use anyhow::{Error, Result, bail};
use serde_json::{Map, Value};

use crate::failure;
use crate::output::{Output, print_json, print_line};
use crate::patterns::Chosen;

#[derive(Debug)]
pub struct Outcomes {
    output: Output,
    /// The number of names given.
    given: usize,
    done: Vec<Value>,
    failed: Vec<(String, Error)>,
}

impl Outcomes {
    /// No outcomes yet, for `given` names.
    pub fn new(output: Output, given: usize) -> Self {
        Self {
            output,
            given,
            done: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// For the chosen names; each pattern without a match has failed already. `what` is `topic` or
    /// `group`.
    pub fn of(output: Output, chosen: &Chosen, what: &str) -> Self {
        let mut outcomes = Self::new(output, chosen.len());
        for pattern in &chosen.unmatched {
            outcomes.failed(pattern, Chosen::unmatched_error(what, pattern));
        }
        outcomes
    }

    /// As [`new`](Self::new), with failures so far. `given` counts them too.
    pub fn with_failures(output: Output, given: usize, failures: Vec<(String, Error)>) -> Self {
        let mut outcomes = Self::new(output, given);
        for (name, error) in failures {
            outcomes.failed(&name, error);
        }
        outcomes
    }

    /// One name succeeded: `line` is printed in text, `document` in JSON.
    pub fn done(&mut self, line: &str, document: Value) -> Result<()> {
        self.done.push(document);
        match self.output {
            Output::Text => print_line(line),
            Output::Json => Ok(()),
        }
    }

    /// One name succeeded, and its text is already printed.
    pub fn shown(&mut self, document: Value) {
        self.done.push(document);
    }

    /// One name failed.
    pub fn failed(&mut self, name: &str, error: impl Into<Error>) {
        let error = error.into();
        // With a single name its error is the command's error, which main prints.
        if self.given > 1 && self.output == Output::Text {
            failure::report(&error, Output::Text);
        }
        self.failed.push((name.to_owned(), error));
    }

    /// Prints the JSON document, with the successes under the key `done`. Fails with the message
    /// `what` (`topics were not deleted`) if a name failed.
    pub fn finish(mut self, done: &str, what: &str) -> Result<()> {
        if self.output == Output::Json {
            let failed = self.failed.iter().map(|(name, error)| {
                let mut document = failure::to_json(error);
                document["name"] = Value::from(name.as_str());
                document
            });
            let mut document = Map::new();
            document.insert("failed".to_owned(), failed.collect());
            document.insert(
                done.to_owned(),
                Value::Array(std::mem::take(&mut self.done)),
            );
            print_json(&Value::Object(document))?;
        }
        self.end(what)
    }

    /// As [`finish`](Self::finish), but the JSON document is the list of successes; errors go to
    /// stderr.
    pub fn finish_list(mut self, what: &str) -> Result<()> {
        if self.output == Output::Json {
            print_json(&Value::Array(std::mem::take(&mut self.done)))?;
            if self.given > 1 {
                for (_, error) in &self.failed {
                    failure::report(error, Output::Json);
                }
            }
        }
        self.end(what)
    }

    fn end(mut self, what: &str) -> Result<()> {
        match (self.failed.len(), self.given) {
            (0, _) => Ok(()),
            (1, 1) => Err(self.failed.remove(0).1),
            (failed, given) => bail!("{failed} of {given} {what}"),
        }
    }
}
