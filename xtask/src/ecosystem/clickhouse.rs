//! ClickHouse, embedded in Python as chdb: its Kafka engine reads a topic as a group, and writes another.

use std::process::Command;

use anyhow::{Result, ensure};

use super::process::output;
use super::{Place, records};
use crate::toolbox::{python, workspace};

const PACKAGE: &str = "chdb==4.4.0";
const RECORDS: usize = 10_000;

/// Runs the program.
pub fn run(place: &Place<'_>) -> Result<String> {
    for topic in ["clicks", "clicked"] {
        records::create(place.bootstrap, topic, 4)?;
    }
    records::produce(place.bootstrap, "clicks", RECORDS)?;
    let mut command = Command::new(python::with("chdb", PACKAGE)?);
    command
        .arg("-B")
        .arg(workspace().join("tests/ecosystem/clickhouse.py"))
        .arg(place.bootstrap)
        .arg(place.directory)
        .arg(RECORDS.to_string());
    let said = output(&mut command, &place.directory.join("clickhouse.log"))?;
    ensure!(said.lines().last() == Some("done"), "it ended with {said}");
    let written = records::read(place.bootstrap, "clicked")?;
    records::check("clicked", written, &records::values(RECORDS))?;
    let committed = records::committed(place.bootstrap, "clicks", "clickhouse")?;
    let ends = records::ends(place.bootstrap, "clicks")?;
    ensure!(committed == ends, "it committed {committed:?} of {ends:?}");
    Ok(format!(
        "{RECORDS} records into a table and out of it, and the offsets of its group"
    ))
}
