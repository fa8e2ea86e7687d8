//! `ottla consume`: records of topics, to stdout.
//!
//! Without a group every partition is read from where `--from` says; with one, from where the group stands.
//! Only what was printed and flushed counts as read for the group.

mod print;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use ottla_client::{
    Cluster, FetchOptions, FetchedRecords, Fetcher, GroupConsumer, GroupConsumerOptions,
    GroupOptions, Isolation, OffsetSpec, OutOfRange, TopicPartition,
};

use self::print::Style;
use self::start::From;
use super::produce::parse_escapes;
use crate::connect::{Connect, block_on};
use crate::output::{Output, stdout};

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
  ottla consume orders --from beginning --exit --output json | jq .value";

/// What `ottla consume` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topics.
    #[arg(required = true)]
    topics: Vec<String>,
    /// Read as a member of this group, and commit what was read.
    #[arg(short, long)]
    group: Option<String>,
    /// Where to begin: `beginning`, `end`, an offset, `-N` (the last N of each partition), or a time; with a group,
    /// only where it has committed nothing [default: end].
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    from: Option<From>,
    /// The same as --from beginning.
    #[arg(long, conflicts_with = "from")]
    from_beginning: bool,
    /// Read only this partition; may be given several times.
    #[arg(short, long = "partition", conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Stop after so many records.
    #[arg(short = 'n', long, value_name = "N")]
    max: Option<usize>,
    /// Stop at the end of what there was at the start, instead of waiting for more.
    #[arg(short, long)]
    exit: bool,
    /// Print keys.
    #[arg(short, long)]
    keys: bool,
    /// Print headers.
    #[arg(long)]
    headers: bool,
    /// Print timestamps.
    #[arg(long)]
    timestamps: bool,
    /// Print partitions and offsets.
    #[arg(long)]
    offsets: bool,
    /// What is printed between the parts of a record.
    #[arg(long, value_name = "TEXT", default_value = "\\t", value_parser = parse_escapes)]
    separator: String,
    /// What is printed for a record without a key or value.
    #[arg(long, value_name = "TEXT", default_value = "null")]
    null: String,
    /// Which records of transactions are read.
    #[arg(long, value_enum, default_value_t = IsolationArg::ReadCommitted)]
    isolation: IsolationArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum IsolationArg {
    ReadCommitted,
    ReadUncommitted,
}

/// Consumes until the end that was asked for, or Ctrl-C.
pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        let cluster = args.connect.cluster().await?;
        match &args.group {
            Some(group) => consume_as_member(args, cluster, group, output).await,
            None => consume_assigned(args, cluster, output).await,
        }
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

    fn sink(&self, output: Output) -> Sink<impl Write + use<>> {
        let style = Style {
            output,
            keys: self.keys,
            headers: self.headers,
            timestamps: self.timestamps,
            offsets: self.offsets,
            separator: self.separator.clone(),
            null: self.null.clone(),
        };
        Sink {
            out: stdout(),
            style,
            left: self.max,
        }
    }
}

/// Where records are printed, and how many more.
struct Sink<W> {
    out: W,
    style: Style,
    left: Option<usize>,
}

impl<W: Write> Sink<W> {
    /// Prints records until the maximum is reached; says where the reader then stands.
    fn print(&mut self, fetched: &FetchedRecords) -> Result<i64> {
        for record in &fetched.records {
            if self.left == Some(0) {
                return Ok(record.offset);
            }
            self.style
                .print(&mut self.out, &fetched.partition, record)?;
            self.left = self.left.map(|left| left - 1);
        }
        self.out.flush()?;
        Ok(fetched.next_offset)
    }

    fn is_full(&self) -> bool {
        self.left == Some(0)
    }
}

