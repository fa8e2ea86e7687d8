//! `ottla consume`: prints the records of topics to stdout.
//!
//! Without a group, each partition is read from where `--from` says; with a group, from the
//! committed offset. The command waits for a broker that is down and for a partition without a
//! leader. Partitions that are added later are read from their beginning. The group's offsets cover
//! only records that were written to stdout. However the command ends, it commits these offsets and
//! leaves the group, unless a signal interrupts that too.

mod ends;
mod format;
mod headers;
mod print;
mod reader;
mod start;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use ottla_client::{
    Cluster, FetchOptions, FetchedRecords, Fetcher, GroupConsumer, GroupConsumerOptions,
    GroupOptions, Isolation, Notice, OutOfRange, TopicPartition,
};
use tokio::time;

use self::ends::Ends;
use self::format::Format;
use self::print::Style;
use self::reader::Reader;
use self::start::From;
use self::writer::Writer;
use super::produce::parse_escapes;
use crate::connect::{Connect, block_on};
use crate::output::{Output, message};
use crate::partitions;
use crate::patterns::{self, Chosen};
use crate::stop::Stop;

/// The size of one write to stdout.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a write that has begun may still take after a signal.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// When leaving the group takes longer, the user is told what the command waits for.
const QUIET_END: Duration = Duration::from_secs(1);
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
const COMMIT_EVERY: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  ottla consume orders                             records from now on, until Ctrl-C
  ottla consume orders --from beginning --exit     all there are, then exit
  ottla consume orders --from 1h --keys --timestamps
                                                   from an hour ago, with keys and times
  ottla consume orders --partition 0 --from 1234 -n 1
                                                   one record: offset 1234 of partition 0
  ottla consume orders --group billing             as a member of a group, which commits what it read
  ottla consume orders -f '%p:%o %k=%s\\n'          each record by a format of your own
  ottla consume orders --from beginning --exit --output json | jq .value";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topics, or patterns ('orders-*'). A pattern stands for the topics that exist when the
    /// command starts.
    #[arg(required_unless_present = "named_topics")]
    topics: Vec<String>,
    /// A topic or a pattern, as above; may be given several times.
    #[arg(short = 't', long = "topic", value_name = "TOPIC")]
    named_topics: Vec<String>,
    /// Read as a member of this group, and commit what was read.
    #[arg(short, long)]
    group: Option<String>,
    /// Where to begin: `beginning`, `end`, an offset, `-N` (the last N records of each partition),
    /// or a time [default: end]. With a group it holds only where the group has committed nothing.
    /// Partitions added later are read from their beginning.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    from: Option<From>,
    /// The same as --from beginning.
    #[arg(long, conflicts_with = "from")]
    from_beginning: bool,
    /// Read only this partition; may be given several times.
    #[arg(short, long = "partition", conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Stop after this many records.
    #[arg(short = 'n', long, value_name = "N")]
    max: Option<usize>,
    /// Stop at the end that the partitions had at the start, instead of waiting for more records. A
    /// broker that is down is then waited for no longer than --timeout.
    #[arg(short, long)]
    exit: bool,
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        help = format::HELP,
        conflicts_with_all = ["keys", "headers", "timestamps", "offsets", "separator"]
    )]
    format: Option<Format>,
    /// Print keys.
    #[arg(short, long)]
    keys: bool,
    /// Print headers as KEY=VALUE,KEY=VALUE. A backslash escapes `,`, `=`, the separator and the
    /// backslash itself.
    #[arg(long)]
    headers: bool,
    /// Print timestamps.
    #[arg(long)]
    timestamps: bool,
    /// Print partitions and offsets.
    #[arg(long)]
    offsets: bool,
    /// The text between the parts of a record.
    #[arg(long, value_name = "TEXT", default_value = "\\t", value_parser = parse_escapes)]
    separator: String,
    /// The text for a missing key or value.
    #[arg(long, value_name = "TEXT", default_value = "null")]
    null: String,
    /// Which records of transactions to read.
    #[arg(long, value_enum, default_value_t = IsolationArg::ReadCommitted)]
    isolation: IsolationArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum IsolationArg {
    ReadCommitted,
    ReadUncommitted,
}

/// Consumes until the requested end, a signal, or until the reader of stdout closes it.
pub fn run(args: &Args, output: Output) -> Result<()> {
    if args.format.is_some() && output == Output::Json {
        bail!("--format prints text; leave it out, or --output json");
    }
    block_on(async {
        let mut stop = Stop::watch()?;
        let Some((reader, ends)) = stop.unless(start(args)).await? else {
            return Ok(());
        };
        let consumer = Run {
            reader,
            ends,
            stop,
            writer: Writer::start()?,
            style: args.style(output),
            left: args.max,
            is_stopped: false,
        };
        consumer.run(args).await
    })
}

impl Args {
    fn isolation(&self) -> Isolation {
        match self.isolation {
            IsolationArg::ReadCommitted => Isolation::ReadCommitted,
            IsolationArg::ReadUncommitted => Isolation::ReadUncommitted,
        }
    }

