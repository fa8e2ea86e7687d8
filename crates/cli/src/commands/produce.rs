//! `ottla produce`: makes records of the lines or JSON documents of a file or of stdin.
//!
//! A reader thread passes lines through a bounded queue, so that a slow broker slows the reading.
//! When the input pauses, the lines read so far are sent at once: `tail -f log | ottla produce
//! logs` does not wait for a full batch.
//!
//! However it ends (a bad line, a signal, a lost broker), it first writes the lines before that
//! point as far as it can. The last message says how many are written and from which line to go on.

mod ending;
mod input;
mod ledger;
mod progress;
mod target;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow};
use bytes::Bytes;
use clap::ValueEnum;
use ottla_client::{Acks, Producer, ProducerOptions};
use ottla_protocol::records::Compression;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time;

use self::ending::Ending;
use self::input::{Format, LineParser, Lines, Parsing};
use self::ledger::{Failure, Ledger};
use self::progress::Progress;
use self::target::Target;
use crate::connect::{Connect, block_on, next_step};
use crate::failure::Advised;
use crate::instant;
use crate::output::{Output, message, print_json};
use crate::settings::parse_setting;
use crate::stop::Stop;

/// A batch that is not full is sent after this time.
const LINGER: Duration = Duration::from_millis(20);
/// While waiting, the progress line is updated this often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

const EXAMPLES: &str = "\
Examples:
  echo hello | ottla produce greetings                   a record without a key
  ottla produce orders orders.txt --key-separator :      lines like `42:two apples`
  ottla produce orders --key 42 --header source=shop     one key and header for all lines
  ottla produce orders --header-separator '\\t' -K '\\t'   lines like `source=shop,user=7<TAB>42<TAB>two apples`
  printf '42:' | ottla produce users --key-separator : --null-value ''
                                                         a tombstone: key 42, no value
  ottla consume orders --from beginning --exit --output json | ottla produce copy --input json
                                                         keys, values, headers and times survive";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topic. It is created if the broker's auto.create.topics.enable allows that.
    #[arg(required_unless_present = "named_topic")]
    topic: Option<String>,
    /// The file to read [default: stdin].
    file: Option<PathBuf>,
    /// The topic. The only argument is then the file.
    #[arg(short = 't', long = "topic", value_name = "TOPIC")]
    named_topic: Option<String>,
    /// Skip the lines before this one.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    from_line: u64,
    /// How the input is read.
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    input: Format,
    /// What separates the headers from the rest of a line. The headers come first, as
    /// KEY=VALUE,KEY=VALUE, as `ottla consume --headers` prints them.
    #[arg(long, value_name = "TEXT", value_parser = parse_escapes)]
    header_separator: Option<String>,
    /// What separates the key from the value in a line. A line without it is an error.
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = parse_escapes)]
    key_separator: Option<String>,
    /// The key of all records.
    #[arg(long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of all records; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE", value_parser = parse_setting)]
    headers: Vec<(String, String)>,
    /// A value with this text, of a record or header, becomes null (a tombstone on a compacted
    /// topic).
    #[arg(long, value_name = "TEXT")]
    null_value: Option<String>,
    /// The partition of all records [default: by murmur2 of the key, as Java's producer].
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// How batches are compressed.
    #[arg(short = 'z', long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// Which replicas must acknowledge a record.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// The size at which a batch is sent.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 512 * 1024,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000_000)
    )]
    batch_size: u32,
    /// Turn the idempotent producer off: a retried batch may then be written twice.
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
    /// None: the broker does not answer.
    #[value(name = "0")]
    Zero,
    /// The leader.
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas.
    All,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(produce(args, output))
}

async fn produce(args: &Args, output: Output) -> Result<()> {
    let target = Target::of(args)?;
    let mut stop = Stop::watch()?;
    let lines = input::read(target.file.as_deref())?;
    let Some(producer) = stop.unless(start(args, &target)).await? else {
        return Ok(());
    };
    let size = target.file.as_deref().and_then(input::size);
    let run = Run {
        producer,
        ledger: Ledger::new(args.from_line),
        partitions: BTreeMap::new(),
        progress: Progress::new(size, output == Output::Text),
        ending: Ending::new(stop),
        bad_line: None,
        is_acknowledged: args.acks != AcksArg::Zero,
    };
    run.run((args, &target), lines, output).await
}

