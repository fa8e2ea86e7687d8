//! The program on franz-go, as its `go.sum` pins it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

/// Builds `tests/compat/go`; Go's own cache makes the second time short.
pub fn program() -> Result<PathBuf> {
    let program = super::directory("go").join("compat");
    super::run(
        Command::new("go")
            .args(["build", "-mod=readonly", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(super::workspace().join("tests/compat/go")),
    )?;
    Ok(program)
}
