//! Loads by Kafka's own performance tools.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::load::Load;
use crate::toolbox::maven;

/// Writes a load; returns records per second.
pub fn produce(load: &Load, bootstrap: &str, topic: &str, records: u64) -> Result<f64> {
    let mut tool = tool("ProducerPerformance")?;
    tool.args(["--topic", topic, "--num-records", &records.to_string()]);
    tool.args(["--record-size", &load.record_bytes.to_string()]);
    tool.args(["--throughput", "-1", "--bootstrap-server", bootstrap]);
    tool.arg("--command-property");
    tool.arg(format!("acks={}", load.acks));
    tool.arg(format!("batch.size={}", load.batch_bytes));
    tool.arg(format!("compression.type={}", load.compression));
    // Room for full batches of every partition, and time for them to fill.
    tool.args(["linger.ms=5", "buffer.memory=67108864"]);
    tool.arg("max.request.size=1048576");
    // acks=1 allows no idempotence; acks=all has it by Kafka's default.
    tool.arg(format!("enable.idempotence={}", load.acks == "all"));
    let text = crate::measured::output(&mut tool)?;
    let (sent, rate) = parse_produced(&text)
        .with_context(|| format!("cannot read what the producer says:\n{text}"))?;
    ensure!(
        sent == records,
        "{sent} of {records} records were sent:\n{text}"
    );
    Ok(rate)
}

/// Reads a load from the beginning; returns records per second of fetching.
pub fn consume(bootstrap: &str, topic: &str, records: u64) -> Result<f64> {
    let mut tool = tool("ConsumerPerformance")?;
    tool.args(["--topic", topic, "--num-records", &records.to_string()]);
    tool.args(["--bootstrap-server", bootstrap]);
    tool.args(["--hide-header", "--timeout", "60000"]);
    let text = crate::measured::output(&mut tool)?;
    let (consumed, rate) = parse_consumed(&text)
        .with_context(|| format!("cannot read what the consumer says:\n{text}"))?;
    ensure!(
        consumed == records,
        "{consumed} of {records} records were read:\n{text}"
    );
    Ok(rate)
}

fn tool(name: &str) -> Result<Command> {
    let mut command = super::within_limit(Path::new("java"));
    command.args(["-Xmx512m", "-cp"]);
    command.arg(maven::kafka_jars_of(maven::MEASURED_VERSION)?.join("*"));
    command.arg(format!("org.apache.kafka.tools.{name}"));
    Ok(command)
}

/// The last line: `500 records sent, 12.3 records/sec (1.20 MB/sec), 2.0 ms avg latency, 9.00 ms max latency,
/// 1 ms 50th, 3 ms 95th, 9 ms 99th, 20 ms 99.9th.`
fn parse_produced(text: &str) -> Option<(u64, f64)> {
    let line = text.lines().rfind(|line| line.contains("99.9th"))?;
    let (sent, rest) = line.split_once(" records sent, ")?;
    let (rate, _) = rest.split_once(" records/sec")?;
    Some((sent.parse().ok()?, rate.parse().ok()?))
}

/// The one line: start, end, MB in all, MB/s, records in all, records/s, rebalance ms, fetch ms,
/// MB/s while fetching, records/s while fetching. The last rate counts, because it leaves out the
/// time to join the group.
fn parse_consumed(text: &str) -> Option<(u64, f64)> {
    let line = text.lines().rfind(|line| line.matches(", ").count() == 9)?;
    let fields: Vec<_> = line.split(", ").collect();
    Some((fields.get(4)?.parse().ok()?, fields.get(9)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{parse_consumed, parse_produced};

    #[test]
    fn what_the_tools_print_is_read() {
        let text = "1 records sent, 1.0 records/sec (0.00 MB/sec), 9.0 ms avg latency, 9.0 ms max latency.\n\
                    500000 records sent, 102040.8 records/sec (100.00 MB/sec), 21.5 ms avg latency, 320.00 ms max \
                    latency, 1 ms 50th, 95 ms 95th, 199 ms 99th, 310 ms 99.9th.\n";
        assert_eq!(parse_produced(text), Some((500_000, 102_040.8)));
        let text = "2026-11-24 03:00:00:000, 2026-11-24 03:00:02:000, 476.8, 238.4, 500000, 250000.0, 300, 1700, \
                    200.00, 294117.6\n";
        assert_eq!(parse_consumed(text), Some((500_000, 294_117.6)));
    }
}
