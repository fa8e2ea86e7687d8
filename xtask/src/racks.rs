//! `cargo xtask racks`: consumers with `client.rack` read from the replica in their rack.
//!
//! `tests/cluster/racks.py` starts three nodes, kills the follower that is read from, and starts it
//! again. The Java client and librdkafka tell where they read.

use anyhow::Result;

use crate::cluster::{Driver, System};

/// Runs the command; returns a summary.
pub fn run() -> Result<String> {
    let driver = Driver::new("racks.py", &[System::Ottla])?;
    driver.run(
        "the Java client and librdkafka read in their rack".to_owned(),
        "a consumer does not read where it should",
    )
}
