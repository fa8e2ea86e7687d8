//! The client of a journey or a cluster: one JVM that runs all the time and remembers the data that it has seen.
//!
//! It reads one command per line. It answers with claims, then `done`.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result};

use crate::compat::program::{self, Claim};

/// The running client. It is killed when dropped.
pub struct Driver {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
    log: File,
}

impl Driver {
    /// Starts the client, whose logs go to `directory`.
    pub fn start(mut client: Command, directory: &Path) -> Result<Self> {
        let mut child = client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.join("driver.stderr"))?)
            .spawn()
            .context("could not start java")?;
        let commands = child.stdin.take().context("the input is piped")?;
        let output = child.stdout.take().context("the output is piped")?;
        Ok(Self {
            child,
            commands,
            lines: program::lines(output)?,
            log: File::create(directory.join("driver.stdout"))?,
        })
    }

    /// Sends `command` to the client; the names of its claims begin with `stage`.
    pub fn tell(&mut self, stage: &str, command: &str, claims: &mut Vec<Claim>) -> Result<()> {
        writeln!(self.commands, "{command}")?;
        let mut of_command = Vec::new();
        let read = program::read(&self.lines, &self.log, &mut of_command);
        claims.extend(of_command.into_iter().map(|claim| claim.of_stage(stage)));
        read.with_context(|| format!("{stage}: {command}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The kill fails when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