async fn start(args: &Args, target: &Target) -> Result<Producer> {
    let cluster = args.connect.cluster().await?;
    target::check(&cluster, &target.topic, args.partition).await?;
    Ok(Producer::new(cluster, args.options()).await?)
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
            halts: true,
            ..ProducerOptions::default()
        }
    }

    fn parser(&self, topic: &str) -> LineParser {
        let bytes = |text: &String| Bytes::from(text.clone().into_bytes());
        let parsing = Parsing {
            format: self.input,
            topic: topic.to_owned(),
            partition: self.partition,
            key: self.key.as_ref().map(bytes),
            header_separator: self.header_separator.as_ref().map(bytes),
            key_separator: self.key_separator.as_ref().map(bytes),
            null_value: self.null_value.as_ref().map(bytes),
            headers: self
                .headers
                .iter()
                .map(|(key, value)| (bytes(key), bytes(value)))
                .collect(),
        };
        LineParser::new(parsing, self.from_line)
    }
}

/// One run of the command and what it has done so far.
struct Run {
    producer: Producer,
    ledger: Ledger,
    /// Records acknowledged, by partition.
    partitions: BTreeMap<i32, usize>,
    progress: Progress,
    ending: Ending,
    /// The number of the line that could not be parsed.
    bad_line: Option<u64>,
    is_acknowledged: bool,
}

/// The input has fewer lines than `--from-line` skips.
#[derive(Debug)]
struct TooShort {
    lines: u64,
    from_line: u64,
}

impl fmt::Display for TooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.lines == 1 { "" } else { "s" };
        let (lines, from_line) = (self.lines, self.from_line);
        write!(
            f,
            "the input has only {lines} line{plural}, and --from-line is {from_line}"
        )
    }
}

impl std::error::Error for TooShort {}

impl Run {
    async fn run(
        mut self,
        (args, target): (&Args, &Target),
        lines: mpsc::Receiver<Lines>,
        output: Output,
    ) -> Result<()> {
        let mut parser = args.parser(&target.topic);
        let read = self.send_all(lines, &mut parser, args.from_line).await;
        self.settle().await;
        self.progress.clear();
        self.end(read, target, output)
    }

    /// Passes the lines to the producer, until the input ends, a signal comes, or a line fails.
    async fn send_all(
        &mut self,
        mut lines: mpsc::Receiver<Lines>,
        parser: &mut LineParser,
        from_line: u64,
    ) -> Result<()> {
        let mut left_out = from_line - 1;
        while !self.must_end() {
            let received = tokio::select! {
                received = lines.recv() => received,
                () = time::sleep(LINGER), if self.producer.has_unsettled() => {
                    // The input pauses.
                    self.settle().await;
                    continue;
                }
                () = self.ending.wait() => return Ok(()),
            };
            let Some(chunk) = received else {
                let lines = from_line - 1 - left_out;
                return match left_out {
                    0 => Ok(()),
                    _ => Err(TooShort { lines, from_line }.into()),
                };
            };
            for line in chunk.context("cannot read the input")? {
                if left_out > 0 {
                    left_out -= 1;
                    continue;
                }
                while self.producer.is_full() && !self.must_end() {
                    self.step().await;
                }
                if self.must_end() {
                    return Ok(());
                }
                let bytes = line.len() + 1;
                let record = parser.parse(line, instant::now_ms()).inspect_err(|_| {
                    self.bad_line = Some(parser.line());
                })?;
                let (tell, producer, ending) = self.parts();
                let sending = ending.unless_given_up(tell, producer.send(&record));
                let Some(sent) = sending.await else {
                    return Ok(());
                };
                sent.with_context(|| format!("line {} of the input was not sent", parser.line()))?;
                self.ledger.add(bytes);
            }
            self.take_outcomes();
        }
        Ok(())
    }

    fn must_end(&self) -> bool {
        self.ending.signal().is_some() || self.ledger.failure().is_some()
    }

    /// The message for a slow end, and the parts that the caller needs while it waits.
    fn parts(&mut self) -> (impl FnMut(), &mut Producer, &mut Ending) {
        let Self {
            producer,
            ledger,
            progress,
            ending,
            ..
        } = self;
        let tell = || {
            progress.clear();
            message(&match ledger.open() {
                0 => "waiting for the broker to receive what was sent; a second signal gives up"
                    .to_owned(),
                1 => "waiting for 1 record to be acknowledged; a second signal gives up".to_owned(),
                open => format!(
                    "waiting for {open} records to be acknowledged; a second signal gives up"
                ),
            });
        };
        (tell, producer, ending)
    }

