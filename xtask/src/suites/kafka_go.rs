//! kafka-go's tests, of the module's root.
//!
//! They connect to `localhost:9092` and compare the broker's advertised address with it. So they
//! run in a copy with the port of the broker under test, which advertises `localhost`
//! (`kafka-go.properties`).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Outcomes, go_tests};
use crate::toolbox::go;
use crate::toolbox::maven::KAFKA_VERSION;

/// The port in the tests, which is also the client's default port.
const PORT: &str = "9092";

/// Tests that create a consumer group without a dialer and ask it for offsets. They panic on any
/// broker, and no later test runs.
const PANIC: &str = "-skip=^TestReaderConsumerGroup$/\
    ^(verify_offset_committed|verify_offset_committed_when_using_interval_committer|consumer_group_commits_on_close)$";

/// Runs the suite.
pub fn run(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let (_, port) = bootstrap
        .rsplit_once(':')
        .context("an address has a port")?;
    let source = log.join("kafka-go");
    go_tests::copy(&go::kafka_go()?, &source)?;
    go_tests::alter(&source, |text| text.replace(PORT, port))?;
    // This version of Go refuses the module's own `go.mod`.
    let mut go_test = Command::new("go");
    go_test
        .args([
            "test",
            "-mod=mod",
            "-json",
            "-count=1",
            // Group members of parallel tests wait for each other.
            "-parallel=20",
            "-run=^Test",
            PANIC,
            "-timeout=480s",
            ".",
        ])
        // Skips the tests of Go's own package `nettest`.
        .env("KAFKA_SKIP_NETTEST", "1")
        .env("KAFKA_VERSION", KAFKA_VERSION)
        .current_dir(&source);
    let outcomes = go_tests::run(&mut go_test, log, "kafka-go.log");
    fs::remove_dir_all(source)?;
    outcomes
}
