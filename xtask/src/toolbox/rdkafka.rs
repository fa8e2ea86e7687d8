//! The program on the crate `rdkafka`, with its librdkafka built from source.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

/// Builds `tests/compat/rdkafka`, a package outside the workspace.
pub fn program() -> Result<PathBuf> {
    let target = super::directory("rdkafka");
    super::run(
        Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--target-dir"])
            .arg(&target)
            .current_dir(super::workspace().join("tests/compat/rdkafka")),
    )?;
    Ok(target.join("debug/rdkafka-compat"))
}