async fn consume_assigned(args: &Args, cluster: Arc<Cluster>, output: Output) -> Result<()> {
    let partitions = partitions(args, &cluster).await?;
    let isolation = args.isolation();
    let positions = start::positions(&cluster, &partitions, args.from(), isolation).await?;
    let mut ends = Ends::new(args, &cluster, &partitions).await?;
    let mut fetcher = Fetcher::new(cluster, fetch_options(args, OutOfRange::Earliest));
    for (partition, position) in &positions {
        ends.reached(partition, *position);
    }
    fetcher.assign(positions);
    let mut sink = args.sink(output);
    while !sink.is_full() && !ends.are_reached() {
        let arrived = tokio::select! {
            arrived = fetcher.poll() => arrived?,
            _ = tokio::signal::ctrl_c() => break,
        };
        for records in &arrived {
            sink.print(records)?;
            ends.reached(&records.partition, records.next_offset);
        }
    }
    Ok(sink.out.flush()?)
}

async fn consume_as_member(
    args: &Args,
    cluster: Arc<Cluster>,
    group: &str,
    output: Output,
) -> Result<()> {
    let out_of_range = match args.from() {
        From::Beginning => OutOfRange::Earliest,
        From::End => OutOfRange::Latest,
        From::Offset(_) | From::Last(_) | From::Time(_) => bail!(
            "a group begins where it has committed; `ottla group reset-offsets {group}` moves it, \
             --from takes only `beginning` or `end` here"
        ),
    };
    let ends = Ends::new(args, &cluster, &partitions(args, &cluster).await?).await?;
    let options = GroupConsumerOptions {
        group: GroupOptions {
            group: group.to_owned(),
            topics: args.topics.clone(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_mins(5),
        },
        fetch: fetch_options(args, out_of_range),
        commit_every: Some(COMMIT_EVERY),
    };
    let mut consumer = GroupConsumer::new(cluster, options);
    let mut sink = args.sink(output);
    while !sink.is_full() {
        let arrived = tokio::select! {
            arrived = consumer.poll() => arrived?,
            _ = tokio::signal::ctrl_c() => break,
        };
        for records in &arrived {
            let position = sink.print(records)?;
            consumer.rewind(&records.partition, position);
        }
        let positions = consumer.positions();
        if args.exit && positions.iter().all(|(of, at)| ends.is_past(of, *at)) {
            break;
        }
    }
    sink.out.flush()?;
    Ok(consumer.close().await?)
}

fn fetch_options(args: &Args, out_of_range: OutOfRange) -> FetchOptions {
    FetchOptions {
        isolation: args.isolation(),
        out_of_range,
        ..FetchOptions::default()
    }
}

/// The partitions that are read.
async fn partitions(args: &Args, cluster: &Cluster) -> Result<BTreeSet<TopicPartition>> {
    let mut partitions = BTreeSet::new();
    for name in &args.topics {
        let topic = cluster.topic(name).await?;
        for wanted in &args.partitions {
            if !topic.partitions.contains_key(wanted) {
                bail!(
                    "topic {name} has no partition {wanted}, only 0 to {}",
                    topic.partitions.len() - 1
                );
            }
        }
        let is_wanted =
            |index: &&i32| args.partitions.is_empty() || args.partitions.contains(index);
        let wanted = topic.partitions.keys().filter(is_wanted);
        partitions.extend(wanted.map(|index| TopicPartition::new(name, *index)));
    }
    Ok(partitions)
}

/// Where `--exit` stops: the ends as they were at the start. Nothing is ever reached without it.
struct Ends {
    open: Option<BTreeMap<TopicPartition, i64>>,
}

impl Ends {
    async fn new(
        args: &Args,
        cluster: &Cluster,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<Self> {
        if !args.exit {
            return Ok(Self { open: None });
        }
        let latest = cluster
            .list_offsets(partitions, OffsetSpec::Latest, args.isolation())
            .await?;
        let ends = latest
            .into_iter()
            .map(|(partition, at)| (partition, at.offset));
        Ok(Self {
            open: Some(ends.collect()),
        })
    }

    fn is_past(&self, partition: &TopicPartition, position: i64) -> bool {
        let open = self.open.as_ref();
        open.and_then(|open| open.get(partition))
            .is_none_or(|end| position >= *end)
    }

    fn reached(&mut self, partition: &TopicPartition, position: i64) {
        if self.is_past(partition, position)
            && let Some(open) = &mut self.open
        {
            open.remove(partition);
        }
    }

    fn are_reached(&self) -> bool {
        self.open.as_ref().is_some_and(BTreeMap::is_empty)
    }
}
