//! The integration tests of crates that speak Kafka's protocol, from their sources as published.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Outcome, Outcomes};
use crate::toolbox::{self, crates};

/// The tests of the crate `rdkafka`.
pub fn rdkafka(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let mut tests = cargo_test("rdkafka", "0.39.0")?;
    tests
        .env("KAFKA_HOST", bootstrap)
        .env("KAFKA_VERSION", "4.3.1");
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
    let mut command = Command::new(env!("CARGO"));
    command
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

fn finish(mut tests: Command, log: &Path) -> Result<Outcomes> {
    let output = tests.output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    fs::write(log, &text)?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Lines like `test module::name ... ok`.
fn parse(output: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in output.lines() {
        let Some((test, word)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        else {
            continue;
        };
        let outcome = match word.split_whitespace().next() {
            Some("ok") => Outcome::Passed,
            Some("ignored") => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        outcomes.insert(test.to_owned(), outcome);
    }
    outcomes
}
