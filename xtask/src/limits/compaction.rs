//! Compacts one topic with the cleaner of each broker: the time, the CPU, and the size that is
//! left.
//!
//! The topic is written with a dirty ratio that never makes it due; then the ratio is lowered. Both
//! cleaners check for work ten times a second, so the time is that of the compaction. It counts as
//! done when the directory stops shrinking.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::load::{Topic, ottla};
use super::sheet::Sheet;
use super::trial::Trial;
use crate::measured::broker::Running;
use crate::measured::contender::{Contender, Setup};
use crate::measured::{output, say};
use crate::time::{now, pause};

const TOPIC: &str = "compacted";
const RECORDS: u64 = 2_000_000;
const KEYS: u64 = 200_000;
const VALUE_BYTES: usize = 100;
const CONFIGS: [&str; 4] = [
    "cleanup.policy=compact",
    "segment.bytes=16777216",
    "min.cleanable.dirty.ratio=1.0",
    "file.delete.delay.ms=0",
];
/// The timeout, in seconds.
const PATIENCE: &str = "300";
const LOOK: Duration = Duration::from_millis(100);
/// The compaction is over after this many checks without a change of size.
const STILL: u32 = 20;
const MAX_LOOKS: u32 = 3000;

/// Measures each broker.
pub fn run(brokers: &[Contender]) -> Result<Sheet> {
    let mut sheet = Sheet::new("Compaction of 2,000,000 records with 200,000 keys");
    for broker in brokers {
        let column = broker.title();
        say(&format!("compaction: {column}"))?;
        let mut trial = Trial::begin(&Setup::plain(*broker), column, &mut sheet)?;
        measure(&mut trial)?;
        trial.running.stop()?;
    }
    Ok(sheet)
}

fn measure(trial: &mut Trial<'_>) -> Result<()> {
    let running = &mut trial.running;
    let eager = ["config", "set", "--brokers", "log.cleaner.backoff.ms=100"];
    output(&mut ottla(running, PATIENCE, &eager))?;
    Topic::create(running, (TOPIC, 1), &CONFIGS)?;
    fill(running)?;
    let full = trial.on_disk()?.bytes;
    let cpu = trial.running.process().cpu_seconds()?;
    let start = now();
    let due = [
        "config",
        "set",
        "--topic",
        TOPIC,
        "min.cleanable.dirty.ratio=0.01",
    ];
    output(&mut ottla(&trial.running, PATIENCE, &due))?;
    let (mut last, mut took, mut still) = (full, Duration::ZERO, 0);
    for _ in 0..MAX_LOOKS {
        pause(LOOK);
        let bytes = trial.on_disk()?.bytes;
        if bytes == last {
            still += 1;
        } else {
            (last, took, still) = (bytes, start.elapsed(), 0);
        }
        if still > STILL && last < full / 2 {
            break;
        }
    }
    ensure!(
        last < full / 2,
        "nothing was compacted: {full} bytes, then {last}"
    );
    let process = trial.running.process();
    let cpu = process.cpu_seconds()? - cpu;
    let peak = process.peak_resident_mib()?;
    trial.set("on disk before, MiB", (full >> 20).to_string());
    trial.set("on disk after, MiB", (last >> 20).to_string());
    trial.set("compacted after, s", format!("{:.1}", took.as_secs_f64()));
    trial.set("processor, s", format!("{cpu:.2}"));
    trial.set("memory at most, MiB", format!("{peak:.0}"));
    Ok(())
}

/// Writes the records: every key ten times, in an order that mixes them.
fn fill(running: &Running) -> Result<()> {
    let arguments = ["produce", TOPIC, "--key-separator", ":", "--acks", "1"];
    let mut command = ottla(running, PATIENCE, &arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    let mut lines = String::new();
    for number in 0..RECORDS {
        // The step has no common factor with the number of keys, so each key comes up.
        let key = number * 7_919 % KEYS;
        let _ = writeln!(lines, "key-{key:08}:{number:0VALUE_BYTES$}");
        if lines.len() > 1 << 16 {
            input.write_all(lines.as_bytes())?;
            lines.clear();
        }
    }
    input.write_all(lines.as_bytes())?;
    drop(input);
    if !child.wait()?.success() {
        bail!("the records could not be written");
    }
    Ok(())
}
