//! The crate `confluent-kafka`: admin client, producer, and a consumer that assigns itself partitions. Its groups speak the
//! consumer group protocol alone, so that they work or are refused at once.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use super::process::output;
use super::{Place, records};
use crate::toolbox::{directory, workspace};

const TOPIC: &str = "confluent";
const RECORDS: usize = 10_000;

/// Builds the program and runs it.
pub fn run(place: &Place<'_>) -> Result<String> {
    let mut command = Command::new(program(place)?);
    command.args([place.bootstrap, TOPIC, &RECORDS.to_string()]);
    let said = output(&mut command, &place.directory.join("confluent-kafka.log"))?;
    let mut lines = said.lines();
    let assigned = lines.next();
    ensure!(
        assigned == Some(&format!("assigned {RECORDS} {RECORDS}")),
        "of {RECORDS} different records it read: {assigned:?}"
    );
    let group = lines.next().unwrap_or_default();
    let outcome = group.strip_prefix("group ").unwrap_or_default();
    ensure!(
        outcome == RECORDS.to_string() || outcome.starts_with("refused: "),
        "its group ended with {said}"
    );
    let found = records::read(place.bootstrap, TOPIC)?;
    records::check("the topic", found, &records::values(RECORDS))?;
    Ok(format!(
        "{RECORDS} records produced and read; in a group: {outcome}"
    ))
}

/// The program, built outside the workspace.
fn program(place: &Place<'_>) -> Result<PathBuf> {
    let target = directory("confluent-kafka-crate");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(workspace().join("tests/ecosystem/confluent-kafka"));
    output(&mut build, &place.directory.join("build.log"))?;
    Ok(target.join("debug/confluent-kafka-ecosystem"))
}
