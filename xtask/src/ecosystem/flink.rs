//! Apache Flink at least once: a job on a local cluster reads a topic up to its ends and writes it to another.

use std::fs;

use anyhow::{Result, ensure};

use super::process::output;
use super::{Place, records};
use crate::toolbox::java;

const RECORDS: usize = 10_000;
/// The group for which the job's checkpoints commit.
const GROUP: &str = "flinks";

/// Runs the program once.
pub fn run(place: &Place<'_>) -> Result<String> {
    records::create(place.bootstrap, "read", 4)?;
    records::create(place.bootstrap, "written", 2)?;
    records::produce(place.bootstrap, "read", RECORDS)?;
    let files = place.directory.join("flink");
    fs::create_dir_all(&files)?;
    let mut command = java::flink()?;
    command
        .args(["CopyTopic", place.bootstrap, "read", "written", GROUP])
        .arg(files);
    let said = output(&mut command, &place.directory.join("flink.log"))?;
    ensure!(said.lines().last() == Some("done"), "it ended with {said}");
    records::check(
        "the copy",
        records::read(place.bootstrap, "written")?,
        &records::values(RECORDS),
    )?;
    Ok(format!("{RECORDS} records of 4 partitions"))
}
