//! `ottla group delete-offsets`: forgets what a group has committed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use ottla_client::{Cluster, TopicPartition};
use serde_json::json;

use crate::connect::Connect;
use crate::outcomes::Outcomes;
use crate::output::Output;
use crate::partitions::{self, split};
use crate::patterns::{Chosen, fits, is_pattern};

/// What `ottla group delete-offsets` takes.
#[derive(Debug, clap::Args)]
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
        required = true
    )]
    topics: Vec<String>,
    /// Only say what would be deleted, or why it would be refused.
    #[arg(long)]
    dry_run: bool,
}

/// Deletes the offsets.
pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let group = &args.group;
    let described = cluster.describe_group(group).await?;
    let committed = cluster.committed(group, None).await?;
    let committed = committed.into_iter().map(|(of, at)| (of, at.offset));
    let committed: BTreeMap<_, _> = committed.collect();
    let chosen = chosen(&cluster, &args.topics, &committed).await?;
    let read = described.members.iter().flat_map(|member| &member.topics);
    let read: BTreeSet<_> = read.collect();
    let mut outcomes = Outcomes::new(output, chosen.len());
    for partition in &chosen {
        let deleted = match check(group, partition, &committed, &read) {
            Ok(offset) if args.dry_run => Ok(offset),
            Ok(offset) => {
                let one = BTreeSet::from([partition.clone()]);
                let deleted = cluster.delete_offsets(group, &one).await;
                deleted.map(|()| offset).map_err(anyhow::Error::from)
            }
            Err(error) => Err(error),
        };
        match deleted {
            Ok(offset) => {
                let verb = if args.dry_run {
                    "would delete"
                } else {
                    "deleted"
                };
                let line = format!("{verb} offset {offset} of group {group} for {partition}");
                let document = json!({
                    "topic": partition.topic, "partition": partition.partition, "committed": offset,
                });
                outcomes.done(&line, document)?;
            }
            Err(error) => outcomes.failed(&partition.to_string(), error),
        }
    }
    let done = if args.dry_run {
        "would_delete"
    } else {
        "deleted"
    };
    outcomes.finish(done, "offsets were not deleted")
}

/// The offset that is committed, when it may be deleted.
fn check(
    group: &str,
    partition: &TopicPartition,
    committed: &BTreeMap<TopicPartition, i64>,
    read: &BTreeSet<&String>,
) -> Result<i64> {
    if read.contains(&partition.topic) {
        bail!(
            "members of group {group} read {}; stop them first (`ottla group describe {group}` shows who they are)",
            partition.topic
        );
    }
    match committed.get(partition) {
        Some(offset) => Ok(*offset),
        None => bail!("group {group} has committed nothing for {partition}"),
    }
}

/// The partitions that are named. A topic alone is those of its partitions for which the group has committed: it may
/// have been deleted since.
async fn chosen(
    cluster: &Cluster,
    topics: &[String],
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeSet<TopicPartition>> {
    let mut chosen = BTreeSet::new();
    for text in topics {
        let (name, indexes) = split(text);
        if indexes.is_some() {
            chosen.extend(partitions::named(cluster, std::slice::from_ref(text)).await?);
            continue;
        }
        let is_named =
            |of: &&TopicPartition| of.topic == name || (is_pattern(name) && fits(name, &of.topic));
        let before = chosen.len();
        chosen.extend(committed.keys().filter(is_named).cloned());
        if chosen.len() > before {
            continue;
        }
        if is_pattern(name) {
            return Err(Chosen::unmatched_error("topic", name));
        }
        bail!("the group has committed nothing for topic {name}");
    }
    Ok(chosen)
}
