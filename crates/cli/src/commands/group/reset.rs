//! `ottla group reset-offsets`: sets the committed offsets of a group without members.
//!
//! Like Kafka's own tool it only shows the change unless `--execute` is given. A new offset is
//! always within the partition: one outside is replaced by the nearest end, with a message. Offsets
//! can be exported to a file and read from one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ottla_client::{Cluster, ErrorCode, Isolation, OffsetSpec, TopicPartition};
use serde_json::{Value, json};

use super::offset_file;
use crate::connect::Connect;
use crate::instant;
use crate::offset_range::OffsetRange;
use crate::output::{Output, Table, message, print_json, print_line};
use crate::partitions;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The group.
    #[arg(value_name = "GROUP")]
    group: String,
    /// A topic, some of its partitions, or a pattern of topics; may be given several times.
    #[arg(
        short,
        long = "topic",
        value_name = "TOPIC[:PARTITION,…]",
        required_unless_present_any = ["all_topics", "from_file"]
    )]
    topics: Vec<String>,
    /// All topics for which the group has committed offsets.
    #[arg(long, conflicts_with_all = ["topics", "from_file"])]
    all_topics: bool,
    #[command(flatten)]
    target: Target,
    /// Make the change, instead of only showing it.
    #[arg(long)]
    execute: bool,
    /// Only show the change, or why it would be refused. This is the default.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Print the new offsets as CSV, for --from-file or kafka-consumer-groups.
    #[arg(long)]
    export: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// To the first record.
    #[arg(long)]
    to_earliest: bool,
    /// To the end: the group reads only records that are written later.
    #[arg(long)]
    to_latest: bool,
    /// To this offset.
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// To the first record at or after this time (2026-11-24T10:30:00Z, or 15m for fifteen minutes ago).
    #[arg(long, value_name = "TIME")]
    to_datetime: Option<String>,
    /// Forward by this many records; backward if negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the committed offset, moved into the partition if it is outside.
    #[arg(long)]
    to_current: bool,
    /// To the offsets of a CSV file (topic,partition,offset) that --export or kafka-consumer-groups
    /// wrote; `-` is stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "topics")]
    from_file: Option<PathBuf>,
}

/// A partition's offsets before and after.
struct Change {
    partition: TopicPartition,
    current: Option<i64>,
    new: i64,
}

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let changes = plan(args, &cluster).await?;
    if args.execute {
        refuse_active(&cluster, &args.group).await?;
        let new = changes
            .iter()
            .map(|change| (change.partition.clone(), change.new));
        cluster.commit(&args.group, &new.collect()).await?;
    }
    if args.export {
        for change in &changes {
            print_line(&offset_file::line(&change.partition, change.new))?;
        }
    } else {
        print(&changes, args.execute, output)?;
    }
    if !args.execute {
        refuse_active(&cluster, &args.group).await?;
        message("nothing was changed; --execute changes it");
    }
    Ok(())
}

