//! Programs and headers from Debian packages, installed into the system.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Installs `program` from the Debian package of that name, if it is missing.
pub fn program(program: &str) -> Result<Command> {
    if !is_installed(program) {
        install(program).with_context(|| {
            format!("{program} is missing; `apt-get install {program}` as root")
        })?;
    }
    Ok(Command::new(program))
}

/// Installs the C headers at `path` from this Debian package, if they are missing.
pub fn headers(package: &str, path: &str) -> Result<()> {
    if !Path::new(path).exists() {
        install(package)
            .with_context(|| format!("{path} is missing; `apt-get install {package}` as root"))?;
    }
    Ok(())
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-V").output().is_ok()
}

fn install(package: &str) -> Result<()> {
    let install = || {
        super::run(
            Command::new("apt-get")
                .args(["install", "--yes", "--no-install-recommends", package])
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    // A fresh machine has no package lists yet.
    install().or_else(|_| {
        super::run(Command::new("apt-get").arg("update"))?;
        install()
    })
}
