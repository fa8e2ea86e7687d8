//! librdkafka's C suite, as the crate `rdkafka-sys` ships it, with one process per test.
//!
//! Tests that need no broker are left out by the suite's own flag: they would use its mock broker.
//! A test ends at its first failed check, and the runner prints the place. Tests with the same
//! number cannot be selected separately, so they run in one process. The test of the admin requests
//! ends early without ACLs, so its parts also run in separate processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use super::{Outcome, Outcomes};
use crate::toolbox::librdkafka;
use crate::toolbox::maven::KAFKA_VERSION;

/// The timeout of one process, in seconds; the tests have their own, shorter limits.
const PATIENCE: &str = "1500";

/// The longest test takes more than ten minutes, so it starts first.
const LONGEST: &str = "0113";

/// The number of processes at a time. They mostly wait; the suite's own runner runs five tests at a
/// time.
const AT_ONCE: usize = 3;

/// The configuration file of a test process.
const CONFIGURATION: &str = "test.conf";

/// The test whose parts also run separately; also the name of its source file.
const PARTED: &str = "0081_admin";
const PARTED_SOURCE: &str = "0081-admin.c";

/// The tests for a broker with auto-creation of topics.
pub fn default(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    run("default", bootstrap, log)
}

/// The tests for a broker without it.
pub fn without_auto_create(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    run("noautocreate", bootstrap, log)
}

fn run(scenario: &str, bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let runner = Runner::new(scenario, bootstrap, log)?;
    let table = fs::read_to_string(runner.tests.join("test.c"))?;
    let mut numbers: Vec<String> = numbers(&table).into_iter().collect();
    numbers.sort_by_key(|number| number != LONGEST);
    let left = Mutex::new(numbers.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Outcomes> {
        let mut outcomes = Outcomes::new();
        while let Some(number) = next() {
            outcomes.extend(run_number(&runner, &number)?);
        }
        Ok(outcomes)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let mut outcomes = Outcomes::new();
        for worker in workers {
            let done = worker.join().map_err(|_| anyhow!("a worker panicked"))?;
            outcomes.extend(done?);
        }
        Ok(outcomes)
    })
}

fn run_number(runner: &Runner<'_>, number: &str) -> Result<Outcomes> {
    let mut outcomes = runner.run(number, None)?.outcomes();
    if outcomes.contains_key(PARTED) {
        outcomes.extend(parts(runner, number)?);
    }
    Ok(outcomes)
}

/// Runs each part of [`PARTED`] as a test.
fn parts(runner: &Runner<'_>, number: &str) -> Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    let source = fs::read_to_string(runner.tests.join(PARTED_SOURCE))?;
    for part in part_names(&source) {
        // The colon ends the name, because other names may begin with the same text.
        let output = runner.run(number, Some(&format!("{part}:")))?;
        if !output.text.contains(&format!("[ {part}:")) {
            continue;
        }
        for (test, outcome) in output.outcomes() {
            outcomes.insert(format!("{test}/{part}"), outcome);
        }
    }
    Ok(outcomes)
}

/// Starts processes of the suite.
struct Runner<'a> {
    scenario: &'a str,
    bootstrap: &'a str,
    log: &'a Path,
    tests: PathBuf,
    kafka: PathBuf,
}

impl<'a> Runner<'a> {
    fn new(scenario: &'a str, bootstrap: &'a str, log: &'a Path) -> Result<Self> {
        fs::write(
            log.join(CONFIGURATION),
            // Doubles the suite's timeouts, for busy machines.
            format!(
                "metadata.broker.list={bootstrap}\ntest.topic.random=true\ntest.timeout.multiplier=2\n"
            ),
        )?;
        Ok(Self {
            scenario,
            bootstrap,
            log,
            tests: librdkafka::tests()?,
            kafka: librdkafka::kafka()?,
        })
    }

    /// Runs the tests with this number, or one part of them.
    fn run(&self, number: &str, part: Option<&str>) -> Result<Output> {
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", PATIENCE, "./test-runner"])
            .args(["-p1", "-L", "-s", self.scenario])
            .env("LD_LIBRARY_PATH", "../src:../src-cpp")
            .env("TESTS", number)
            .env("RDKAFKA_TEST_CONF", self.log.join(CONFIGURATION))
            .env("TEST_KAFKA_VERSION", KAFKA_VERSION)
            .env("KAFKA_PATH", &self.kafka)
            .env("BROKERS", self.bootstrap)
            .current_dir(&self.tests)
            .stdin(Stdio::null());
        let mut name = number.to_owned();
        if let Some(part) = part {
            command.env("SUBTESTS", part);
            name = format!("{number}-{}", part.trim_end_matches(':'));
        }
        let output = command
            .output()
            .context("could not start timeout (coreutils)")?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(self.log.join(format!("{name}.log")), &text)?;
        if !text.contains("Broker version:") {
            bail!("test-runner does not run: {text}");
        }
        Ok(Output {
            text,
            succeeded: output.status.success(),
        })
    }
}

