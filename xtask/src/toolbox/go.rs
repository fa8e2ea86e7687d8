//! Everything in Go: the program with franz-go, as its `go.sum` pins it; the sources of clients; a
//! proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// kafka-go, whose tests are run.
const KAFKA_GO: &str = "github.com/segmentio/kafka-go@v0.4.51";
/// Sarama, whose functional tests are run.
const SARAMA: &str = "github.com/IBM/sarama@v1.61.1";
/// The proxy that Sarama's tests put before a broker.
const TOXIPROXY: &str = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0";

/// Builds `tests/compat/go`; Go's cache makes later builds fast.
pub fn program() -> Result<PathBuf> {
    built("compat", ".")
}

/// Builds `tests/compat/go/cluster`, the load of `cargo xtask cluster`.
pub fn cluster_load() -> Result<PathBuf> {
    built("cluster", "./cluster")
}

fn built(name: &str, package: &str) -> Result<PathBuf> {
    let program = super::directory("go").join(name);
    super::run(
        Command::new("go")
            .args(["build", "-mod=readonly", "-o"])
            .arg(&program)
            .arg(package)
            .current_dir(super::workspace().join("tests/compat/go")),
    )?;
    Ok(program)
}

/// A copy of franz-go's source, of the version that `tests/compat/go/go.mod` pins.
pub fn franz_go() -> Result<PathBuf> {
    let compat = super::workspace().join("tests/compat/go");
    let wanted = fs::read_to_string(compat.join("go.sum"))?;
    source(
        "franz-go-source",
        &wanted,
        Some(&compat),
        "github.com/twmb/franz-go",
    )
}

/// A copy of kafka-go's source.
pub fn kafka_go() -> Result<PathBuf> {
    source("kafka-go-source", KAFKA_GO, None, KAFKA_GO)
}

/// A copy of Sarama's source.
pub fn sarama() -> Result<PathBuf> {
    source("sarama-source", SARAMA, None, SARAMA)
}

/// The server of toxiproxy.
pub fn toxiproxy() -> Result<PathBuf> {
    let directory = super::once("toxiproxy", TOXIPROXY, |directory| {
        super::run(
            Command::new("go")
                .args(["install", TOXIPROXY])
                .env("GOBIN", directory),
        )
    })?;
    Ok(directory.join("server"))
}

/// A copy of a module's source, in its own version or in that of the `go.mod` in `pinned_by`.
fn source(tool: &str, wanted: &str, pinned_by: Option<&Path>, module: &str) -> Result<PathBuf> {
    let directory = super::once(tool, wanted, |directory| {
        let output = Command::new("go")
            .args(["mod", "download", "-json", module])
            .current_dir(pinned_by.unwrap_or(directory))
            .output()?;
        let found: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("go mod download failed")?;
        let cached = found["Dir"].as_str().context("go names no directory")?;
        // The module cache is read-only, so tests cannot run in it.
        super::run(
            Command::new("cp")
                .args(["-R", "--no-preserve=mode", cached])
                .arg(directory.join("module")),
        )
    })?;
    Ok(directory.join("module"))
}
