//! `ottla topic trim`: deletes the oldest records of topics.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{Cluster, Isolation, OffsetSpec, PartitionOffset, TopicPartition};
use serde_json::{Value, json};

use crate::connect::Connect;
use crate::instant;
use crate::outcomes::Outcomes;
use crate::output::Output;
use crate::partitions;

/// What `ottla topic trim` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topics, or some of their partitions, or patterns of topics ('orders-*').
    #[arg(required = true, value_name = "TOPIC[:PARTITION,…]")]
    topics: Vec<String>,
    #[command(flatten)]
    target: Target,
    /// Trim Kafka's own topics too.
    #[arg(long)]
    internal: bool,
    /// Only say what would be deleted, or why it would be refused.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Delete the records below this offset.
    #[arg(long = "to-offset", value_name = "OFFSET")]
    offset: Option<i64>,
    /// Delete the records before the first at or after this time (2026-11-24T10:30:00Z, or 7d for seven days ago).
    #[arg(long = "to-datetime", value_name = "TIME")]
    time: Option<String>,
    /// Delete all records there are now.
    #[arg(long = "to-latest")]
    end: bool,
}

type Offsets = BTreeMap<TopicPartition, PartitionOffset>;

/// Where a partition begins and ends, and where it is to begin.
struct Plan {
    start: i64,
    end: i64,
    target: i64,
}

/// What was done, or would be, to a partition.
#[derive(Clone, Copy)]
enum Verb {
    Trimmed,
    WouldTrim,
}

/// Trims the partitions.
pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let plans = plan(args, &cluster).await?;
    let mut outcomes = Outcomes::new(output, plans.len());
    let mut allowed = BTreeMap::new();
    for (partition, plan) in &plans {
        match check(args, &cluster, partition, plan).await {
            Ok(()) => {
                allowed.insert(partition.clone(), plan.target);
            }
            Err(error) => outcomes.failed(&partition.to_string(), error),
        }
    }
    let (verb, done) = if args.dry_run {
        (Verb::WouldTrim, "would_trim")
    } else {
        (Verb::Trimmed, "trimmed")
    };
    let results = match verb {
        Verb::Trimmed => cluster.delete_records(&allowed).await?,
        Verb::WouldTrim => allowed.into_iter().map(|(of, at)| (of, Ok(at))).collect(),
    };
    for (partition, result) in results {
        match result {
            Ok(start) => {
                let plan = &plans[&partition];
                let line = plan.line(&partition, start, verb);
                outcomes.done(&line, plan.to_json(&partition, start))?;
            }
            Err(error) => outcomes.failed(&partition.to_string(), error),
        }
    }
    outcomes.finish(done, "partitions were not trimmed")
}

impl Plan {
    fn line(&self, partition: &TopicPartition, start: i64, verb: Verb) -> String {
        let end = self.end;
        let start = start.max(self.start);
        let count = start - self.start;
        match verb {
            Verb::Trimmed => {
                format!("{partition}: deleted {count} offsets; it begins at {start}, ends at {end}")
            }
            Verb::WouldTrim => format!(
                "{partition}: would delete {count} offsets; it would begin at {start}, ends at {end}"
            ),
        }
    }

    fn to_json(&self, partition: &TopicPartition, start: i64) -> Value {
        json!({
            "topic": partition.topic,
            "partition": partition.partition,
            "old_start_offset": self.start,
            "start_offset": start.max(self.start),
            "end_offset": self.end,
        })
    }
}

async fn plan(args: &Args, cluster: &Cluster) -> Result<BTreeMap<TopicPartition, Plan>> {
    let chosen = partitions::named(cluster, &args.topics).await?;
    let offsets = |spec| cluster.list_offsets(&chosen, spec, Isolation::ReadUncommitted);
    let earliest = offsets(OffsetSpec::Earliest).await?;
    let latest = offsets(OffsetSpec::Latest).await?;
    let at_time = match &args.target.time {
        Some(text) => {
            let at = instant::parse(text, instant::now_ms())?;
            offsets(OffsetSpec::Timestamp(at)).await?
        }
        None => Offsets::new(),
    };
    let mut plans = BTreeMap::new();
    for partition in chosen {
        let end = latest[&partition].offset;
        // Where no record is as late as the time, all records are older.
        let by_time = at_time.get(&partition).map(|at| at.offset);
        let by_time = by_time.filter(|offset| *offset >= 0);
        let plan = Plan {
            start: earliest[&partition].offset,
            end,
            target: args.target.offset.or(by_time).unwrap_or(end),
        };
        plans.insert(partition, plan);
    }
    Ok(plans)
}

/// DeleteRecords cannot be asked for a dry run: what it would refuse is refused here, with what to do instead.
async fn check(
    args: &Args,
    cluster: &Cluster,
    partition: &TopicPartition,
    plan: &Plan,
) -> Result<()> {
    let name = &partition.topic;
    let (start, end, target) = (plan.start, plan.end, plan.target);
    if !(0..=end).contains(&target) {
        bail!("{partition} has no offset {target}, only {start} to {end}");
    }
    if cluster.topic(name).await?.is_internal && !args.internal {
        bail!("topic {name} is one of Kafka's own; --internal trims it all the same");
    }
    let configs = cluster
        .describe_configs(&Resource::Topic(name.clone()), Documentation::Omitted)
        .await?;
    let mut configs = configs.iter();
    let policy = configs.find(|config| config.name.as_str() == "cleanup.policy");
    let policy = policy.and_then(|config| config.value.as_ref());
    if policy.is_some_and(|policy| policy.as_str() == "compact") {
        bail!(
            "topic {name} is compacted, not trimmed: its cleanup.policy is compact without delete; \
             tombstones delete keys"
        );
    }
    Ok(())
}
