//! PySpark: a batch and a structured stream read a topic and write another.

use std::process::Command;

use anyhow::{Result, ensure};

use super::process::output;
use super::{Place, records};
use crate::toolbox::{maven, python, workspace};

/// The newest whose connector is on Maven too.
const VERSION: &str = "4.2.0";
const RECORDS: usize = 10_000;

/// Runs the program on a local Spark.
pub fn run(place: &Place<'_>) -> Result<String> {
    let connector = ("org.apache.spark", "spark-sql-kafka-0-10_2.13", VERSION);
    let jars = maven::jars(&format!("spark-kafka-{VERSION}"), &[connector])?;
    let interpreter = python::with("pyspark", &format!("pyspark=={VERSION}"))?;
    records::create(place.bootstrap, "sparks", 4)?;
    records::produce(place.bootstrap, "sparks", RECORDS)?;
    let mut command = Command::new(interpreter);
    command
        .arg("-B")
        .arg(workspace().join("tests/ecosystem/spark.py"))
        .arg(place.bootstrap)
        .arg(jars)
        .arg(place.directory)
        .arg(RECORDS.to_string());
    let said = output(&mut command, &place.directory.join("spark.log"))?;
    ensure!(said.lines().last() == Some("done"), "it ended with {said}");
    let values = records::values(RECORDS);
    for topic in ["batched", "streamed"] {
        records::check(topic, records::read(place.bootstrap, topic)?, &values)?;
    }
    Ok(format!("{RECORDS} records by a batch and by a stream"))
}