    /// Waits for the outcome of all records sent so far.
    async fn settle(&mut self) {
        self.producer.seal_all();
        while self.producer.has_unsettled() && !self.ending.is_given_up() {
            self.step().await;
        }
        // With acks=0 no answer tells that the broker stopped reading, and a connection that it
        // closes in a long pause would look like a loss.
        let (tell, producer, ending) = self.parts();
        let _ = ending.unless_given_up(tell, producer.flush()).await;
        self.print_notices();
    }

    /// Waits for the outcome of one request, or for [`LOOK_EVERY`].
    async fn step(&mut self) {
        let (tell, producer, ending) = self.parts();
        // After the timeout the same step goes on later, unless a second signal gave it up.
        let step = time::timeout(LOOK_EVERY, producer.step());
        let _ = ending.unless_given_up(tell, step).await;
        self.take_outcomes();
    }

    fn take_outcomes(&mut self) {
        for outcome in self.producer.take_outcomes() {
            if outcome.result.is_ok() {
                let of_partition = self.partitions.entry(outcome.partition.partition);
                *of_partition.or_default() += outcome.tickets.len();
            }
            self.ledger.settle(outcome);
        }
        self.print_notices();
        self.progress
            .show(self.ledger.written(), self.ledger.written_bytes());
    }

    fn print_notices(&mut self) {
        for notice in self.producer.take_notices() {
            self.progress.clear();
            message(&notice.to_string());
        }
    }

    /// Prints what was written; fails when that is not all of the input.
    fn end(self, read: Result<()>, target: &Target, output: Output) -> Result<()> {
        let balance = self.ledger.balance();
        let rate = self.progress.rate(self.ledger.written_bytes());
        let is_whole_input = self.ending.signal().is_none() || target.file.is_none();
        let is_complete = read.is_ok()
            && is_whole_input
            && !self.ending.is_given_up()
            && self.ledger.failure().is_none();
        if output == Output::Json {
            print_json(&json!({
                "topic": target.topic, "records": balance.written, "bytes": self.ledger.written_bytes(),
                "partitions": self.partitions, "complete": is_complete, "next_line": balance.next_line,
                "written_beyond_next_line": balance.written_beyond, "unknown": balance.unknown,
            }))?;
        } else {
            let partitions = self.partitions.len();
            let verb = if self.is_acknowledged {
                "wrote"
            } else {
                "sent"
            };
            let plural = |count: u64| if count == 1 { "" } else { "s" };
            let lines = match balance.lines() {
                lines if is_complete || lines.is_empty() => String::new(),
                lines => format!(": {lines}"),
            };
            message(&format!(
                "{verb} {} record{} to {partitions} partition{} of {} ({rate}){lines}",
                balance.written,
                plural(balance.written),
                plural(partitions as u64),
                target.topic
            ));
        }
        if is_complete {
            return Ok(());
        }
        let bad_line = self.bad_line;
        let failure = self.ledger.failure();
        let bad_line = failure.map_or(bad_line, Failure::bad_line);
        let error = self.why(read);
        if error.is::<TooShort>() {
            return Err(error);
        }
        let mended = next_step(&error).or_else(|| Some(format!("correct line {}", bad_line?)));
        let next = balance.next_step(mended, bad_line, &target.topic);
        Err(Advised { error, next }.into())
    }

    /// Why not all of the input was written.
    fn why(self, read: Result<()>) -> Error {
        let signal = self.ending.signal().unwrap_or("a signal");
        let is_given_up = self.ending.is_given_up();
        if let Some(failure) = self.ledger.into_failure() {
            let what = failure.what();
            return Error::from(failure.error).context(what);
        }
        match read {
            Err(error) => error,
            Ok(()) if is_given_up => {
                anyhow!("ended by {signal} before every record was acknowledged")
            }
            Ok(()) => anyhow!("ended by {signal} before the end of the input"),
        }
    }
}

/// Replaces `\t`, `\n`, `\0` and `\\`. A separator must not be empty.
pub fn parse_escapes(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a separator needs at least one character".to_owned());
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
