//! Installs what the tests need from the package registries.
//!
//! All of it goes to `target/toolbox/`, each tool to its own directory. A tool that is present is
//! not fetched again.

pub mod apt;
pub mod crates;
pub mod go;
pub mod java;
pub mod librdkafka;
pub mod maven;
pub mod node;
pub mod ottla;
pub mod python;
pub mod rdkafka;
pub mod rdkafka_performance;
pub mod tansu;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// The directory of a tool.
pub fn directory(tool: &str) -> PathBuf {
    workspace().join("target/toolbox").join(tool)
}

/// Runs `set_up` unless it has succeeded in this directory for the same `wanted` (versions,
/// sources) before.
fn once(tool: &str, wanted: &str, set_up: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    // Clients are installed in parallel and may share a tool.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = directory(tool);
    let marker = directory.join("complete");
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(directory);
    }
    fs::create_dir_all(&directory)?;
    set_up(&directory)?;
    fs::write(marker, wanted)?;
    Ok(directory)
}

/// Runs a command to its end; its output is shown only when it fails.
fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| {
        format!(
            "could not start {}; is it installed?",
            command.get_program().display()
        )
    })?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
