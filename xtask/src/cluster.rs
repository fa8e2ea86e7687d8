//! `cargo xtask cluster`: three nodes under faults, judged by what real clients were told.
//!
//! The driver, its clients and the checker are in `tests/cluster/`. The checker's own tests plant
//! each fault that it must find.

use std::process::Command;

use anyhow::{Result, bail};

use crate::toolbox::{self, python};

/// Runs the tests of the checker; returns a summary.
pub fn checker() -> Result<String> {
    let tests = Command::new(python::interpreter()?)
        .arg(toolbox::workspace().join("tests/cluster/checker_test.py"))
        .output()?;
    let said = String::from_utf8_lossy(&tests.stderr);
    match said.lines().find(|line| line.starts_with("Ran ")) {
        Some(ran) if tests.status.success() => Ok(format!("the checker of clusters: {ran}")),
        _ => bail!("the checker of clusters misses a planted fault:\n{said}"),
    }
}
