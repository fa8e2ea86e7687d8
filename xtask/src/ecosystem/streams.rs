//! Kafka Streams at least once: counts by key, over a repartitioning and a store that a second run restores.

use anyhow::{Result, ensure};

use super::process::output;
use super::{Place, records};
use crate::toolbox::java;

const RECORDS: usize = 10_000;
/// The keys of the records that are produced.
const KEYS: usize = 10;

/// Runs the program twice, with new records before each.
pub fn run(place: &Place<'_>) -> Result<String> {
    records::create(place.bootstrap, "counted", 4)?;
    records::create(place.bootstrap, "counts", 2)?;
    for round in 1..=2 {
        records::produce(place.bootstrap, "counted", RECORDS)?;
        let each = round * RECORDS / KEYS;
        // Without the local state, the second run reads the changelog.
        let state = place.directory.join(format!("state-{round}"));
        let mut command = java::streams()?;
        command
            .args(["CountKeys", place.bootstrap, "counted", "counts"])
            .arg(state)
            .arg(each.to_string());
        let log = place.directory.join(format!("streams-{round}.log"));
        let counts = output(&mut command, &log)?;
        let expected: Vec<String> = (0..KEYS)
            .map(|key| format!("counted key {key} {each}"))
            .collect();
        ensure!(
            counts.lines().eq(expected.iter().map(String::as_str)),
            "round {round} counted {counts}"
        );
    }
    Ok(format!(
        "{} records counted by {KEYS} keys in two runs",
        2 * RECORDS
    ))
}
