//! The program on franz-go, as its `go.sum` pins it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

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

/// A copy of franz-go's source, of the version that `tests/compat/go/go.mod` pins.
pub fn source() -> Result<PathBuf> {
    let compat = super::workspace().join("tests/compat/go");
    let wanted = fs::read_to_string(compat.join("go.sum"))?;
    let directory = super::once("franz-go-source", &wanted, |directory| {
        let output = Command::new("go")
            .args(["mod", "download", "-json", "github.com/twmb/franz-go"])
            .current_dir(&compat)
            .output()?;
        let module: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("go mod download failed")?;
        let cached = module["Dir"].as_str().context("go names no directory")?;
        // The cache is read-only, and go does not test in it.
        super::run(
            Command::new("cp")
                .args(["-R", "--no-preserve=mode", cached])
                .arg(directory.join("module")),
        )
    })?;
    Ok(directory.join("module"))
}
