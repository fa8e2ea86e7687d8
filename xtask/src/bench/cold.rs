//! The load `cold reads`: latency at a low rate, alone and beside consumers of records that are not in the page cache.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};

use super::own::{self, Frames, LATENCY_WARM_UP, Latency};
use crate::measured::contender::program;

/// The name of the load.
pub const NAME: &str = "cold reads";
/// Consumers of cold records, each of one partition.
pub const READERS: u32 = 2;
/// Upper bound of the seconds that they read.
const SECONDS: u32 = 60;

/// The frames with which the cold records are written. They are large, so that a broker that syncs each frame is fast
/// enough.
pub const FRAMES: Frames = Frames {
    name: NAME,
    records: 960,
    in_flight: 5,
    connections: READERS,
    percent: 100,
};

/// Removes a topic from the page cache.
pub fn evict(data: &Path, topic: &str) -> Result<()> {
    for partition in 0..READERS {
        let directory = data.join(format!("{topic}-{partition}"));
        let listed = fs::read_dir(&directory);
        for entry in listed.with_context(|| format!("cannot list {}", directory.display()))? {
            let file = File::open(entry?.path())?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// Measures the latency beside the cold readers; returns names and milliseconds, and the MB that they read a second.
pub fn beside(
    bootstrap: &str,
    (topic, cold_topic): (&str, &str),
    latency: &Latency,
) -> Result<(Vec<(String, f64)>, f64)> {
    let mut load = program("ottla-load");
    load.args(["cold", "--bootstrap", bootstrap, "--topic", topic]);
    load.args([
        "--cold-topic",
        cold_topic,
        "--readers",
        &READERS.to_string(),
    ]);
    latency.add_arguments(&mut load, (SECONDS, LATENCY_WARM_UP));
    let report = own::report(&crate::measured::output(&mut load)?)?;
    let rate = report["cold_mb_per_second"].as_f64();
    let rate = rate.with_context(|| format!("no rate of the cold readers in {report}"))?;
    Ok((own::quantiles(&report)?, rate))
}
