//! The integration tests of crates that speak Kafka's protocol, from their sources as published.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{Outcome, Outcomes};
use crate::toolbox::maven::KAFKA_VERSION;
use crate::toolbox::{self, crates};

/// The timeout for building and running all tests of a crate.
const PATIENCE: &str = "30m";

/// The tests of the crate `rdkafka`.
pub fn rdkafka(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let mut tests = cargo_test("rdkafka", "0.39.0")?;
    tests
        .arg("--test-threads=2")
        .env("KAFKA_HOST", bootstrap)
        .env("KAFKA_VERSION", KAFKA_VERSION);
    finish(tests, &log.join("rdkafka.log"))
}

/// The tests of the crate `rskafka`.
pub fn rskafka(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let (name, version) = ("rskafka", "0.6.0");
    update(&crates::source(name, version)?, "rsasl", "2.3.1")?;
    let mut tests = cargo_test(name, version)?;
    tests
        // The tests with the Java client share one JVM and crash when they run at the same time.
        .arg("--test-threads=1")
        .env("TEST_JAVA_INTEROPT", "1")
        .env("TEST_INTEGRATION", "1")
        .env("TEST_BROKER_IMPL", "kafka")
        .env("KAFKA_CONNECT", bootstrap);
    finish(tests, &log.join("rskafka.log"))
}

/// Updates a dependency whose pinned version today's compiler refuses.
fn update(source: &Path, dependency: &str, version: &str) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["update", "--quiet", "--package", dependency, "--precise"])
        .arg(version)
        .current_dir(source)
        .env("RUSTUP_TOOLCHAIN", toolchain())
        .status()?;
    if !status.success() {
        bail!("cargo cannot update {dependency} to {version}");
    }
    Ok(())
}

/// The toolchain in use: the sources may pin one that is not installed.
fn toolchain() -> String {
    std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned())
}

fn cargo_test(name: &str, version: &str) -> Result<Command> {
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", PATIENCE, env!("CARGO")])
        .args(["test", "--no-fail-fast", "--tests", "--target-dir"])
        .arg(toolbox::directory(&format!("{name}-suite")).join("target"))
        .arg("--")
        .env("RUSTUP_TOOLCHAIN", toolchain())
        .current_dir(crates::source(name, version)?);
    Ok(command)
}

/// Runs the tests with stdout and stderr in one log: cargo names the programs on stderr, the
/// programs name their tests on stdout.
fn finish(mut tests: Command, log: &Path) -> Result<Outcomes> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    tests.stdout(file.try_clone()?).stderr(file).status()?;
    Ok(parse(&String::from_utf8_lossy(&fs::read(log)?)))
}

/// Parses lines like `Running tests/file.rs (path)` and `test module::name ... ok`. Output of a
/// test may come between its name and its outcome, which is then on its own line.
fn parse(output: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let (mut program, mut name) = ("", String::new());
    for line in output.lines() {
        if let Some(running) = line.trim_start().strip_prefix("Running ") {
            let file = running.split(" (").next().unwrap_or(running);
            program = file.rsplit('/').next().unwrap_or(file);
        }
        let started = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "));
        let word = started.map_or(line, |(_, word)| word);
        if let Some((test, _)) = started {
            name = format!("{program}::{test}");
            outcomes.insert(name.clone(), Outcome::failed());
        }
        if let Some(outcome) = outcome(word)
            && let Some(known) = outcomes.get_mut(&name)
        {
            *known = outcome;
        }
    }
    outcomes
}

fn outcome(word: &str) -> Option<Outcome> {
    match word.split(',').next() {
        Some("ok") => Some(Outcome::Passed),
        Some("ignored") => Some(Outcome::Skipped),
        Some("FAILED") => Some(Outcome::failed()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_one_name_are_told_apart_by_their_programs() {
        let output = "     Running unittests src/lib.rs (target/a-1)\n\
                      test one::two ... ok\n\
                      \x20    Running tests/three.rs (target/b-1)\n\
                      test one::two ... FAILED\ntest four ... ignored, slow\ntest five ... a word\nok\n\
                      test six ... a word\n";
        let outcomes = parse(output);
        assert_eq!(outcomes.get("lib.rs::one::two"), Some(&Outcome::Passed));
        assert_eq!(outcomes.get("three.rs::one::two"), Some(&Outcome::failed()));
        assert_eq!(outcomes.get("three.rs::four"), Some(&Outcome::Skipped));
        assert_eq!(outcomes.get("three.rs::five"), Some(&Outcome::Passed));
        assert_eq!(outcomes.get("three.rs::six"), Some(&Outcome::failed()));
    }
}
