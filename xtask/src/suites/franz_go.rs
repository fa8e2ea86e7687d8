//! The tests of franz-go's `pkg/kgo`.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Outcomes, go_tests};
use crate::toolbox::go;

/// Fewer records than the half million that the tests send unless told.
const RECORDS: &str = "20000";

/// Tests of the groups of KIP-848. They run where a broker announces them, and Ottla announces what it refuses.
const CONSUMER_PROTOCOL: &str = "-skip=^Test848|^Test/^848$|^Test/^.*$/^848$";

/// Runs the suite.
pub fn run(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let mut go_test = Command::new("go");
    go_test
        .args([
            "test",
            "-json",
            "-count=1",
            "-run=^Test",
            CONSUMER_PROTOCOL,
            "-timeout=480s",
            "./pkg/kgo",
        ])
        .env("KGO_SEEDS", bootstrap)
        .env("KGO_TEST_RF", "1")
        .env("KGO_TEST_RECORDS", RECORDS)
        .current_dir(go::franz_go()?);
    go_tests::run(&mut go_test, log, "franz-go.log")
}
