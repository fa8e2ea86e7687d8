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

/// [`release`], or [`binary`].
pub const fn in_profile(is_release: bool) -> fn() -> Result<PathBuf> {
    if is_release { release } else { binary }
}

/// Builds the executable `ottla` as users get it; returns its path.
pub fn release() -> Result<PathBuf> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package", "ottla-cli"])
        .current_dir(super::workspace())
        .status()?;
    if !built.success() {
        bail!("ottla does not build");
    }
    Ok(super::workspace().join("target/release/ottla"))
}
