//! `ottla topic describe`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{
    Cluster, Isolation, OffsetSpec, PartitionMetadata, PartitionOffset, TopicMetadata,
    TopicPartition,
};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use serde_json::{Value, json};

use super::sizes::Sizes;
use crate::connect::Connect;
use crate::durability::Facts;
use crate::outcomes::Outcomes;
use crate::output::{Output, Table, join, print_line};
use crate::patterns;
use crate::quantity::format_size;
use crate::writers::{Writer, Writers};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topics, or patterns of them ('orders-*').
    #[arg(required = true, value_name = "TOPIC")]
    names: Vec<String>,
}

/// A topic as `describe` shows it.
struct Description<'a> {
    topic: TopicMetadata,
    earliest: BTreeMap<TopicPartition, PartitionOffset>,
    latest: BTreeMap<TopicPartition, PartitionOffset>,
    /// The configs that were set for this topic, without the broker's defaults.
    configs: BTreeMap<String, String>,
    sizes: &'a Sizes,
    /// The clients that write without waiting for the replicas.
    writers: &'a [Writer],
    durability: String,
}

/// `config_source` of a config that was set for the topic itself.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let chosen = patterns::topics(&cluster, &args.names).await?;
    let sizes = Sizes::of_all(&cluster).await;
    let writers = Writers::of_all(&cluster).await;
    let mut outcomes = Outcomes::of(output, &chosen, "topic");
    for name in &chosen.names {
        let writers = writers.of_topic(name);
        match look_at(&cluster, name, (&sizes, writers)).await {
            Ok(description) => {
                if output == Output::Text {
                    description.print()?;
                }
                outcomes.shown(description.to_json());
            }
            Err(error) => outcomes.failed(name, error),
        }
    }
    outcomes.finish_list("topics could not be described")
}

async fn look_at<'a>(
    cluster: &Cluster,
    name: &str,
    (sizes, writers): (&'a Sizes, &'a [Writer]),
) -> Result<Description<'a>> {
    let topic = cluster.topic(name).await?;
    let indexes = topic.partitions.iter();
    let led = indexes.filter(|(_, partition)| partition.leader.is_some());
    let led: BTreeSet<_> = led
        .map(|(index, _)| TopicPartition::new(name, *index))
        .collect();
    let uncommitted = Isolation::ReadUncommitted;
    let earliest = cluster
        .list_offsets(&led, OffsetSpec::Earliest, uncommitted)
        .await?;
    let latest = cluster
        .list_offsets(&led, OffsetSpec::Latest, uncommitted)
        .await?;
    let resource = Resource::Topic(name.to_owned());
    let configs = cluster
        .describe_configs(&resource, Documentation::Omitted)
        .await?;
    let durability = facts(cluster, &topic, &configs, writers).text();
    let set = configs
        .iter()
        .filter(|config| config.config_source == DYNAMIC_TOPIC_CONFIG);
    let text = |value: &Option<_>| value.as_ref().map_or_else(String::new, ToString::to_string);
    let configs = set.map(|config| (config.name.to_string(), text(&config.value)));
    Ok(Description {
        configs: configs.collect(),
        durability,
        topic,
        earliest,
        latest,
        sizes,
        writers,
    })
}

/// What decides what the records of a topic survive.
fn facts(
    cluster: &Cluster,
    topic: &TopicMetadata,
    configs: &[DescribeConfigsResourceResult],
    writers: &[Writer],
) -> Facts {
    let value = |name: &str| {
        let found = configs.iter().find(|config| config.name.as_str() == name);
        found.and_then(|config| config.value.as_ref().map(ToString::to_string))
    };
    let metadata = cluster.metadata();
    let rack = |id: &i32| metadata.nodes.get(id)?.rack.clone();
    let partitions = topic.partitions.values();
    Facts {
        racks: partitions
            .map(|partition| partition.replicas.iter().map(rack).collect())
            .collect(),
        min_in_sync: value("min.insync.replicas")
            .and_then(|value| value.parse().ok())
            .unwrap_or(1),
        is_flushed: match value("ottla.ack.durability") {
            Some(durability) => durability == "fsync",
            // Apache Kafka.
            None => value("flush.messages").as_deref() == Some("1"),
        },
        is_unclean_allowed: value("unclean.leader.election.enable").as_deref() == Some("true"),
        writers: writers.to_vec(),
    }
}

impl Description<'_> {
    fn offsets(&self, index: i32) -> (Option<i64>, Option<i64>) {
        let key = TopicPartition::new(&self.topic.name, index);
        let of = |offsets: &BTreeMap<_, PartitionOffset>| offsets.get(&key).map(|at| at.offset);
        (of(&self.earliest), of(&self.latest))
    }

    /// The size of the leader's log, or of another replica when there is no leader.
    fn size(&self, index: i32, partition: &PartitionMetadata) -> Option<u64> {
        let key = TopicPartition::new(&self.topic.name, index);
        let mut nodes = partition.leader.iter().chain(&partition.replicas);
        nodes.find_map(|node| self.sizes.of_replica(&key, *node))
    }

    fn print(&self) -> Result<()> {
        let topic = &self.topic;
        let settings = self
            .configs
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let settings = settings.collect::<Vec<_>>().join(", ");
        let size = self.sizes.of_topic(&topic.name);
        print_line(&format!(
            "topic {}  id {}  size {}  configs set: {}",
            topic.name,
            topic.id,
            size.map_or("-".to_owned(), format_size),
            if settings.is_empty() {
                "none"
            } else {
                &settings
            }
        ))?;
        print_line(&format!("durability: {}", self.durability))?;
        let mut table = Table::new(&[
            "PARTITION",
            "LEADER",
            "EPOCH",
            "REPLICAS",
            "IN SYNC",
            "START",
            "END",
            "SIZE",
        ]);
        let or_dash =
            |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        for (index, partition) in &topic.partitions {
            let (start, end) = self.offsets(*index);
            table.row([
                index.to_string(),
                or_dash(partition.leader.map(i64::from)),
                partition.leader_epoch.to_string(),
                join(&partition.replicas),
                join(&partition.isr),
                or_dash(start),
                or_dash(end),
                self.size(*index, partition)
                    .map_or("-".to_owned(), format_size),
            ]);
        }
        table.print()
    }

    fn to_json(&self) -> Value {
        let partitions = self.topic.partitions.iter().map(|(index, partition)| {
            let (start, end) = self.offsets(*index);
            json!({
                "partition": index,
                "leader": partition.leader,
                "leader_epoch": partition.leader_epoch,
                "replicas": partition.replicas,
                "in_sync": partition.isr,
                "offline": partition.offline,
                "start_offset": start,
                "end_offset": end,
                "size": self.size(*index, partition),
            })
        });
        json!({
            "name": self.topic.name,
            "id": self.topic.id.to_string(),
            "internal": self.topic.is_internal,
            "size": self.sizes.of_topic(&self.topic.name),
            "configs": self.configs,
            "durability": self.durability,
            "weak_writers": self.writers.iter().map(Writer::to_json).collect::<Value>(),
            "partitions": partitions.collect::<Value>(),
        })
    }
}
