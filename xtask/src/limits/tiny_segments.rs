//! One segment per batch in 1,000 partitions, up to the requested number or until the broker
//! refuses.
//!
//! Ottla runs with 1,024 file descriptors, Apache Kafka with 1,024 and with 20,000. The behaviour
//! at the limit is part of the result: a refusal with its reason, or a crashed process.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::connections;
use super::load::Topic;
use super::sheet::Sheet;
use super::trial::{Trial, yes_or_no};
use crate::measured::contender::{Contender, Setup};
use crate::measured::say;
use crate::time::now;

const PARTITIONS: u32 = 1000;
/// Room for one batch of one record, not for two.
const SEGMENT: &str = "internal.segment.bytes=150";
/// The number of rounds after the last checkpoint when the broker is killed.
const UNCLEAN_ROUNDS: u32 = 5;
/// The number of records read from each partition.
const EACH: u32 = 8;
/// The number of clients that stay connected during the load.
const CLIENTS: usize = 500;

/// Measures each broker.
pub fn run(brokers: &[Contender], segments: u32, left: &mut Vec<PathBuf>) -> Result<Sheet> {
    let mut sheet = Sheet::new("Tiny segments");
    for broker in brokers {
        let limits: &[u32] = match broker {
            Contender::Kafka => &[1024, 20_000],
            _ => &[1024],
        };
        for descriptors in limits {
            let column = format!("{}, {descriptors} descriptors", broker.title());
            say(&format!("tiny segments: {column}"))?;
            let setup = Setup {
                descriptors: Some(*descriptors),
                ..Setup::plain(*broker)
            };
            let mut trial = Trial::begin(&setup, column, &mut sheet)?;
            let survived = measure(&mut trial, segments)?;
            ensure!(
                survived || *broker != Contender::Ottla,
                "Ottla did not take {segments} segments; see {}",
                trial.running.directory().display()
            );
            left.push(trial.running.leave()?);
        }
    }
    Ok(sheet)
}

/// Returns whether the broker accepted everything.
fn measure(trial: &mut Trial<'_>, segments: u32) -> Result<bool> {
    let created = Topic::create(&mut trial.running, ("tiny", PARTITIONS), &[SEGMENT]);
    let Ok((mut topic, seconds)) = created else {
        trial.set("segments on disk", trial.on_disk()?.segments.to_string());
        trial.note("not all partitions are served within five minutes");
        tell_end(trial)?;
        return Ok(false);
    };
    trial.set("create 1,000 partitions, s", format!("{seconds:.1}"));
    trial.usage("empty")?;
    let written = topic.write(&trial.running, segments / PARTITIONS)?;
    let on_disk = trial.on_disk()?;
    trial.set("segments on disk", on_disk.segments.to_string());
    let rate = written.records as f64 / written.seconds;
    trial.set("segments a second", format!("{rate:.0}"));
    if let Some(reason) = written.refused {
        trial.note(&format!("refused: {}", first_line(&reason)));
        tell_end(trial)?;
        start_after_the_end(trial)?;
        return Ok(false);
    }
    trial.usage("full")?;
    let mebibytes = on_disk.bytes >> 20;
    trial.set("disk really used, MiB", mebibytes.to_string());
    trial.idle()?;
    read(trial, "reading 8 records of each partition, s", &topic)?;
    with_clients(trial, &mut topic)?;
    restart(trial, &mut topic)?;
    more_clients_than_descriptors(trial)?;
    Ok(true)
}

fn read(trial: &mut Trial<'_>, row: &str, topic: &Topic) -> Result<()> {
    let (_, seconds) = topic.read(&trial.running, EACH)?;
    trial.set(row, format!("{seconds:.2}"));
    Ok(())
}

/// Log files and clients compete for descriptors: both must be served.
fn with_clients(trial: &mut Trial<'_>, topic: &mut Topic) -> Result<()> {
    let clients = connections::open(trial.running.bootstrap(), CLIENTS);
    trial.set(
        "clients that are served beside the load, of 500",
        clients.len().to_string(),
    );
    trial.write(topic, 1)?;
    read(trial, "reading again with those clients, s", topic)?;
    let open = trial.running.process().open_files()?;
    trial.set("open files with those clients", format!("{open:.0}"));
    Ok(())
}

/// Stops and starts, cleanly and not.
fn restart(trial: &mut Trial<'_>, topic: &mut Topic) -> Result<()> {
    let took = trial.running.end(Signal::TERM)?;
    trial.set("clean stop, s", format!("{:.1}", took.as_secs_f64()));
    trial.start("start after a clean stop, s")?;
    trial.usage("started")?;
    trial.write(topic, UNCLEAN_ROUNDS)?;
    trial.running.end(Signal::KILL)?;
    trial.start("start after kill -9 right behind 5,000 segments, s")?;
    read(trial, "reading again after that, s", topic)
}

/// The last limit: a further client waits until others have closed, and the log says why.
fn more_clients_than_descriptors(trial: &mut Trial<'_>) -> Result<()> {
    let clients = connections::open(trial.running.bootstrap(), 20_000);
    trial.set("clients served at most", clients.len().to_string());
    let said = trial.running.said()?;
    let reason = said.lines().rev().find(|line| line.contains("descriptors"));
    let reason = reason.unwrap_or("nothing");
    trial.note(&format!("one client more waits; the log says: {reason}"));
    drop(clients);
    let address = trial.running.bootstrap().to_owned();
    trial
        .running
        .wait_until(|| connections::are_served(&address))
}

/// Notes the state of a broker after it refused.
fn tell_end(trial: &mut Trial<'_>) -> Result<()> {
    let alive = trial.running.is_alive()?;
    trial.set("alive after that", yes_or_no(alive));
    if alive {
        trial.usage("at the end")?;
    }
    let said = trial.running.said()?;
    let reasons = [
        "Too many open files",
        "Map failed",
        "OutOfMemory",
        "Shutdown broker because",
    ];
    let lines = said.lines();
    let mut telling = lines.filter(|line| reasons.iter().any(|reason| line.contains(reason)));
    if let Some(line) = telling.next() {
        let line = short(line, trial.running.directory());
        trial.note(&format!("its log says: {line}"));
    }
    Ok(())
}

fn start_after_the_end(trial: &mut Trial<'_>) -> Result<()> {
    trial.running.end(Signal::TERM)?;
    let start = now();
    let started = trial.running.start_again();
    let seconds = start.elapsed().as_secs_f64();
    let value = match started {
        Ok(()) => format!("{seconds:.1}"),
        Err(_) if trial.running.is_alive()? => format!("not within {seconds:.0}"),
        Err(_) => format!("ended after {seconds:.1}"),
    };
    trial.set("start after the end, s", value);
    Ok(())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A line of a log without the path of this run.
fn short(line: &str, directory: &Path) -> String {
    let line = line.replace(&directory.display().to_string(), "…");
    line.chars().take(300).collect()
}
