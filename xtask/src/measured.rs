//! Shared by `bench` and `limits`: brokers under measurement, the figures that the system has about
//! them, and the page with the figures.

pub mod broker;
pub mod contender;
pub mod page;
pub mod proc;

use std::io::{self, Write as _};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Prints a line of progress.
pub fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "{text}")?)
}

/// Runs a command that must succeed; returns its stdout.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("could not start {program}"))?;
    ensure!(
        output.status.success(),
        "{program} ended with {}:\n{}",
        output.status,
        words(&output)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The stdout and then the stderr of a command.
pub fn words(output: &Output) -> String {
    let part = |bytes| String::from_utf8_lossy(bytes).into_owned();
    part(&output.stdout) + &part(&output.stderr)
}
