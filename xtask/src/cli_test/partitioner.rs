//! `ottla produce` against Kafka's own Java producer: each of 10,000 keys must go to the same partition.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Stage;
use crate::toolbox::{self, maven};

const KEYS: usize = 10_000;
const PARTITIONS: &str = "13";

/// Runs the comparison.
pub fn run(stage: &Stage) -> Result<()> {
    for topic in ["placed-by-java", "placed-by-ottla"] {
        succeed(stage.command("ottla")?.args([
            "topic",
            "create",
            topic,
            "--partitions",
            PARTITIONS,
        ]))?;
    }
    let placed = stage.scratch.join("placed.jsonl");
    let source = toolbox::workspace().join("tests/cli/java/PlaceKeys.java");
    let mut java = stage.command("java")?;
    java.arg("-cp")
        .arg(maven::kafka_jars()?.join("*"))
        .arg(source);
    java.args([stage.bootstrap(), "placed-by-java", &KEYS.to_string()]);
    java.stdout(File::create(&placed)?);
    succeed(&mut java)?;
    let mut produce = stage.command("ottla")?;
    produce
        .args(["produce", "placed-by-ottla", "--input", "json"])
        .arg(&placed);
    succeed(&mut produce)?;
    let consumed = stage.scratch.join("consumed.jsonl");
    let mut consume = stage.command("ottla")?;
    consume.args([
        "consume",
        "placed-by-ottla",
        "--from",
        "beginning",
        "--exit",
        "--output",
        "json",
    ]);
    consume.stdout(File::create(&consumed)?);
    succeed(&mut consume)?;
    compare(&consumed)?;
    Ok(fs::remove_file(placed)?)
}

/// The value of each record is the partition that the Java producer chose for its key.
fn compare(consumed: &std::path::Path) -> Result<()> {
    let mut count = 0;
    for line in BufReader::new(File::open(consumed)?).lines() {
        let record: Value = serde_json::from_str(&line?)?;
        let by_java = record["value"].as_str().context("a value")?;
        let by_ottla = record["partition"].to_string();
        if by_java != by_ottla {
            bail!(
                "key {} is in partition {by_ottla}, Java puts it in {by_java}",
                record["key"]
            );
        }
        count += 1;
    }
    if count != KEYS {
        bail!("{count} records came back of {KEYS}");
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
