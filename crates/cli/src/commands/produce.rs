//! `ottla produce`: lines or JSON documents from a file or stdin become records.
//!
//! A reader thread hands lines over through a bounded queue, so that a slow broker slows the reading. When the
//! input pauses, what was read is sent at once: `tail -f log | ottla produce logs` does not wait for a full batch.

mod input;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use clap::ValueEnum;
use ottla_client::{Acks, Producer, ProducerOptions};
use ottla_protocol::records::Compression;
use serde_json::json;
use tokio::time::{self, Instant};

use self::input::{Format, LineParser, Parsing};
use super::topic::parse_setting;
use crate::connect::{Connect, block_on};
use crate::instant;
use crate::output::{Output, message, print_json};

/// What is read waits at most so long for more.
const LINGER: Duration = Duration::from_millis(20);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  echo hello | ottla produce greetings                   a record without a key
  ottla produce orders orders.txt --key-separator :      lines like `42:two apples`
  ottla produce orders --key 42 --header source=shop     one key and header for all lines
  printf '42:' | ottla produce users --key-separator : --null-value ''
                                                         a tombstone: key 42, no value
  ottla consume orders --from beginning --exit --output json | ottla produce copy --input json
                                                         keys, values, headers and times survive";

/// What `ottla produce` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topic; created if the broker's auto.create.topics.enable allows it.
    topic: String,
    /// The file to read [default: stdin].
    file: Option<PathBuf>,
    /// How the input is read.
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    input: Format,
    /// What separates the key from the value in a line; a line without it is an error.
    #[arg(long, value_name = "TEXT", value_parser = parse_escapes)]
    key_separator: Option<String>,
    /// The key of all records.
    #[arg(short = 'K', long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of all records; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE", value_parser = parse_setting)]
    headers: Vec<(String, String)>,
    /// A value that stands for none (a tombstone on a compacted topic).
    #[arg(long, value_name = "TEXT")]
    null_value: Option<String>,
    /// The partition of all records [default: by murmur2 of the key, as Java's producer].
    #[arg(short, long)]
    partition: Option<i32>,
    /// How batches are compressed.
    #[arg(short = 'z', long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// Whose acknowledgement to wait for.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// The size at which a batch is sent.
    #[arg(long, value_name = "BYTES", default_value_t = 512 * 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    batch_size: u32,
    /// Do not let the broker recognise repeated batches.
    #[arg(long)]
    no_idempotence: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    /// Nobody's.
    #[value(name = "0")]
    Zero,
    /// The leader's.
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas'.
    All,
}

/// Produces the input.
pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(produce(args, output))
}

async fn produce(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let producer = Producer::new(cluster, args.options()).await?;
    let mut run = Run {
        producer,
        written: BTreeMap::new(),
        bytes: 0,
        started: Instant::now(),
        last_progress: Instant::now(),
    };
    run.produce_all(args).await?;
    run.report(&args.topic, output)
}

impl Args {
    fn options(&self) -> ProducerOptions {
        ProducerOptions {
            acks: match self.acks {
                AcksArg::Zero => Acks::Zero,
                AcksArg::Leader => Acks::Leader,
                AcksArg::All => Acks::All,
            },
            compression: match self.compression {
                Codec::None => Compression::None,
                Codec::Gzip => Compression::Gzip,
                Codec::Snappy => Compression::Snappy,
                Codec::Lz4 => Compression::Lz4,
                Codec::Zstd => Compression::Zstd,
            },
            batch_bytes: self.batch_size as usize,
            idempotent: self.acks == AcksArg::All && !self.no_idempotence,
            delivery_timeout: self.connect.patience(),
            ..ProducerOptions::default()
        }
    }

    fn parser(&self) -> LineParser {
        let bytes = |text: &String| Bytes::from(text.clone().into_bytes());
        LineParser::new(Parsing {
            format: self.input,
            topic: self.topic.clone(),
            partition: self.partition,
            key: self.key.as_ref().map(bytes),
            key_separator: self.key_separator.as_ref().map(bytes),
            null_value: self.null_value.as_ref().map(bytes),
            headers: self
                .headers
                .iter()
                .map(|(key, value)| (bytes(key), bytes(value)))
                .collect(),
        })
    }
}

/// One run of the command and what it has done so far.
struct Run {
    producer: Producer,
    /// Records acknowledged, by partition.
    written: BTreeMap<i32, usize>,
    bytes: usize,
    started: Instant,
    last_progress: Instant,
}

impl Run {
    async fn produce_all(&mut self, args: &Args) -> Result<()> {
        let mut parser = args.parser();
        let mut lines = input::read(args.file.as_deref())?;
        loop {
            let mut received = time::timeout(LINGER, lines.recv()).await;
            if received.is_err() {
                // The input pauses.
                self.settle().await?;
                received = Ok(lines.recv().await);
            }
            let Ok(Some(chunk)) = received else { break };
            for line in chunk.context("cannot read the input")? {
                let record = parser.parse(line, instant::now_ms())?;
                self.bytes += record.value.as_ref().map_or(0, Bytes::len);
                self.producer.send(&record).await?;
            }
            self.take_outcomes()?;
            self.show_progress();
        }
        self.settle().await
    }

    async fn settle(&mut self) -> Result<()> {
        if self.producer.has_unsettled() {
            self.producer.flush().await;
        }
        self.take_outcomes()
    }

    fn take_outcomes(&mut self) -> Result<()> {
        for outcome in self.producer.take_outcomes() {
            let count = outcome.tickets.len();
            let first = outcome.tickets.first().map_or(0, |ticket| ticket.0 + 1);
            outcome.result.map_err(|error| {
                let done: usize = self.written.values().sum();
                anyhow!(error).context(format!(
                    "{count} records from input record {first} on were not written ({done} were before)"
                ))
            })?;
            *self.written.entry(outcome.partition.partition).or_default() += count;
        }
        Ok(())
    }

    fn show_progress(&mut self) {
        if self.last_progress.elapsed() >= PROGRESS_EVERY && io::stderr().is_terminal() {
            self.last_progress = Instant::now();
            let records: usize = self.written.values().sum();
            message(&format!("{records} records, {}", self.rate()));
        }
    }

    fn rate(&self) -> String {
        let megabytes = self.bytes as f64 / 1e6;
        let seconds = self.started.elapsed().as_secs_f64();
        format!(
            "{megabytes:.1} MB, {:.1} MB/s",
            megabytes / seconds.max(1e-3)
        )
    }

    fn report(&self, topic: &str, output: Output) -> Result<()> {
        let records: usize = self.written.values().sum();
        if output == Output::Json {
            return print_json(&json!({
                "topic": topic, "records": records, "bytes": self.bytes, "partitions": self.written,
            }));
        }
        let partitions = self.written.len();
        let plural = if partitions == 1 { "" } else { "s" };
        message(&format!(
            "wrote {records} records to {partitions} partition{plural} of {topic} ({})",
            self.rate()
        ));
        Ok(())
    }
}

/// `\t`, `\n`, `\0` and `\\` as in other tools; a separator may not be empty.
pub fn parse_escapes(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a separator has at least one character".to_owned());
    }
    let mut parsed = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            parsed.push(letter);
            continue;
        }
        parsed.push(match letters.next() {
            Some('t') => '\t',
            Some('n') => '\n',
            Some('0') => '\0',
            Some('\\') => '\\',
            _ => {
                return Err(format!(
                    "{text:?} has an escape other than \\t, \\n, \\0 and \\\\"
                ));
            }
        });
    }
    Ok(parsed)
}
