//! Runs one client program and reads the claims that it prints.
//!
//! A program prints `ok NAME` or `not ok NAME: reason` for each check, and `done` at its end. Other
//! lines go to its log. A program that ends without `done`, or hangs, has failed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::time::now;

/// A program that finishes no check for this long hangs.
const SILENCE: Duration = Duration::from_mins(2);

/// One check, and why it failed if it did.
pub struct Claim {
    pub name: String,
    pub failure: Option<String>,
}

impl Claim {
    pub fn passed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            failure: None,
        }
    }

    pub fn failed(name: &str, reason: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            failure: Some(reason.into()),
        }
    }

    /// The claim with the stage in front of its name.
    pub fn of_stage(self, stage: &str) -> Self {
        Self {
            name: format!("{stage}/{}", self.name),
            ..self
        }
    }

    /// Parses a line of output; `None` if it is not a claim.
    pub fn parse(line: &str) -> Option<Self> {
        if let Some(name) = line.strip_prefix("ok ") {
            return Some(Self::passed(name));
        }
        let (name, reason) = line.strip_prefix("not ok ")?.split_once(": ")?;
        Some(Self::failed(name, reason))
    }
}

/// What a program claimed, and how long it took.
pub struct Outcome {
    pub claims: Vec<Claim>,
    pub took: Duration,
}

/// Runs `command` with these arguments to its end; its output goes to a log in `directory`.
pub fn run(command: Command, arguments: &[&str], directory: &Path) -> Outcome {
    let start = now();
    let mut claims = Vec::new();
    if let Err(error) = follow(command, arguments, directory, &mut claims) {
        claims.push(Claim::failed("runs_to_its_end", format!("{error:#}")));
    }
    Outcome {
        claims,
        took: start.elapsed(),
    }
}

fn follow(
    mut command: Command,
    arguments: &[&str],
    directory: &Path,
    claims: &mut Vec<Claim>,
) -> Result<()> {
    let name = arguments
        .last()
        .unwrap_or(&"program")
        .rsplit('/')
        .next()
        .unwrap_or("program");
    let errors = File::create(directory.join(format!("{name}.stderr")))?;
    let log = File::create(directory.join(format!("{name}.stdout")))?;
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .with_context(|| format!("could not start {}", command.get_program().display()))?;
    let output = child.stdout.take().context("the output is piped")?;
    let outcome = read(&lines(output)?, &log, claims);
    end(&mut child)?;
    outcome.with_context(|| {
        format!(
            "its last words are in {}/{name}.stderr",
            directory.display()
        )
    })
}

/// Collects claims until `done`.
pub fn read(lines: &Receiver<String>, mut log: &File, claims: &mut Vec<Claim>) -> Result<()> {
    loop {
        let line = match lines.recv_timeout(SILENCE) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                anyhow::bail!("silent for {} s", SILENCE.as_secs())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => anyhow::bail!("ended before it was done"),
        };
        writeln!(log, "{line}")?;
        if line == "done" {
            return Ok(());
        }
        claims.extend(Claim::parse(&line));
    }
}

/// A channel with the lines of a program. A thread reads them, because a read has no deadline.
pub fn lines(output: ChildStdout) -> Result<Receiver<String>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("compat-output".to_owned())
        .spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The receiver is gone once the program is done.
                let _ = sender.send(line);
            }
        })?;
    Ok(receiver)
}

/// Kills a program that is done or hangs.
fn end(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_parsed_and_other_lines_are_not() {
        let passed = Claim::parse("ok one_thing").unwrap();
        assert_eq!((passed.name.as_str(), passed.failure), ("one_thing", None));
        let failed = Claim::parse("not ok two_things: a: b").unwrap();
        assert_eq!(
            (failed.name.as_str(), failed.failure.as_deref()),
            ("two_things", Some("a: b"))
        );
        assert!(Claim::parse("okay then").is_none());
    }

    #[test]
    fn program_that_ends_without_done_has_failed() {
        let directory = std::env::temp_dir();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo ok first; exit 0"]);
        let outcome = run(shell, &["unused"], &directory);
        let failed: Vec<bool> = outcome
            .claims
            .iter()
            .map(|claim| claim.failure.is_some())
            .collect();
        assert_eq!(failed, [false, true]);
    }
}
