//! kafka-go's tests, of the module's root.
//!
//! They dial `localhost:9092` and compare what the broker says of itself with it, so they run in a copy that names the
//! port of the broker at hand, which advertises itself as `localhost` (`kafka-go.properties`).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Outcomes, go_tests};
use crate::toolbox::go;
use crate::toolbox::maven::KAFKA_VERSION;

/// The port that the tests dial, and that the client adds where none is given.
const PORT: &str = "9092";

/// Tests that ask a consumer group of their own making for its offsets, which has no dialer: they panic on any broker, and
/// every test behind them is lost.
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
    // The module's own `go.mod` is not as this Go wants it.
    let mut go_test = Command::new("go");
    go_test
        .args([
            "test",
            "-mod=mod",
            "-json",
            "-count=1",
            // Members of groups wait for each other across tests that run side by side.
            "-parallel=20",
            "-run=^Test",
            PANIC,
            "-timeout=480s",
            ".",
        ])
        // Tests of Go's own package `nettest`, over pipes.
        .env("KAFKA_SKIP_NETTEST", "1")
        .env("KAFKA_VERSION", KAFKA_VERSION)
        .current_dir(&source);
    let outcomes = go_tests::run(&mut go_test, log, "kafka-go.log");
    fs::remove_dir_all(source)?;
    outcomes
}