    fn from(&self) -> From {
        if self.from_beginning {
            From::Beginning
        } else {
            self.from.unwrap_or(From::End)
        }
    }

    /// The topics that the names and patterns stand for, each once.
    async fn topics(&self, cluster: &Cluster) -> Result<Vec<String>> {
        let given = [&self.topics[..], &self.named_topics[..]].concat();
        let chosen = patterns::topics(cluster, &given).await?;
        match chosen.unmatched.first() {
            Some(pattern) => Err(Chosen::unmatched_error("topic", pattern)),
            None => Ok(chosen.names),
        }
    }

    fn style(&self, output: Output) -> Style {
        Style {
            output,
            keys: self.keys,
            headers: self.headers,
            timestamps: self.timestamps,
            offsets: self.offsets,
            separator: self.separator.clone(),
            null: self.null.clone(),
            format: self.format.clone(),
        }
    }
}

/// Connects, and finds where to begin and where to end.
async fn start(args: &Args) -> Result<(Reader, Option<Ends>)> {
    let cluster = args.connect.cluster().await?;
    let topics = args.topics(&cluster).await?;
    let chosen = choose(args, &cluster, &topics).await?;
    for partition in &chosen.leaderless {
        message(&format!(
            "{partition} has no leader and is read as soon as it has one; `ottla cluster` shows what is wrong"
        ));
    }
    let ends = if args.exit {
        let (all, leaderless) = (&chosen.partitions, &chosen.leaderless);
        Some(Ends::new(&cluster, all, leaderless, args.isolation()).await?)
    } else {
        None
    };
    let reader = match &args.group {
        Some(group) => as_member(args, cluster, group, topics)?,
        None => assigned(args, cluster, &chosen, &topics).await?,
    };
    Ok((reader, ends))
}

async fn assigned(
    args: &Args,
    cluster: Arc<Cluster>,
    chosen: &ChosenPartitions,
    topics: &[String],
) -> Result<Reader> {
    let from = args.from();
    let led = &chosen.partitions - &chosen.leaderless;
    let positions = start::positions(&cluster, &led, from, args.isolation()).await?;
    let out_of_range = match from {
        From::End => OutOfRange::Latest,
        From::Beginning | From::Offset(_) | From::Last(_) | From::Time(_) => OutOfRange::Earliest,
    };
    let mut fetcher = Fetcher::new(cluster, fetch_options(args, out_of_range));
    fetcher.assign(positions);
    for partition in &chosen.leaderless {
        fetcher.add(partition.clone(), from.later());
    }
    if args.partitions.is_empty() && !args.exit {
        for topic in topics {
            fetcher.watch(topic);
        }
    }
    Ok(Reader::Assigned(Box::new(fetcher)))
}

fn as_member(
    args: &Args,
    cluster: Arc<Cluster>,
    group: &str,
    topics: Vec<String>,
) -> Result<Reader> {
    let out_of_range = match args.from() {
        From::Beginning => OutOfRange::Earliest,
        From::End => OutOfRange::Latest,
        From::Offset(_) | From::Last(_) | From::Time(_) => bail!(
            "a group begins where it has committed; `ottla group reset-offsets {group}` moves it, \
             --from takes only `beginning` or `end` here"
        ),
    };
    let options = GroupConsumerOptions {
        group: GroupOptions {
            group: group.to_owned(),
            topics,
            instance_id: None,
            session_timeout: SESSION_TIMEOUT,
            rebalance_timeout: Duration::from_mins(5),
        },
        fetch: fetch_options(args, out_of_range),
        commit_every: Some(COMMIT_EVERY),
    };
    Ok(Reader::Member(Box::new(GroupConsumer::new(
        cluster, options,
    ))))
}

/// One run of the command.
struct Run {
    reader: Reader,
    /// Where to stop; `None` without `--exit`.
    ends: Option<Ends>,
    stop: Stop,
    writer: Writer,
    style: Style,
    /// How many records may still be printed; `None` without `--max`.
    left: Option<usize>,
    is_stopped: bool,
}

impl Run {
    async fn run(mut self, args: &Args) -> Result<()> {
        let read = self.read().await;
        let closed = self.close(args).await;
        match (read, closed) {
            (Err(error), Err(second)) => {
                message(&format!("{second:#}"));
                Err(error)
            }
            (read, closed) => read.and(closed),
        }
    }

    /// Reads until the maximum, the end, a signal, or until the reader of stdout closes it.
    async fn read(&mut self) -> Result<()> {
        while self.left != Some(0) && !self.is_stopped {
            if let Some(ends) = &mut self.ends {
                if self.stop.unless(ends.look_up()).await?.is_none() {
                    return Ok(());
                }
                if ends.are_reached(&self.reader) {
                    return Ok(());
                }
            }
            let arrived = tokio::select! {
                arrived = self.reader.poll() => arrived,
                _ = self.stop.wait() => return Ok(()),
                () = self.writer.closed() => return Ok(()),
            };
            self.show_notices()?;
            self.print(&arrived?).await?;
        }
        Ok(())
    }

