//! Apache Kafka's jars and their dependencies, by Maven.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The release of Apache Kafka that Ottla is compared with.
pub const KAFKA_VERSION: &str = "4.4.0";
/// The release in the benchmarks and the limits.
pub const MEASURED_VERSION: &str = "4.3.1";
/// The previous release, whose clients and directories are widely used.
pub const PREVIOUS_VERSION: &str = "4.3.1";

/// The directory with all jars of Apache Kafka: broker, tools and clients.
pub fn kafka_jars() -> Result<PathBuf> {
    kafka_jars_of(KAFKA_VERSION)
}

/// The directory with all jars of another release of Apache Kafka.
pub fn kafka_jars_of(version: &str) -> Result<PathBuf> {
    let artifacts = [
        ("org.apache.kafka", "kafka_2.13", version),
        ("org.apache.kafka", "kafka-tools", version),
    ];
    jars(&format!("kafka-{version}"), &artifacts)
}

/// The directory with the jars of `artifacts` (group, name, version) and all they depend on.
pub fn jars(name: &str, artifacts: &[(&str, &str, &str)]) -> Result<PathBuf> {
    let directory = super::directory(name);
    let libs = directory.join("libs");
    let marker = directory.join("complete");
    if marker.exists() {
        return Ok(libs);
    }
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("pom.xml"), pom(name, artifacts))?;
    copy_dependencies(&directory, &libs)?;
    fs::write(marker, "")?;
    Ok(libs)
}

fn copy_dependencies(directory: &Path, libs: &Path) -> Result<()> {
    let status = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "dependency:copy-dependencies"])
        .arg(format!("-DoutputDirectory={}", libs.display()))
        .current_dir(directory)
        .status()
        .context("could not start mvn; install Maven (Debian: apt-get install maven)")?;
    if !status.success() {
        bail!(
            "mvn could not fetch {}; its output says why",
            directory.display()
        );
    }
    Ok(())
}

fn pom(name: &str, artifacts: &[(&str, &str, &str)]) -> String {
    let mut dependencies = String::new();
    for (group, artifact, version) in artifacts {
        let _ = write!(
            dependencies,
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        );
    }
    format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>ottla</groupId>\
         <artifactId>{name}</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>"
    )
}
