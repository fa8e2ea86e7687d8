//! Loads by `ottla-load`, our own generator: latency from the intended send time, and frames encoded once.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::measured::contender::program;

/// Seconds of a latency load before it counts.
pub const LATENCY_WARM_UP: u32 = 3;

/// The rate at which no record is due while another is on its way.
const ALONE: u32 = 100;

/// Records of 1 KiB at a fixed rate, each sent when it is due, and a consumer that waits for them.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub acks: &'static str,
    /// Records a second.
    rate: u32,
    partitions: u32,
}

impl Latency {
    /// As many records as many producers send: records that are due together share requests and
    /// syncs.
    pub fn busy(acks: &'static str) -> Self {
        Self {
            acks,
            rate: 2000,
            partitions: 16,
        }
    }

    /// One record at a time on an idle broker: no other record triggers the sync that it waits for.
    pub fn alone(acks: &'static str) -> Self {
        Self {
            acks,
            rate: ALONE,
            partitions: 1,
        }
    }

    /// The same with one partition: the generator sends to one leader.
    pub fn on_one_partition(self) -> Self {
        Self {
            partitions: 1,
            ..self
        }
    }

    /// Its name on the command line.
    pub fn name(&self) -> String {
        let name = if self.rate == ALONE {
            "end to end"
        } else {
            "latency"
        };
        format!("{name}, acks {}", self.acks)
    }

    /// The caption of its table.
    pub fn caption(&self) -> String {
        let Self {
            rate, partitions, ..
        } = self;
        let plural = if *partitions == 1 { "" } else { "s" };
        format!("Latency at {rate} records/s of 1 KiB over {partitions} partition{plural}, ms")
    }

    /// A few records, so that the latency depends on the disk and on the other consumers.
    pub fn beside_cold_reads() -> Self {
        Self {
            acks: "all",
            rate: 200,
            partitions: 1,
        }
    }

    /// The arguments of `ottla-load` for it.
    pub fn add_arguments(&self, load: &mut Command, (seconds, warm_up): (u32, u32)) {
        let acks = self.acks;
        load.args(["--acks", if acks == "all" { "-1" } else { acks }]);
        for (option, number) in [
            ("--partitions", self.partitions),
            ("--rate", self.rate),
            ("--seconds", seconds),
            ("--warm-up", warm_up),
        ] {
            load.args([option, &number.to_string()]);
        }
    }

    pub fn partitions(&self) -> u32 {
        self.partitions
    }
}

/// Frames as producers of different batching send them.
#[derive(Debug, Clone, Copy)]
pub struct Frames {
    pub name: &'static str,
    /// Records of 1 KiB in a frame.
    pub records: u32,
    pub in_flight: u32,
    pub connections: u32,
    /// The share of the load's megabytes that is sent, in percent, because small frames take long.
    pub percent: u32,
}

pub const FRAMES: [Frames; 3] = [
    Frames {
        name: "1 MB frames, 5 in flight on 1 connection",
        records: 960,
        in_flight: 5,
        connections: 1,
        percent: 200,
    },
    Frames {
        name: "16 KiB frames, 5 in flight on each of 16 connections",
        records: 16,
        in_flight: 5,
        connections: 16,
        percent: 200,
    },
    Frames {
        name: "1 KiB frames, 1 in flight on each of 64 connections",
        records: 1,
        in_flight: 1,
        connections: 64,
        percent: 25,
    },
];

/// What a latency load measured: a name and milliseconds.
pub fn latency(
    bootstrap: &str,
    topic: &str,
    latency: &Latency,
    seconds: u32,
) -> Result<Vec<(String, f64)>> {
    let acks = latency.acks;
    let mut load = program("ottla-load");
    load.args(["latency", "--bootstrap", bootstrap, "--topic", topic]);
    latency.add_arguments(&mut load, (seconds, LATENCY_WARM_UP));
    let report = report(&crate::measured::output(&mut load)?)?;
    let figures = quantiles(&report)?.into_iter();
    let named = |(name, value)| (format!("acks {acks}: {name}"), value);
    Ok(figures.map(named).collect())
}

/// The quantiles of a report: a name and milliseconds. Those that were not measured are left out.
pub fn quantiles(report: &Value) -> Result<Vec<(String, f64)>> {
    let mut figures = Vec::new();
    for (part, name) in [
        ("produce", "produce"),
        ("end_to_end", "end to end"),
        ("lateness_of_generator", "the generator itself"),
    ] {
        for (quantile, suffix) in [("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9")] {
            if report[part]["count"] == 0 {
                continue;
            }
            let value = report[part][quantile].as_f64();
            let value = value.with_context(|| format!("no {part} {quantile} in {report}"))?;
            figures.push((format!("{name}, {suffix}"), value));
        }
    }
    Ok(figures)
}

/// The cost of sending frames.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub seconds: f64,
    pub gigabytes: f64,
}

/// Sends this many megabytes of frames.
pub fn frames(frames: &Frames, bootstrap: &str, topic: &str, megabytes: u32) -> Result<Sent> {
    let mut load = program("ottla-load");
    load.args(["frames", "--bootstrap", bootstrap, "--topic", topic]);
    for (option, number) in [
        ("--connections", frames.connections),
        ("--in-flight", frames.in_flight),
        ("--records", frames.records),
        ("--megabytes", megabytes),
    ] {
        load.args([option, &number.to_string()]);
    }
    let report = report(&crate::measured::output(&mut load)?)?;
    let number = |field: &str| {
        report[field]
            .as_f64()
            .with_context(|| format!("no {field}"))
    };
    Ok(Sent {
        seconds: number("seconds")?,
        gigabytes: number("bytes")? / 1e9,
    })
}

pub fn report(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("cannot read what ottla-load says: {text}"))
}