    fn show_notices(&mut self) -> Result<()> {
        for notice in self.reader.take_notices() {
            let is_other_topic = matches!(
                notice,
                Notice::TopicGone { .. } | Notice::TopicRecreated { .. }
            );
            if is_other_topic && self.ends.is_some() {
                bail!("the end cannot be reached: {notice}");
            }
            message(&notice.to_string());
        }
        Ok(())
    }

    /// Prints the records that arrived. Those that are not printed, because the write failed or the
    /// maximum is reached, count as not read.
    async fn print(&mut self, arrived: &[FetchedRecords]) -> Result<()> {
        let mut result = Ok(());
        for records in arrived {
            let read_to = if result.is_ok() && self.left != Some(0) && !self.is_stopped {
                let mut read_to = records.position;
                result = self.print_partition(records, &mut read_to).await;
                read_to
            } else {
                records.position
            };
            self.reader.rewind(&records.partition, read_to);
        }
        result
    }

    async fn print_partition(&mut self, records: &FetchedRecords, read_to: &mut i64) -> Result<()> {
        let mut chunk = Vec::new();
        let mut formatted_to = *read_to;
        for record in &records.records {
            if self.left == Some(0) {
                break;
            }
            self.style.print(&mut chunk, &records.partition, record)?;
            self.left = self.left.map(|left| left - 1);
            formatted_to = record.offset + 1;
            if chunk.len() >= CHUNK_BYTES {
                if !self.write(std::mem::take(&mut chunk)).await? {
                    return Ok(());
                }
                *read_to = formatted_to;
            }
        }
        let last = records.records.last();
        if last.is_none_or(|last| last.offset < formatted_to) {
            formatted_to = records.next_offset;
        }
        if chunk.is_empty() || self.write(chunk).await? {
            *read_to = formatted_to;
        }
        Ok(())
    }

    /// Writes the chunk. Returns false when a signal came before the write was done; no write
    /// begins after a signal.
    async fn write(&mut self, chunk: Vec<u8>) -> Result<bool> {
        if self.is_stopped {
            return Ok(false);
        }
        let mut writing = std::pin::pin!(self.writer.write(chunk));
        let written = tokio::select! {
            written = &mut writing => Some(written),
            () = self.reader.keep_alive() => None,
            _ = self.stop.wait() => {
                self.is_stopped = true;
                time::timeout(LAST_WRITE, writing).await.ok()
            }
        };
        match written {
            None => Ok(false),
            Some(written) => written.map(|()| true).context("cannot write to stdout"),
        }
    }

    /// Commits and leaves the group. A signal interrupts this once it has taken [`QUIET_END`].
    async fn close(mut self, args: &Args) -> Result<()> {
        let Some(group) = &args.group else {
            return Ok(());
        };
        let mut closing = std::pin::pin!(self.reader.close());
        let closed = tokio::select! {
            closed = &mut closing => closed,
            () = time::sleep(QUIET_END) => {
                message(&format!(
                    "waiting for the broker to commit and to leave group {group}; a signal ends this at once"
                ));
                tokio::select! {
                    closed = closing => closed,
                    signal = self.stop.wait() => bail!(
                        "ended by {signal}: group {group} counts this member as alive for up to {} s, and what was \
                         printed since the last commit will be read again",
                        SESSION_TIMEOUT.as_secs()
                    ),
                }
            }
        };
        closed.with_context(|| {
            format!(
                "cannot leave group {group} with its offsets committed; what was printed since the last commit \
                 will be read again"
            )
        })
    }
}

fn fetch_options(args: &Args, out_of_range: OutOfRange) -> FetchOptions {
    FetchOptions {
        isolation: args.isolation(),
        out_of_range,
        patience: args.exit.then(|| args.connect.patience()),
        ..FetchOptions::default()
    }
}

/// The partitions that are read.
#[derive(Debug, Default)]
struct ChosenPartitions {
    partitions: BTreeSet<TopicPartition>,
    /// Those of them that have no leader now.
    leaderless: BTreeSet<TopicPartition>,
}

async fn choose(args: &Args, cluster: &Cluster, topics: &[String]) -> Result<ChosenPartitions> {
    let mut chosen = ChosenPartitions::default();
    for name in topics {
        let topic = cluster.topic(name).await?;
        for wanted in &args.partitions {
            if !topic.partitions.contains_key(wanted) {
                return Err(partitions::missing(&topic, wanted));
            }
        }
        for (index, partition) in &topic.partitions {
            if !args.partitions.is_empty() && !args.partitions.contains(index) {
                continue;
            }
            let name = TopicPartition::new(name, *index);
            if partition.leader.is_none() {
                chosen.leaderless.insert(name.clone());
            }
            chosen.partitions.insert(name);
        }
    }
    Ok(chosen)
}
