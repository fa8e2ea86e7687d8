//! Records before and after a tool, by librdkafka.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::process::output;
use crate::toolbox::{python, workspace};

/// The values of `count` records, each different.
pub fn values(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("record {number:06}"))
        .collect()
}

/// Creates a topic with this many partitions.
pub fn create(bootstrap: &str, topic: &str, partitions: usize) -> Result<()> {
    call(&["create", bootstrap, topic, &partitions.to_string()]).map(drop)
}

/// Produces `count` records with those values and keys `key N`, N below ten.
pub fn produce(bootstrap: &str, topic: &str, count: usize) -> Result<()> {
    call(&["produce", bootstrap, topic, &count.to_string()]).map(drop)
}

/// The values of all records of a topic, sorted.
pub fn read(bootstrap: &str, topic: &str) -> Result<Vec<String>> {
    let text = call(&["read", bootstrap, topic])?;
    let mut values: Vec<String> = text.lines().map(str::to_owned).collect();
    values.sort();
    Ok(values)
}

/// The end of each partition of a topic.
pub fn ends(bootstrap: &str, topic: &str) -> Result<Vec<usize>> {
    numbers(&call(&["ends", bootstrap, topic])?)
}

/// Commits the ends of a topic for a group without members.
pub fn commit(bootstrap: &str, topic: &str, group: &str) -> Result<()> {
    call(&["commit", bootstrap, topic, group]).map(drop)
}

/// The committed offset of a group in each partition of a topic; 0 where there is none.
pub fn committed(bootstrap: &str, topic: &str, group: &str) -> Result<Vec<usize>> {
    numbers(&call(&["committed", bootstrap, topic, group])?)
}

fn numbers(lines: &str) -> Result<Vec<usize>> {
    lines.lines().map(|line| Ok(line.parse()?)).collect()
}

/// Checks that the lines are those values, each once, in any order.
pub fn check(what: &str, mut found: Vec<String>, expected: &[String]) -> Result<()> {
    found.sort();
    let first = found
        .iter()
        .zip(expected)
        .find(|(found, expected)| found != expected);
    ensure!(
        found == expected,
        "{what}: {} records where there were {}; the first that differs is {first:?}",
        found.len(),
        expected.len()
    );
    Ok(())
}

fn call(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(python::interpreter()?);
    command
        .arg("-B")
        .arg(workspace().join("tests/ecosystem/records.py"))
        .args(arguments);
    output(&mut command, Path::new("/dev/null"))
}
