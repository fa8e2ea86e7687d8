//! librdkafka's C suite, as the crate `rdkafka-sys` ships it, one process a test.
//!
//! Its tests that need no broker are left out, by its own flag: they would run against its mock broker. A test ends at
//! its first failed check; the runner says where. Tests that share a number cannot be
//! chosen one by one: they run in turn in one process. The test of the admin requests ends early where ACLs do not work:
//! its parts run in processes of their own too.

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

/// The longest that one process may take, in seconds: its tests have limits of their own, below this.
const PATIENCE: &str = "1500";

/// The test that takes by far the longest, ten minutes and more: it starts first.
const LONGEST: &str = "0113";

/// How many processes run at the same time: they mostly wait, and by itself their runner takes five tests at once.
const AT_ONCE: usize = 3;

/// The file that a test process is configured by.
const CONFIGURATION: &str = "test.conf";

/// The test that is run by its parts too, and its source.
const PARTED: &str = "0081_admin";
const PARTED_SOURCE: &str = "0081-admin.c";

/// The tests for a broker that creates topics when they are first named.
pub fn default(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    run("default", bootstrap, log)
}

/// The tests for a broker that does not.
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

/// Each part of the test that is run by its parts too, as a test of its own.
fn parts(runner: &Runner<'_>, number: &str) -> Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    let source = fs::read_to_string(runner.tests.join(PARTED_SOURCE))?;
    for part in part_names(&source) {
        // The colon ends the name: others may begin alike.
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

/// How a process of the suite is started.
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
            // Twice its patience with each step, for machines that are busy.
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

    /// Runs the tests of a number to their end, or one part of them.
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

/// What a process said, and whether it was content.
struct Output {
    text: String,
    succeeded: bool,
}

impl Output {
    fn outcomes(&self) -> Outcomes {
        parse(&self.text, self.succeeded)
    }
}

/// The numbers of all tests that a broker is needed for, from the table in the runner's source.
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

/// The functions of a test that may be parts of it.
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

/// A test that has started and of which nothing more is heard has failed.
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
        // The subtest stands in brackets.
        let test = test.split(' ').next().unwrap_or(test);
        if let Some(Outcome::Failed { place: known }) = outcomes.get_mut(test)
            && known.is_empty()
        {
            // File and line, without the function.
            let at = place.rsplit_once(':').map_or(place, |(at, _)| at);
            at.clone_into(known);
        }
    }
    // What the process checks after its tests, such as threads left behind, is theirs.
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