/// The output of a process, and whether it succeeded.
struct Output {
    text: String,
    succeeded: bool,
}

impl Output {
    fn outcomes(&self) -> Outcomes {
        parse(&self.text, self.succeeded)
    }
}

/// The numbers of all tests that need a broker, from the table in the runner's source.
fn numbers(source: &str) -> BTreeSet<String> {
    source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("_TEST("))
        .filter_map(|line| line.split([',', ')']).next())
        .filter(|name| !name.ends_with("_mock") && !name.ends_with("_local"))
        .filter_map(|name| name.split_once('_'))
        .map(|(number, _)| number.to_owned())
        .filter(|number| number.len() == 4 && !number.starts_with('8'))
        .collect()
}

/// The functions of a test that may be its parts.
fn part_names(source: &str) -> BTreeSet<&str> {
    let called = source
        .match_indices("do_test_")
        .map(|(at, _)| &source[at..]);
    called
        .filter_map(|rest| rest.split_once('('))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect()
}

/// A test without an outcome after its start has failed.
fn parse(output: &str, succeeded: bool) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in output.lines() {
        if let Some(test) = between(line, "= Running test ", " =") {
            outcomes
                .entry(test.to_owned())
                .or_insert_with(Outcome::failed);
        } else if let Some((test, word)) =
            between(line, "= Test ", " =").and_then(|text| text.split_once(' '))
        {
            let outcome = match word {
                "PASSED" => Outcome::Passed,
                "SKIPPED" => Outcome::Skipped,
                _ => Outcome::failed(),
            };
            outcomes.insert(test.to_owned(), outcome);
        }
    }
    for line in output.lines().filter(|line| line.contains("### Test \"")) {
        let (Some(test), Some(place)) = (
            between(line, "### Test \"", "\" failed at "),
            between(line, "\" failed at ", "()"),
        ) else {
            continue;
        };
        // Removes the name of the subtest in brackets.
        let test = test.split(' ').next().unwrap_or(test);
        if let Some(Outcome::Failed { place: known }) = outcomes.get_mut(test)
            && known.is_empty()
        {
            // File and line, without the function.
            let at = place.rsplit_once(':').map_or(place, |(at, _)| at);
            at.clone_into(known);
        }
    }
    // Checks after the tests, such as for remaining threads, belong to the tests.
    let all_passed = !outcomes
        .values()
        .any(|outcome| matches!(outcome, Outcome::Failed { .. }));
    if !succeeded && all_passed {
        for outcome in outcomes.values_mut() {
            *outcome = Outcome::failed();
        }
    }
    outcomes
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
[0001_one / 0.000s] ================= Running test 0001_one =================
[0001_one / 1.000s] \u{1b}[32m================= Test 0001_one PASSED =================\u{1b}[0m
[0001_two / 0.000s] ================= Running test 0001_two =================
\u{1b}[31m### Test \"0001_two (part: a)\" failed at 0001-one.c:72:check() at Fri Nov 27: ###
[0001_three / 0.000s] ================= Running test 0001_three =================
[0001_three / 0.000s] ================= Test 0001_three SKIPPED =================
";

    #[test]
    fn outcomes_and_places_are_read_from_what_the_runner_prints() {
        let outcomes = parse(OUTPUT, false);
        assert_eq!(outcomes.get("0001_one"), Some(&Outcome::Passed));
        let place = "0001-one.c:72".to_owned();
        assert_eq!(outcomes.get("0001_two"), Some(&Outcome::Failed { place }));
        assert_eq!(outcomes.get("0001_three"), Some(&Outcome::Skipped));
    }

    #[test]
    fn process_that_fails_after_its_tests_fails_them() {
        let output = "= Running test 0001_one =\n= Test 0001_one PASSED =\n";
        let outcomes = parse(output, false);
        assert_eq!(outcomes.get("0001_one"), Some(&Outcome::failed()));
    }

    #[test]
    fn manual_and_mocked_tests_are_not_run() {
        let source = "  _TEST(0001_one, 0),\n  _TEST(0001_two,\n  _TEST(8000_idle, X),\n_TEST(0002_a_mock, 0),\n";
        assert_eq!(numbers(source), BTreeSet::from(["0001".to_owned()]));
    }

    #[test]
    fn parts_are_the_functions_that_are_called() {
        let source =
            "static void do_test_one(int a) {\n  do_test_two(\"x\");\n do_test_one(1); do_test_";
        assert_eq!(
            part_names(source),
            BTreeSet::from(["do_test_one", "do_test_two"])
        );
    }
}