/// Refuses a group with active members: their next commit would overwrite the new offsets.
async fn refuse_active(cluster: &Cluster, group: &str) -> Result<()> {
    match cluster.describe_group(group).await {
        Ok(found) if found.members.is_empty() => Ok(()),
        Ok(found) => bail!(
            "group {group} has {} active members; stop them first (`ottla group describe {group}` shows who they are)",
            found.members.len()
        ),
        // The commit creates a group that does not exist.
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn plan(args: &Args, cluster: &Cluster) -> Result<Vec<Change>> {
    let committed = cluster.committed(&args.group, None).await?;
    let committed: BTreeMap<_, _> = committed
        .into_iter()
        .map(|(of, at)| (of, at.offset))
        .collect();
    let from_file = match &args.target.from_file {
        Some(path) => offset_file::parse(&read(path)?, &args.group)?,
        None => BTreeMap::new(),
    };
    let partitions: BTreeSet<_> = if args.target.from_file.is_some() {
        exist(cluster, from_file.keys()).await?;
        from_file.keys().cloned().collect()
    } else if args.all_topics {
        committed.keys().cloned().collect()
    } else {
        partitions::named(cluster, &args.topics).await?
    };
    if partitions.is_empty() {
        bail!(
            "group {} has committed nothing; name the topics with --topic",
            args.group
        );
    }
    refuse_leaderless(cluster, &partitions).await?;
    let offsets = |spec| cluster.list_offsets(&partitions, spec, Isolation::ReadUncommitted);
    let earliest = offsets(OffsetSpec::Earliest).await?;
    let latest = offsets(OffsetSpec::Latest).await?;
    let at_time = match &args.target.to_datetime {
        Some(text) => {
            let at = instant::parse(text, instant::now_ms())?;
            offsets(OffsetSpec::Timestamp(at)).await?
        }
        None => BTreeMap::new(),
    };
    let mut changes = Vec::new();
    for partition in &partitions {
        let range = OffsetRange {
            start: earliest[partition].offset,
            end: latest[partition].offset,
        };
        let current = committed.get(partition).copied();
        let at_time = at_time.get(partition).map(|at| at.offset);
        let wanted = if let Some(offset) = from_file.get(partition) {
            *offset
        } else {
            let target = &args.target;
            target.offset(range, current, at_time, partition)?
        };
        let new = range.nearest(wanted);
        if let Some(why) = range.why_moved(partition, wanted) {
            message(&format!("{why}: the new offset is {new}"));
        }
        changes.push(Change {
            partition: partition.clone(),
            current,
            new,
        });
    }
    Ok(changes)
}

/// The range of a partition without a leader is unknown. As in Kafka's own tool, the command then
/// changes nothing at all.
async fn refuse_leaderless(cluster: &Cluster, partitions: &BTreeSet<TopicPartition>) -> Result<()> {
    let standing = super::lag::standing(cluster, partitions).await?;
    if standing.leaderless.is_empty() {
        return Ok(());
    }
    let names = standing.leaderless.iter().map(ToString::to_string);
    let (have, them) = match standing.leaderless.len() {
        1 => ("has", "it"),
        _ => ("have", "them"),
    };
    bail!(
        "{} {have} no leader: `ottla cluster` shows what is wrong, --topic TOPIC:0,2 moves the group without {them}",
        names.collect::<Vec<_>>().join(", ")
    )
}

impl Target {
    fn offset(
        &self,
        range: OffsetRange,
        current: Option<i64>,
        at_time: Option<i64>,
        partition: &TopicPartition,
    ) -> Result<i64> {
        let needs_current = || match current {
            Some(current) => Ok(current),
            None => bail!(
                "the group has committed nothing for {partition}; give --to-earliest or --to-latest"
            ),
        };
        if self.to_earliest {
            Ok(range.start)
        } else if let Some(offset) = self.to_offset {
            Ok(offset)
        } else if let Some(by) = self.shift_by {
            Ok(needs_current()?.saturating_add(by))
        } else if self.to_current {
            needs_current()
        } else if let Some(offset) = at_time.filter(|offset| *offset >= 0) {
            Ok(offset)
        } else {
            // Either `--to-latest`, or all records are older than the time.
            Ok(range.end)
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.with_context(|| format!("cannot read {}", path.display()))
}

/// Fails for the first partition that does not exist.
async fn exist(cluster: &Cluster, partitions: impl Iterator<Item = &TopicPartition>) -> Result<()> {
    for partition in partitions {
        let topic = cluster.topic(&partition.topic).await?;
        if !topic.partitions.contains_key(&partition.partition) {
            return Err(partitions::missing(&topic, partition.partition));
        }
    }
    Ok(())
}

fn print(changes: &[Change], is_done: bool, output: Output) -> Result<()> {
    if output == Output::Json {
        let changes = changes.iter().map(|change| {
            json!({
                "topic": change.partition.topic,
                "partition": change.partition.partition,
                "current_offset": change.current,
                "new_offset": change.new,
            })
        });
        return print_json(&json!({ "executed": is_done, "offsets": changes.collect::<Value>() }));
    }
    let mut table = Table::new(&["TOPIC", "PARTITION", "CURRENT", "NEW"]);
    for change in changes {
        table.row([
            change.partition.topic.clone(),
            change.partition.partition.to_string(),
            change
                .current
                .map_or("-".to_owned(), |current| current.to_string()),
            change.new.to_string(),
        ]);
    }
    table.print()
}
