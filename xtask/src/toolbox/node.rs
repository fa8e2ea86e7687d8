//! The JavaScript client, as its lock file pins it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

/// The directory that holds `node_modules` for `tests/compat/node`.
pub fn modules() -> Result<PathBuf> {
    let source = super::workspace().join("tests/compat/node");
    let lock = fs::read_to_string(source.join("package-lock.json"))?;
    super::once("node", &lock, |directory| {
        fs::copy(source.join("package.json"), directory.join("package.json"))?;
        fs::write(directory.join("package-lock.json"), &lock)?;
        super::run(
            Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
                .current_dir(directory),
        )
    })
}
