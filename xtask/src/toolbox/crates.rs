//! Fetches sources of published crates with their tests, and installs published programs, with
//! cargo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// A copy of the crate's published source, in which it can be built.
pub fn source(name: &str, version: &str) -> Result<PathBuf> {
    let directory = super::once(&format!("{name}-source"), version, |directory| {
        let fetched = fetch(name, version, directory)?;
        super::run(
            Command::new("cp")
                .arg("-R")
                .arg(&fetched)
                .arg(directory.join("crate")),
        )?;
        // Makes it its own workspace, because the checkout around it is one.
        let manifest = directory.join("crate/Cargo.toml");
        let text = fs::read_to_string(&manifest)?;
        if !text.contains("[workspace") {
            fs::write(&manifest, format!("{text}\n[workspace]\n"))?;
        }
        Ok(())
    })?;
    Ok(directory.join("crate"))
}

/// Builds the program of a published crate with the crate's own lock file.
pub fn program(name: &str, version: &str) -> Result<PathBuf> {
    let directory = super::once(name, version, |directory| {
        super::run(
            Command::new(env!("CARGO"))
                .args(["install", "--quiet", "--locked", name, "--version", version])
                .arg("--root")
                .arg(directory),
        )
    })?;
    Ok(directory.join("bin").join(name))
}

/// Fetches the crate as a dependency; returns the path of its source.
fn fetch(name: &str, version: &str, directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory.join("src"))?;
    fs::write(directory.join("src/lib.rs"), "")?;
    fs::write(
        directory.join("Cargo.toml"),
        format!(
            "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\n[workspace]\n[dependencies]\n{name} = \"={version}\"\n"
        ),
    )?;
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1"])
        .current_dir(directory)
        .output()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata failed")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == name)
        .context("the crate was not resolved")?;
    let manifest = package["manifest_path"].as_str().context("no manifest")?;
    Ok(Path::new(manifest)
        .parent()
        .context("a manifest lies in a directory")?
        .to_owned())
}
