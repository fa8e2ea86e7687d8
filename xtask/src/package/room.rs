//! A copy of this machine's root file system with its own processes and network, in which a Python
//! program runs.
//!
//! The copy is an overlay: changes go to a file system in memory and vanish when the program ends.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::compat::program::{self, Claim};
use crate::toolbox::{self, python};

/// The directory of the programs.
const PROGRAMS: &str = "tests/packaging";

/// A directory for the input and output of the rooms.
#[derive(Debug)]
pub struct Room {
    directory: PathBuf,
    interpreter: PathBuf,
}

impl Room {
    /// Creates the directory; fails unless the process is root.
    pub fn new() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("cargo xtask package makes file systems and networks; run it as root");
        }
        let run = format!("target/package/{}", std::process::id());
        let directory = toolbox::workspace().join(run);
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            interpreter: python::interpreter()?,
        })
    }

    /// Runs a program in a new room. It reads its input as JSON, and prints claims.
    pub fn run(&self, name: &str, told: &Value) -> Result<Vec<Claim>> {
        let file = self.directory.join(format!("{name}.json"));
        fs::write(&file, told.to_string())?;
        let programs = toolbox::workspace().join(PROGRAMS);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork"])
            .args(["--kill-child", "bash"])
            .arg(programs.join("room.sh"))
            .arg(toolbox::workspace())
            .arg(&self.interpreter)
            .arg(programs.join(name));
        let file = file.to_str().context("the checkout's path is not UTF-8")?;
        let outcome = program::run(command, &[file], &self.directory);
        let claims = outcome.claims.into_iter();
        Ok(claims.map(|claim| claim.of_stage(name)).collect())
    }

    /// Removes the directory; called only when nothing failed.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(self.directory)?;
        Ok(())
    }
}
