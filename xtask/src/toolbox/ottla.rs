//! The broker of this checkout.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

/// Builds the executable `ottla` in the profile of this program; returns its path.
pub fn binary() -> Result<PathBuf> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "ottla-cli"])
        .current_dir(super::workspace())
        .status()?;
    if !built.success() {
        bail!("ottla does not build");
    }
    Ok(std::env::current_exe()?.with_file_name("ottla"))
}
