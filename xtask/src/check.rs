//! `cargo xtask check`: the whole gate, the same here and in CI.
//!
//! All steps run, even after a failure. Each is named and timed; the last lines count what passed
//! and what failed.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::time::now;
use crate::{
    adopt, cli_test, cluster, codec_test, crash, damage, fuzz, generate, licences, mixed,
    operations, racks, soak, sweep, tidy, toolbox,
};

/// Options of `cargo xtask check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only the steps whose names contain one of these.
    steps: Vec<String>,
}

type Step = fn() -> Result<String>;

/// The quick steps come first, so that their failures show early.
const STEPS: &[(&str, Step)] = &[
    ("rustfmt", rustfmt),
    ("tidy", tidy::run),
    ("licences", licences::run),
    ("generated code", generated),
    ("clippy", clippy),
    ("rustdoc", rustdoc),
    ("tests", tests),
    ("codec-test", codec),
    ("fuzz", || fuzz::run(&fuzz::Args::of_gate())),
    ("command line", || cli_test::run(&cli_test::Args::default())),
    ("soak", || soak::run(&soak::Args::of_gate())),
    ("sweep", || sweep::run(&sweep::Args::default())),
    ("real clients", || own("compat")),
    ("adopt", || adopt::run(&adopt::Args::of_gate())),
    ("mixed", || mixed::run(&mixed::Args::default())),
    ("damage", damage::run),
    ("judge of clusters", || {
        cluster::run(&cluster::Args::of_gate())
    }),
    ("operations", operations::run),
    ("racks", racks::run),
    ("crash", || crash::crash(&crash::Args::usual())),
    ("power-cut", || crash::power_cut(&crash::Args::usual())),
    ("full-disk", || crash::full_disk(&crash::Args::usual())),
    (
        "stalled-disk",
        || crash::stalled_disk(&crash::Args::usual()),
    ),
];

struct Outcome {
    name: &'static str,
    result: Result<String>,
    took: Duration,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let chosen = STEPS.iter().filter(|(name, _)| {
        args.steps.is_empty() || args.steps.iter().any(|part| name.contains(part.as_str()))
    });
    let mut outcomes = Vec::new();
    for (name, step) in chosen {
        say(&format!("── {name}"));
        let outcome = timed(name, *step);
        say(&line(&outcome));
        outcomes.push(outcome);
    }
    if outcomes.is_empty() {
        bail!("no step is named like {:?}", args.steps);
    }
    summarise(&outcomes)
}

fn summarise(outcomes: &[Outcome]) -> Result<()> {
    say("── summary");
    for outcome in outcomes {
        say(&line(outcome));
    }
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.result.is_err())
        .count();
    say(&format!(
        "check: {} steps passed, {failed} failed",
        outcomes.len() - failed
    ));
    if failed > 0 {
        bail!("{failed} steps failed");
    }
    Ok(())
}

fn line(outcome: &Outcome) -> String {
    let took = outcome.took.as_secs_f64();
    match &outcome.result {
        Ok(detail) => format!("{}: passed in {took:.1} s: {detail}", outcome.name),
        Err(error) => format!("{}: FAILED in {took:.1} s: {error:#}", outcome.name),
    }
}

fn timed(name: &'static str, step: Step) -> Outcome {
    let start = now();
    let result = step();
    Outcome {
        name,
        result,
        took: start.elapsed(),
    }
}

fn say(text: &str) {
    // A closed pipe is not an error.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn rustfmt() -> Result<String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    Ok("rustfmt's defaults".to_owned())
}

fn generated() -> Result<String> {
    generate::run(&generate::Args { check: true })?;
    Ok("as the schemas in Kafka's jars give it".to_owned())
}

fn clippy() -> Result<String> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ];
    cargo(&arguments, &[])?;
    Ok("no warnings".to_owned())
}

fn rustdoc() -> Result<String> {
    let arguments = ["doc", "--workspace", "--no-deps", "--locked"];
    cargo(&arguments, &[("RUSTDOCFLAGS", "--deny warnings")])?;
    Ok("no warnings".to_owned())
}

fn codec() -> Result<String> {
    codec_test::run(&codec_test::Args::default())
}

/// Runs another command of this program; returns the last line of its output, which counts its
/// checks.
fn own(name: &str) -> Result<String> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(name)
        .current_dir(toolbox::workspace())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start cargo xtask {name}"))?;
    let output = child.stdout.take().context("a child has no output")?;
    let mut last = String::new();
    for line in BufReader::new(output).lines() {
        last = line?;
        say(&last);
    }
    if !child.wait()?.success() {
        bail!("{last}");
    }
    Ok(last)
}

/// Runs all tests, and adds up the counts of their harnesses.
fn tests() -> Result<String> {
    let mut child = command(&["test", "--workspace", "--locked", "--no-fail-fast"], &[])
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(counts) = line.strip_prefix("test result: ") {
            passed += counted(counts, "passed");
            failed += counted(counts, "failed");
            ignored += counted(counts, "ignored");
        }
        let is_noise = line.ends_with("... ok") || line.is_empty();
        if !is_noise {
            say(&line);
        }
    }
    let status = child.wait()?;
    let counts = format!("{passed} tests passed, {failed} failed, {ignored} ignored");
    if !status.success() {
        bail!("{counts}");
    }
    Ok(counts)
}

/// The number in front of `what` in `ok. 12 passed; 0 failed; …`.
fn counted(counts: &str, what: &str) -> usize {
    let words: Vec<&str> = counts
        .split([' ', ';', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == what)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let status = command(arguments, environment)
        .status()
        .context("could not start cargo")?;
    if !status.success() {
        bail!("cargo {} failed; its output says why", arguments.join(" "));
    }
    Ok(())
}

fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(toolbox::workspace());
    command
}

#[cfg(test)]
mod counting_tests {
    use super::counted;

    #[test]
    fn results_of_a_harness_are_read() {
        let counts =
            "ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(counted(counts, "passed"), 12);
        assert_eq!(counted(counts, "failed"), 0);
        assert_eq!(counted(counts, "ignored"), 3);
    }
}
