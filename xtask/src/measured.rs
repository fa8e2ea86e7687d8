//! What `bench` and `limits` share: brokers that are started to be measured, what the system says of them, and the page
//! on which the figures stand.

pub mod broker;
pub mod contender;
pub mod page;
pub mod proc;

use std::io::{self, Write as _};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Tells whoever waits how far it is.
pub fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "{text}")?)
}

/// What a command prints, which must succeed.
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

/// All that a command said, results first.
pub fn words(output: &Output) -> String {
    let part = |bytes| String::from_utf8_lossy(bytes).into_owned();
    part(&output.stdout) + &part(&output.stderr)
}
