//! The integration tests of crates that speak Kafka's protocol, from their sources as published.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Outcome, Outcomes};
use crate::toolbox::maven::KAFKA_VERSION;
use crate::toolbox::{self, crates};

/// The longest that all tests of a crate may take, with building them.
const PATIENCE: &str = "30m";

/// The tests of the crate `rdkafka`.
pub fn rdkafka(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let mut tests = cargo_test("rdkafka", "0.39.0")?;
    tests
        .env("KAFKA_HOST", bootstrap)
        .env("KAFKA_VERSION", KAFKA_VERSION);
    finish(tests, &log.join("rdkafka.log"))
}

/// The tests of the crate `rskafka`.
pub fn rskafka(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let mut tests = cargo_test("rskafka", "0.6.0")?;
    tests
        .env("TEST_INTEGRATION", "1")
        .env("TEST_BROKER_IMPL", "kafka")
        .env("KAFKA_CONNECT", bootstrap);
    finish(tests, &log.join("rskafka.log"))
}

fn cargo_test(name: &str, version: &str) -> Result<Command> {
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", PATIENCE, env!("CARGO")])
        .args(["test", "--no-fail-fast", "--tests", "--target-dir"])
        .arg(toolbox::directory(&format!("{name}-suite")).join("target"))
        .arg("--")
        .arg("--test-threads=2")
        // Its sources pin a toolchain that nobody here has.
        .env(
            "RUSTUP_TOOLCHAIN",
            std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned()),
        )
        .current_dir(crates::source(name, version)?);
    Ok(command)
}

/// Runs the tests with both outputs in one log: cargo names the programs on the one, they their tests on the other.
fn finish(mut tests: Command, log: &Path) -> Result<Outcomes> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    tests.stdout(file.try_clone()?).stderr(file).status()?;
    Ok(parse(&String::from_utf8_lossy(&fs::read(log)?)))
}

/// Lines like `Running tests/file.rs (path)`, and below them `test module::name ... ok`.
fn parse(output: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut program = "";
    for line in output.lines() {
        if let Some(running) = line.trim_start().strip_prefix("Running ") {
            let file = running.split(" (").next().unwrap_or(running);
            program = file.rsplit('/').next().unwrap_or(file);
        }
        let Some((test, word)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        else {
            continue;
        };
        let outcome = match word.split_whitespace().next() {
            Some("ok") => Outcome::Passed,
            Some("ignored") => Outcome::Skipped,
            _ => Outcome::failed(),
        };
        outcomes.insert(format!("{program}::{test}"), outcome);
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_one_name_are_told_apart_by_their_programs() {
        let output = "     Running unittests src/lib.rs (target/a-1)\n\
                      test one::two ... ok\n\
                      \x20    Running tests/three.rs (target/b-1)\n\
                      test one::two ... FAILED\ntest four ... ignored\n";
        let outcomes = parse(output);
        assert_eq!(outcomes.get("lib.rs::one::two"), Some(&Outcome::Passed));
        assert_eq!(outcomes.get("three.rs::one::two"), Some(&Outcome::failed()));
        assert_eq!(outcomes.get("three.rs::four"), Some(&Outcome::Skipped));
    }
}
