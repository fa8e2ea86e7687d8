//! The Python clients, in a virtual environment of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

/// The interpreter of an environment with everything in `tests/compat/requirements.txt`.
pub fn interpreter() -> Result<PathBuf> {
    let requirements = super::workspace().join("tests/compat/requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    let directory = super::once("python", &wanted, |directory| {
        super::run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(directory),
        )?;
        super::run(
            Command::new(directory.join("bin/pip"))
                .args(["install", "--quiet", "--requirement"])
                .arg(&requirements),
        )
    })?;
    Ok(directory.join("bin/python"))
}
