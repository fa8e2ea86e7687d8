//! `ottla topic trim`: deletes the oldest records of topics.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Error, Result, anyhow, bail};
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{
    Cluster, Isolation, OffsetSpec, PartitionOffset, TopicMetadata, TopicPartition,
};
use serde_json::{Value, json};

use crate::connect::Connect;
use crate::instant;
use crate::outcomes::Outcomes;
use crate::output::Output;
use crate::partitions::{self, Found};

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
    /// Only show what would be deleted, or why it would be refused.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Delete the records below this offset.
    #[arg(long = "to-offset", value_name = "OFFSET")]
    offset: Option<i64>,
    /// Delete the records before the first one at or after this time (2026-11-24T10:30:00Z, or 7d
    /// for seven days ago).
    #[arg(long = "to-datetime", value_name = "TIME")]
    time: Option<String>,
    /// Delete all records that exist now.
    #[arg(long = "to-latest")]
    end: bool,
}

type Offsets = BTreeMap<TopicPartition, PartitionOffset>;

/// The offset range of a partition, and its new start.
struct Plan {
    start: i64,
    end: i64,
    target: i64,
}

/// Whether a partition was trimmed or would be, for the messages.
#[derive(Clone, Copy)]
enum Verb {
    Trimmed,
    WouldTrim,
}

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let Found {
        partitions,
        mut failures,
    } = partitions::find(&cluster, &args.topics).await?;
    let allowed = allowed(args, &cluster, partitions, &mut failures).await?;
    let mut plans = plans(args, &cluster, allowed, &mut failures).await?;
    plans.retain(|partition, plan| match plan.check(partition) {
        Ok(()) => true,
        Err(error) => {
            failures.push((partition.to_string(), error));
            false
        }
    });
    let given = plans.len() + failures.len();
    let mut outcomes = Outcomes::with_failures(output, given, failures);
    let targets = plans.iter().map(|(of, plan)| (of.clone(), plan.target));
    let targets: BTreeMap<_, _> = targets.collect();
    let (verb, done, what) = if args.dry_run {
        (Verb::WouldTrim, "would_trim", "would be refused")
    } else {
        (Verb::Trimmed, "trimmed", "were not trimmed")
    };
    let results = match verb {
        Verb::Trimmed => cluster.delete_records(&targets).await?,
        Verb::WouldTrim => targets.into_iter().map(|(of, at)| (of, Ok(at))).collect(),
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
    outcomes.finish(done, &format!("topics or partitions {what}"))
}

impl Plan {
    fn check(&self, partition: &TopicPartition) -> Result<()> {
        let (start, end, target) = (self.start, self.end, self.target);
        if !(0..=end).contains(&target) {
            bail!("{partition} has no offset {target}, only {start} to {end}");
        }
        Ok(())
    }

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

/// The partitions that may be trimmed and have a leader. A refusal that concerns a whole topic is
/// reported once.
async fn allowed(
    args: &Args,
    cluster: &Cluster,
    mut partitions: BTreeSet<TopicPartition>,
    failures: &mut Vec<(String, Error)>,
) -> Result<BTreeMap<i32, BTreeSet<TopicPartition>>> {
    let mut by_leader: BTreeMap<i32, BTreeSet<_>> = BTreeMap::new();
    while let Some(first) = partitions.first() {
        let name = first.topic.clone();
        let topic = cluster.topic(&name).await?;
        let own = partitions.extract_if(.., |partition| partition.topic == name);
        let own: Vec<_> = own.collect();
        if let Err(error) = check(args, cluster, &topic).await {
            failures.push((name, error));
            continue;
        }
        for partition in own {
            let known = topic.partitions.get(&partition.partition);
            if let Some(leader) = known.and_then(|partition| partition.leader) {
                by_leader.entry(leader).or_default().insert(partition);
            } else {
                let error =
                    anyhow!("{partition} has no leader; `ottla cluster` shows what is wrong");
                failures.push((partition.to_string(), error));
            }
        }
    }
    Ok(by_leader)
}

/// The new start of each partition. When one leader does not answer, the partitions of the others
/// are still trimmed.
async fn plans(
    args: &Args,
    cluster: &Cluster,
    by_leader: BTreeMap<i32, BTreeSet<TopicPartition>>,
    failures: &mut Vec<(String, Error)>,
) -> Result<BTreeMap<TopicPartition, Plan>> {
    let time = args.target.time.as_deref();
    let time = time.map(|text| instant::parse(text, instant::now_ms()));
    let time = time.transpose()?;
    let mut plans = BTreeMap::new();
    for (leader, chosen) in by_leader {
        match plans_of(args, cluster, &chosen, time).await {
            Ok(found) => plans.extend(found),
            Err(error) => failures.push((format!("broker {leader}"), error)),
        }
    }
    Ok(plans)
}

async fn plans_of(
    args: &Args,
    cluster: &Cluster,
    chosen: &BTreeSet<TopicPartition>,
    time: Option<i64>,
) -> Result<BTreeMap<TopicPartition, Plan>> {
    let offsets = |spec| cluster.list_offsets(chosen, spec, Isolation::ReadUncommitted);
    let earliest = offsets(OffsetSpec::Earliest).await?;
    let latest = offsets(OffsetSpec::Latest).await?;
    let at_time = match time {
        Some(at) => offsets(OffsetSpec::Timestamp(at)).await?,
        None => Offsets::new(),
    };
    let plan = |partition: &TopicPartition| {
        let end = latest[partition].offset;
        // No record is at or after the time: all records are older.
        let by_time = at_time.get(partition).map(|at| at.offset);
        let by_time = by_time.filter(|offset| *offset >= 0);
        Plan {
            start: earliest[partition].offset,
            end,
            target: args.target.offset.or(by_time).unwrap_or(end),
        }
    };
    let plans = chosen.iter();
    Ok(plans
        .map(|partition| (partition.clone(), plan(partition)))
        .collect())
}

/// DeleteRecords has no dry run, so its refusals are checked here, with the next step. The cleanup
/// policy is checked first, because no flag overrides it.
async fn check(args: &Args, cluster: &Cluster, topic: &TopicMetadata) -> Result<()> {
    let name = &topic.name;
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
    if topic.is_internal && !args.internal {
        bail!("topic {name} is one of Kafka's own; --internal trims it anyway");
    }
    Ok(())
}
