//! The tests of franz-go's `pkg/kgo`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Outcomes, go_tests};
use crate::toolbox::go;

/// The number of records; the tests' default is half a million.
const RECORDS: &str = "20000";

/// The condition by which the tests decide to test the groups of KIP-848. Ottla announces this
/// version and refuses it, and tests that wait for such a group would block others. The copy makes
/// the condition false on both brokers.
const CONSUMER_PROTOCOL: &str = "versions.LookupMaxKeyVersion(68); ok && v >= 1 ";
const NEVER: &str = "versions.LookupMaxKeyVersion(68); ok && v >= 100 ";

/// Runs the suite.
pub fn run(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let source = log.join("franz-go");
    go_tests::copy(&go::franz_go()?, &source)?;
    go_tests::alter(&source.join("pkg/kgo"), |text| {
        text.replace(CONSUMER_PROTOCOL, NEVER)
    })?;
    let mut go_test = Command::new("go");
    go_test
        .args([
            "test",
            "-json",
            "-count=1",
            "-run=^Test",
            "-timeout=480s",
            "./pkg/kgo",
        ])
        .env("KGO_SEEDS", bootstrap)
        .env("KGO_TEST_RF", "1")
        .env("KGO_TEST_RECORDS", RECORDS)
        .current_dir(&source);
    let outcomes = go_tests::run(&mut go_test, log, "franz-go.log");
    fs::remove_dir_all(source)?;
    outcomes
}
