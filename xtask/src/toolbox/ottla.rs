//! The programs of this checkout: Ottla, and the generator that measures it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Builds the executable `ottla` for development; returns its path.
pub fn binary() -> Result<PathBuf> {
    let target = build(&["--package", "ottla-cli"])?;
    Ok(target.join("debug/ottla"))
}

/// [`release`], or [`binary`].
pub const fn in_profile(is_release: bool) -> fn() -> Result<PathBuf> {
    if is_release { release } else { binary }
}

/// Builds the executable `ottla` as users get it; returns its path.
pub fn release() -> Result<PathBuf> {
    let target = build(&["--release", "--package", "ottla-cli"])?;
    Ok(target.join("release/ottla"))
}

/// Builds `ottla` as users get it, and the generator `ottla-load` likewise.
pub fn release_with_load() -> Result<()> {
    let packages = ["--package", "ottla-cli", "--package", "ottla-load"];
    build(&[&["--release"], &packages[..]].concat())?;
    Ok(())
}

/// Runs `cargo build`; returns the target directory, which is that of this program too.
fn build(arguments: &[&str]) -> Result<PathBuf> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet"])
        .args(arguments)
        .current_dir(super::workspace())
        .status()?;
    if !built.success() {
        bail!("ottla does not build");
    }
    let xtask = std::env::current_exe()?;
    // TARGET/PROFILE/xtask
    let target = xtask.ancestors().nth(2).map(Path::to_path_buf);
    target.context("xtask is not in a target directory")
}
