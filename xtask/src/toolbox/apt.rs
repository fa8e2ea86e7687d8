//! Programs and headers from Debian's packages, installed into the system as its administrator would.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Makes sure that `program` can be run, from the Debian package of that name.
pub fn program(program: &str) -> Result<Command> {
    if !is_installed(program) {
        install(program).with_context(|| {
            format!("{program} is missing; `apt-get install {program}` as root")
        })?;
    }
    Ok(Command::new(program))
}

/// Makes sure that the C headers at `path` are there, from this Debian package.
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
