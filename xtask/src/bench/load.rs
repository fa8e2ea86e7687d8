//! The loads, and Kafka's performance tools that make them.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, maven};

/// What is written and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    record_bytes: u32,
    batch_bytes: u32,
    acks: &'static str,
    compression: &'static str,
    partitions: u32,
}

/// The sizes and settings that are compared: one base, and what differs from it one at a time.
pub fn all() -> Vec<Load> {
    let base = Load {
        record_bytes: 1024,
        batch_bytes: 64 * 1024,
        acks: "1",
        compression: "none",
        partitions: 1,
    };
    vec![
        base,
        Load {
            batch_bytes: 16 * 1024,
            ..base
        },
        Load {
            batch_bytes: 1_000_000,
            ..base
        },
        Load {
            acks: "all",
            ..base
        },
        Load {
            compression: "lz4",
            ..base
        },
        Load {
            partitions: 16,
            ..base
        },
        Load {
            record_bytes: 100,
            ..base
        },
        Load {
            record_bytes: 100,
            batch_bytes: 16 * 1024,
            acks: "all",
            partitions: 16,
            ..base
        },
    ]
}

/// What a producer saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Produced {
    pub megabytes_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
}

/// What a consumer saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Consumed {
    pub megabytes_per_second: f64,
}

impl Load {
    /// `1KiB, batch 64KiB, acks 1, none, 16 partitions`.
    pub fn name(&self) -> String {
        let size = |bytes: u32| match bytes {
            1_000_000 => "1MB".to_owned(),
            bytes if bytes % 1024 == 0 => format!("{}KiB", bytes / 1024),
            bytes => format!("{bytes}B"),
        };
        let plural = if self.partitions == 1 { "" } else { "s" };
        format!(
            "{}, batch {}, acks {}, {}, {} partition{plural}",
            size(self.record_bytes),
            size(self.batch_bytes),
            self.acks,
            self.compression,
            self.partitions
        )
    }

    /// Creates a topic for this load; the purpose tells its topics apart.
    pub fn create_topic(&self, bootstrap: &str, purpose: &str) -> Result<String> {
        let topic = format!(
            "{purpose}-{}-{}-{}-{}-{}",
            self.record_bytes, self.batch_bytes, self.acks, self.compression, self.partitions
        );
        let ottla = toolbox::workspace().join("target/release/ottla");
        let partitions = self.partitions.to_string();
        let mut create = Command::new(ottla);
        create.args(["topic", "create", &topic, "--partitions", &partitions]);
        output(create.args(["--bootstrap-server", bootstrap]))?;
        Ok(topic)
    }

    /// Writes it.
    pub fn produce(&self, bootstrap: &str, topic: &str, megabytes: u32) -> Result<Produced> {
        let mut tool = tool("ProducerPerformance")?;
        tool.args([
            "--topic",
            topic,
            "--num-records",
            &self.records(megabytes).to_string(),
        ]);
        tool.args([
            "--record-size",
            &self.record_bytes.to_string(),
            "--throughput",
            "-1",
        ]);
        tool.args(["--bootstrap-server", bootstrap, "--command-property"]);
        tool.arg(format!("acks={}", self.acks));
        tool.arg(format!("batch.size={}", self.batch_bytes));
        tool.arg(format!("compression.type={}", self.compression));
        // Room for full batches of every partition, and time for them to fill.
        tool.args([
            "linger.ms=5",
            "buffer.memory=67108864",
            "max.request.size=1048576",
        ]);
        // With acks 1 there is no idempotence; with all, Kafka's default has it.
        tool.arg(format!("enable.idempotence={}", self.acks == "all"));
        let text = output(&mut tool)?;
        parse_produced(&text)
            .with_context(|| format!("cannot read what the producer says:\n{text}"))
    }

    /// Reads it from the beginning.
    pub fn consume(&self, bootstrap: &str, topic: &str, megabytes: u32) -> Result<Consumed> {
        let mut tool = tool("ConsumerPerformance")?;
        tool.args([
            "--topic",
            topic,
            "--num-records",
            &self.records(megabytes).to_string(),
        ]);
        tool.args([
            "--bootstrap-server",
            bootstrap,
            "--hide-header",
            "--timeout",
            "60000",
        ]);
        let text = output(&mut tool)?;
        parse_consumed(&text)
            .with_context(|| format!("cannot read what the consumer says:\n{text}"))
    }

    fn records(&self, megabytes: u32) -> u64 {
        u64::from(megabytes) * 1_000_000 / u64::from(self.record_bytes)
    }
}

fn tool(name: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command
        .args(["-Xmx512m", "-cp"])
        .arg(maven::kafka_jars()?.join("*"));
    command.arg(format!("org.apache.kafka.tools.{name}"));
    Ok(command)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last line: `500 records sent, 12.3 records/sec (1.20 MB/sec), 2.0 ms avg latency, 9.00 ms max latency,
/// 1 ms 50th, 3 ms 95th, 9 ms 99th, 20 ms 99.9th.`
fn parse_produced(text: &str) -> Option<Produced> {
    let line = text.lines().rfind(|line| line.contains("99.9th"))?;
    let (_, rate) = line.split_once('(')?;
    let (mebibytes, rest) = rate.split_once(" MB/sec)")?;
    let quantile = |name: &str| -> Option<f64> {
        let part = rest
            .split(", ")
            .find(|part| part.trim_end_matches('.').ends_with(name))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Produced {
        megabytes_per_second: megabytes(mebibytes.parse().ok()?),
        p50_ms: quantile(" 50th")?,
        p99_ms: quantile(" 99th")?,
        p999_ms: quantile(" 99.9th")?,
    })
}

/// The one line: start, end, MB in all, MB/s, records in all, records/s, rebalance ms, fetch ms, MB/s while
/// fetching, records/s while fetching. Joining the group is not what is measured here: the last rate counts.
fn parse_consumed(text: &str) -> Option<Consumed> {
    let line = text.lines().rfind(|line| line.matches(", ").count() == 9)?;
    let mebibytes = line.split(", ").nth(8)?;
    Some(Consumed {
        megabytes_per_second: megabytes(mebibytes.parse().ok()?),
    })
}

/// Kafka's tools say MB and mean MiB.
fn megabytes(mebibytes: f64) -> f64 {
    mebibytes * 1.048_576
}

#[cfg(test)]
mod tests {
    use super::{all, parse_consumed, parse_produced};

    #[test]
    fn what_the_tools_print_is_read() {
        let text = "1 records sent, 1.0 records/sec (0.00 MB/sec), 9.0 ms avg latency, 9.0 ms max latency.\n\
                    500000 records sent, 102040.8 records/sec (100.00 MB/sec), 21.5 ms avg latency, 320.00 ms max \
                    latency, 1 ms 50th, 95 ms 95th, 199 ms 99th, 310 ms 99.9th.\n";
        let produced = parse_produced(text).unwrap();
        assert!((produced.megabytes_per_second - 104.857_6).abs() < 1e-6);
        assert_eq!(
            (produced.p50_ms, produced.p99_ms, produced.p999_ms),
            (1.0, 199.0, 310.0)
        );
        let text = "2026-11-24 03:00:00:000, 2026-11-24 03:00:02:000, 476.8, 238.4, 500000, 250000.0, 300, 1700, \
                    200.00, 294117.6\n";
        let consumed = parse_consumed(text).unwrap();
        assert!((consumed.megabytes_per_second - 209.715_2).abs() < 1e-6);
    }

    #[test]
    fn every_load_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = all().iter().map(super::Load::name).collect();
        assert_eq!(names.len(), all().len());
    }
}
