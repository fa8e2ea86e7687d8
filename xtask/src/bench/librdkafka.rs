//! Loads by librdkafka's own generator.
//!
//! Its records are slices of a text that compresses as events in JSON do (`events`).

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::load::Load;
use crate::toolbox::rdkafka_performance;

/// The limit of one command argument. It is larger than LZ4's window, so that no record repeats
/// another one in the window.
const EVENTS_BYTES: usize = 120_000;

/// Writes a load; returns records per second up to the last acknowledgement.
pub fn produce(load: &Load, bootstrap: &str, topic: &str, records: u64) -> Result<f64> {
    let mut tool = tool(bootstrap, topic, records)?;
    tool.args(["-P", "-s", &load.record_bytes.to_string()]);
    tool.args(["-m", &events(EVENTS_BYTES)]);
    tool.args(["-a", load.acks, "-z", load.compression]);
    tool.args(["-X", &format!("batch.size={}", load.batch_bytes)]);
    // The settings of the Java producer: five requests in flight, idempotence with acks=all.
    tool.args(["-X", "max.in.flight=5", "-X", "linger.ms=5"]);
    tool.arg("-X");
    tool.arg(format!("enable.idempotence={}", load.acks == "all"));
    // Room for full batches of small records, of every partition.
    tool.args(["-X", "batch.num.messages=1000000"]);
    tool.args(["-X", "queue.buffering.max.messages=1000000"]);
    tool.args(["-X", "queue.buffering.max.kbytes=131072"]);
    // Its exit status counts queued events as undelivered records, so only its output is used.
    let text = crate::measured::words(&tool.output()?);
    let (delivered, rate) = parse_produced(&text)
        .with_context(|| format!("cannot read what the producer says:\n{text}"))?;
    ensure!(
        delivered == records,
        "{delivered} of {records} records were delivered:\n{text}"
    );
    Ok(rate)
}

/// Reads a load from the beginning; returns records per second since the first record.
pub fn consume(load: &Load, bootstrap: &str, topic: &str, records: u64) -> Result<f64> {
    let mut tool = tool(bootstrap, topic, records)?;
    tool.args(["-C", "-o", "beginning"]);
    for partition in 0..load.partitions {
        tool.args(["-p", &partition.to_string()]);
    }
    let text = crate::measured::output(&mut tool)?;
    let (consumed, rate) = parse_consumed(&text)
        .with_context(|| format!("cannot read what the consumer says:\n{text}"))?;
    ensure!(
        consumed == records,
        "{consumed} of {records} records were read:\n{text}"
    );
    Ok(rate)
}

fn tool(bootstrap: &str, topic: &str, records: u64) -> Result<Command> {
    let mut command = super::within_limit(&rdkafka_performance::binary()?);
    command.args(["-b", bootstrap, "-t", topic, "-c", &records.to_string()]);
    Ok(command)
}

/// The last line like `% 5 messages produced (500 bytes), 5 delivered (offset 4, 0 failed) in 20ms: 250 msgs/s and 0.02
/// MB/s, ...`: records delivered, and records a second.
fn parse_produced(text: &str) -> Option<(u64, f64)> {
    let line = text
        .lines()
        .rfind(|line| line.contains(" messages produced "))?;
    let (_, delivered) = line.split_once("bytes), ")?;
    let (delivered, _) = delivered.split_once(' ')?;
    Some((delivered.parse().ok()?, rate(line)?))
}

/// The last line like `% 5 messages (500 bytes) consumed in 20ms: 250 msgs/s (0.02 MB/s)`: records, and records a second.
fn parse_consumed(text: &str) -> Option<(u64, f64)> {
    let line = text.lines().rfind(|line| line.contains(" consumed in "))?;
    let (consumed, _) = line.strip_prefix("% ")?.split_once(' ')?;
    Some((consumed.parse().ok()?, rate(line)?))
}

fn rate(line: &str) -> Option<f64> {
    let (before, _) = line.split_once(" msgs/s")?;
    before.rsplit_once(' ')?.1.parse().ok()
}

/// Lines of JSON with the repetition that events have: the same keys, few values of some, random ones of others.
fn events(bytes: usize) -> String {
    const ACTIONS: [&str; 5] = ["view", "search", "add_to_cart", "checkout", "sign_in"];
    const AGENTS: [&str; 3] = [
        "Mozilla/5.0 (X11; Linux x86_64)",
        "Mozilla/5.0 (iPhone)",
        "curl/8.14.1",
    ];
    let mut random = Sequence(1);
    let mut text = String::with_capacity(bytes + 300);
    while text.len() < bytes {
        let (id, token) = (random.next(), random.next());
        let (user, item) = (random.below(100_000), random.below(20_000));
        let second = random.below(86_400);
        let _ = writeln!(
            text,
            "{{\"id\":\"{id:016x}\",\"at\":\"2026-01-31T{:02}:{:02}:{:02}.{:03}Z\",\"user\":\"u{user}\",\
             \"action\":\"{}\",\"item\":{item},\"price\":{}.{:02},\"agent\":\"{}\",\"token\":\"{token:016x}\"}}",
            second / 3600,
            second / 60 % 60,
            second % 60,
            random.below(1000),
            random.one_of(&ACTIONS),
            random.below(500),
            random.below(100),
            random.one_of(&AGENTS),
        );
    }
    text.truncate(bytes);
    text
}

/// Numbers that look random and are the same in every run (a linear congruential generator, its high bits mixed in).
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let at = self.below(words.len() as u64);
        usize::try_from(at).map_or("", |at| words[at])
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENTS_BYTES, events, parse_consumed, parse_produced};

    #[test]
    fn what_the_tool_prints_is_read() {
        let text = "% Sending 100 messages of size 1024 bytes\n\
             % 100 messages produced (102400 bytes), 90 delivered (offset 89, 0 failed) in 1000ms: 90 msgs/s and 0.09 \
             MB/s, 0 produce failures, 10 in queue, none compression\n\
             % 100 messages produced (102400 bytes), 100 delivered (offset 99, 0 failed) in 1174ms: 85 msgs/s and 0.09 \
             MB/s, 0 produce failures, 0 in queue, none compression\n";
        assert_eq!(parse_produced(text), Some((100, 85.0)));
        let text = "% 0 messages (0 bytes) consumed in 0ms: 0 msgs/s (0.00 MB/s)\n\
             % 100 messages (102400 bytes) consumed in 543ms: 184 msgs/s (0.19 MB/s)\n\
             % Average application fetch latency: 11us\n";
        assert_eq!(parse_consumed(text), Some((100, 184.0)));
    }

    #[test]
    fn events_do_not_repeat_within_what_lz4_sees() {
        let text = events(EVENTS_BYTES);
        assert_eq!(text.len(), EVENTS_BYTES);
        let lines: std::collections::BTreeSet<_> = text.lines().collect();
        assert_eq!(lines.len(), text.lines().count());
    }
}
