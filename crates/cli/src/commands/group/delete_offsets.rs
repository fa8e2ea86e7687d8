//! `ottla group delete-offsets`: deletes committed offsets of a group.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Error, Result, anyhow};
use ottla_client::{Cluster, TopicPartition};
use serde_json::json;

use crate::connect::Connect;
use crate::outcomes::Outcomes;
use crate::output::Output;
use crate::partitions::{self, Found, split};
use crate::patterns::{Chosen, fits, is_pattern};

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
    /// Only show what would be deleted, or why it would be refused.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let group = &args.group;
    let described = cluster.describe_group(group).await?;
    let committed = cluster.committed(group, None).await?;
    let committed = committed.into_iter().map(|(of, at)| (of, at.offset));
    let committed: BTreeMap<_, _> = committed.collect();
    let Found {
        mut partitions,
        mut failures,
    } = chosen(&cluster, &args.topics, &committed).await?;
    let read = described.members.iter().flat_map(|member| &member.topics);
    for topic in read.collect::<BTreeSet<_>>() {
        let in_use = partitions.extract_if(.., |partition| partition.topic == *topic);
        if in_use.count() > 0 {
            failures.push((topic.clone(), in_use_error(group, topic)));
        }
    }
    let given = partitions.len() + failures.len();
    let mut outcomes = Outcomes::with_failures(output, given, failures);
    for partition in &partitions {
        let deleted = match committed.get(partition) {
            None => Err(anyhow!(
                "group {group} has committed nothing for {partition}"
            )),
            Some(offset) if args.dry_run => Ok(*offset),
            Some(offset) => {
                let one = BTreeSet::from([partition.clone()]);
                let deleted = cluster.delete_offsets(group, &one).await;
                deleted.map(|()| *offset).map_err(Error::from)
            }
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
    let (done, what) = if args.dry_run {
        ("would_delete", "topics or partitions would be refused")
    } else {
        (
            "deleted",
            "topics or partitions kept their committed offsets",
        )
    };
    outcomes.finish(done, what)
}

fn in_use_error(group: &str, topic: &str) -> Error {
    anyhow!(
        "members of group {group} read {topic}; stop them first (`ottla group describe {group}` shows who they are)"
    )
}

/// The partitions that the options name. A topic without indexes stands for its partitions with a
/// committed offset, because the topic itself may have been deleted.
async fn chosen(
    cluster: &Cluster,
    topics: &[String],
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Found> {
    let mut chosen = Found::default();
    for text in topics {
        let (name, indexes) = split(text);
        if indexes.is_some() {
            let found = partitions::find(cluster, std::slice::from_ref(text)).await?;
            chosen.partitions.extend(found.partitions);
            chosen.failures.extend(found.failures);
            continue;
        }
        let is_named =
            |of: &&TopicPartition| of.topic == name || (is_pattern(name) && fits(name, &of.topic));
        let mut named = committed.keys().filter(is_named).peekable();
        if named.peek().is_some() {
            chosen.partitions.extend(named.cloned());
            continue;
        }
        let error = if is_pattern(name) {
            Chosen::unmatched_error("topic", name)
        } else {
            anyhow!("the group has committed nothing for topic {name}")
        };
        chosen.failures.push((text.clone(), error));
    }
    Ok(chosen)
}
