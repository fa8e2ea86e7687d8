//! Topics, records in all their partitions, and the same records read back: by `ottla` and `ottla-load`.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::measured::broker::Running;
use crate::measured::contender::program;
use crate::measured::output;
use crate::time::now;

/// The timeout of a request, in seconds.
const PATIENCE: &str = "300";
/// The timeout of a request that is repeated.
const SHORT_PATIENCE: &str = "10";

/// The number of partitions per request: Kafka refuses a request that makes more than 10,000
/// metadata records.
const AT_ONCE: u32 = 5000;

/// A topic that is written to in rounds: a batch of one record for each partition.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    pub partitions: u32,
    /// The number of rounds written.
    pub rounds: u32,
}

/// The outcome of writing.
#[derive(Debug)]
pub struct Written {
    pub records: u64,
    pub seconds: f64,
    /// Why the broker refused more.
    pub refused: Option<String>,
}

impl Topic {
    /// Creates it, and waits until it is served; returns the seconds.
    pub fn create(
        running: &mut Running,
        (name, partitions): (&str, u32),
        configs: &[&str],
    ) -> Result<(Self, f64)> {
        let start = now();
        let mut create = ottla(running, PATIENCE, &["topic", "create", name]);
        let mut there = partitions.min(AT_ONCE);
        create.args(["--partitions", &there.to_string()]);
        for config in configs {
            create.args(["--config", config]);
        }
        output(&mut create)?;
        while there < partitions {
            there = partitions.min(there + AT_ONCE);
            let more = ["topic", "alter", name, "--partitions", &there.to_string()];
            output(&mut ottla(running, PATIENCE, &more))?;
        }
        // Kafka answers CreateTopics before it serves the topic.
        let describe = ["topic", "describe", name, "--output", "json"];
        let mut describe = ottla(running, SHORT_PATIENCE, &describe);
        let is_led = |topic: &str| !topic.contains("\"leader\": null");
        running.wait_until(|| output(&mut describe).is_ok_and(|topic| is_led(&topic)))?;
        let topic = Self {
            name: name.to_owned(),
            partitions,
            rounds: 0,
        };
        Ok((topic, start.elapsed().as_secs_f64()))
    }

    /// Deletes it.
    pub fn delete(&self, running: &Running) -> Result<()> {
        output(&mut ottla(
            running,
            PATIENCE,
            &["topic", "delete", &self.name],
        ))
        .map(drop)
    }

    /// Writes rounds until all are written or the broker refuses.
    pub fn write(&mut self, running: &Running, rounds: u32) -> Result<Written> {
        let mut command = self.load("spread", running, (self.rounds, rounds));
        let report: Value = serde_json::from_str(&output(&mut command)?)?;
        let number = |name: &str| report[name].as_f64().context("a number is missing");
        let written = Written {
            records: report["records"].as_u64().context("no records")?,
            seconds: number("seconds")?,
            refused: report["refused"].as_str().map(str::to_owned),
        };
        // The rounds that all partitions have; after a refusal some partitions have one more.
        let whole = report["rounds"].as_u64().context("no rounds")?;
        self.rounds += u32::try_from(whole)?;
        Ok(written)
    }

    /// Reads records of each partition, from the oldest to the newest; returns their number and the
    /// seconds.
    pub fn read(&self, running: &Running, each: u32) -> Result<(u64, f64)> {
        let mut command = self.load("read-back", running, (0, self.rounds));
        command.args(["--each", &each.min(self.rounds).to_string()]);
        let report: Value = serde_json::from_str(&output(&mut command)?)?;
        let seconds = report["seconds"].as_f64().context("no seconds")?;
        Ok((report["records"].as_u64().context("no records")?, seconds))
    }

    fn load(&self, verb: &str, running: &Running, (from, rounds): (u32, u32)) -> Command {
        let mut command = program("ottla-load");
        // Errors are printed without a backtrace.
        command.env("RUST_LIB_BACKTRACE", "0");
        command.args([verb, "--bootstrap", running.bootstrap()]);
        command.args(["--topic", &self.name]);
        for (option, number) in [
            ("--partitions", self.partitions),
            ("--rounds", rounds),
            ("--from", from),
        ] {
            command.args([option, &number.to_string()]);
        }
        command
    }
}

/// A command of `ottla` against the broker, with this timeout in seconds.
pub fn ottla(running: &Running, patience: &str, arguments: &[&str]) -> Command {
    let mut command = program("ottla");
    command.args(arguments);
    command.args(["--bootstrap-server", running.bootstrap()]);
    command.args(["--timeout", patience]);
    command
}
