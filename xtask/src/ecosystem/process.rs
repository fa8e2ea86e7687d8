//! A process beside the broker, and the waits for its effects.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::time::{now, pause};

/// The time between two checks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// The timeout of each wait.
const PATIENCE: Duration = Duration::from_mins(4);
/// The end of a log that a failure shows, in bytes.
const SHOWN: usize = 1500;

/// A running process with a log, killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; its output goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("could not start {command:?}"))?;
        Ok(Self {
            child,
            log: log.to_path_buf(),
        })
    }

    /// Waits until `holds`, while the process runs.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = now();
        while !holds()? {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "it ended with {status} before {what}:\n{}",
                    self.end_of_log()
                );
            }
            if start.elapsed() > PATIENCE {
                bail!("{what} did not happen:\n{}", self.end_of_log());
            }
            pause(BETWEEN_LOOKS);
        }
        Ok(())
    }

    fn end_of_log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(SHOWN);
        String::from_utf8_lossy(log.get(from..).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The kill fails when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output of a command that must succeed; it goes to `log` too.
pub fn output(command: &mut Command, log: &Path) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    fs::write(log, [&output.stdout[..], &output.stderr].concat())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let from = said.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
        bail!(
            "{} ended with {}:\n{}",
            command.get_program().display(),
            output.status,
            &said[from..]
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
