//! 10,000 partitions on one node, as ten topics and as one: creates, writes and reads them, stops
//! and starts the broker.

use std::path::PathBuf;

use anyhow::Result;
use rustix::process::Signal;

use super::load::Topic;
use super::sheet::Sheet;
use super::trial::Trial;
use crate::measured::contender::{Contender, Setup};
use crate::measured::say;

const SHAPES: [(u32, u32); 2] = [(10, 1000), (1, 10_000)];
const PARTITIONS: f64 = 10_000.0;

/// Measures each broker with each shape.
pub fn run(brokers: &[Contender], left: &mut Vec<PathBuf>) -> Result<Sheet> {
    let mut sheet = Sheet::new("10,000 partitions");
    for broker in brokers {
        for (topics, partitions) in SHAPES {
            let column = format!("{}, {topics} × {partitions}", broker.title());
            say(&format!("partitions: {column}"))?;
            let mut trial = Trial::begin(&Setup::plain(*broker), column, &mut sheet)?;
            measure(&mut trial, topics, partitions)?;
            left.push(trial.running.leave()?);
        }
    }
    Ok(sheet)
}

fn measure(trial: &mut Trial<'_>, topics: u32, partitions: u32) -> Result<()> {
    let before = trial.usage("without topics")?;
    let mut created = Vec::new();
    let mut seconds = 0.0;
    for number in 0..topics {
        let name = format!("many-{number}");
        let (topic, took) = Topic::create(&mut trial.running, (&name, partitions), &[])?;
        created.push(topic);
        seconds += took;
    }
    trial.set("create, s", format!("{seconds:.1}"));
    let empty = trial.usage("empty")?;
    let kibibytes = (empty.resident_mib - before.resident_mib) * 1024.0 / PARTITIONS;
    trial.set(
        "memory for an empty partition, KiB",
        format!("{kibibytes:.1}"),
    );
    write(trial, "produce to all, s", &mut created)?;
    write(trial, "produce to all again, s", &mut created)?;
    read(trial, "read back from all, s", &created)?;
    let full = trial.usage("written to")?;
    let kibibytes = (full.resident_mib - before.resident_mib) * 1024.0 / PARTITIONS;
    trial.set("memory for a partition, KiB", format!("{kibibytes:.1}"));
    let on_disk = trial.on_disk()?;
    trial.set("disk really used, MiB", (on_disk.bytes >> 20).to_string());
    trial.idle()?;
    let took = trial.running.end(Signal::TERM)?;
    trial.set("clean stop, s", format!("{:.1}", took.as_secs_f64()));
    trial.start("start after a clean stop, s")?;
    trial.usage("started")?;
    write(trial, "produce to all after it, s", &mut created)?;
    trial.running.end(Signal::KILL)?;
    trial.start("start after kill -9, s")?;
    read(trial, "read back from all after it, s", &created)
}

fn write(trial: &mut Trial<'_>, row: &str, topics: &mut [Topic]) -> Result<()> {
    let mut seconds = 0.0;
    for topic in topics {
        seconds += trial.write(topic, 1)?;
    }
    trial.set(row, format!("{seconds:.2}"));
    Ok(())
}

fn read(trial: &mut Trial<'_>, row: &str, topics: &[Topic]) -> Result<()> {
    let mut seconds = 0.0;
    for topic in topics {
        seconds += topic.read(&trial.running, topic.rounds)?.1;
    }
    trial.set(row, format!("{seconds:.2}"));
    Ok(())
}
