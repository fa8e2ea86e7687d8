//! Where records go and where lines come from, and whether the topic can be written to, before the first line is read.

use std::path::PathBuf;

use anyhow::{Result, bail};
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{ClientError, Cluster, ErrorCode, TopicMetadata};

use super::Args;
use crate::partitions;

const AUTO_CREATE: &str = "auto.create.topics.enable";
const NUM_PARTITIONS: &str = "num.partitions";

/// The topic and the file of a command line.
#[derive(Debug)]
pub struct Target {
    /// Where records go.
    pub topic: String,
    /// Where lines come from; nothing for stdin.
    pub file: Option<PathBuf>,
}

impl Target {
    /// Sorts out `TOPIC [FILE]` and `--topic TOPIC [FILE]`.
    pub fn of(args: &Args) -> Result<Self> {
        let (topic, file) = match (&args.named_topic, &args.topic, &args.file) {
            (Some(named), first, None) => (named.clone(), first.as_ref().map(PathBuf::from)),
            (None, Some(topic), file) => (topic.clone(), file.clone()),
            (Some(_), _, Some(_)) => bail!("with --topic there is one argument, the file to read"),
            (None, None, _) => bail!("no topic is given"),
        };
        Ok(Self { topic, file })
    }
}

/// That the topic is there, or is created now, and has the partition.
pub async fn check(cluster: &Cluster, topic: &str, partition: Option<i32>) -> Result<()> {
    let found = find(cluster, topic, partition).await?;
    match partition {
        Some(wanted) if !found.partitions.contains_key(&wanted) => {
            Err(partitions::missing(&found, wanted))
        }
        _ => Ok(()),
    }
}

async fn find(cluster: &Cluster, topic: &str, partition: Option<i32>) -> Result<TopicMetadata> {
    let errors = cluster.refresh(&[topic.to_owned()]).await?;
    let is_missing = errors.get(topic) == Some(&ErrorCode::UnknownTopicOrPartition);
    if !is_missing {
        return Ok(cluster.topic_or_create(topic).await?);
    }
    // Whether a broker creates a topic is seen only by waiting for it; its config says it at once.
    let creation = Creation::of(cluster).await;
    if !creation.is_allowed {
        return Err(ClientError::Refused {
            what: format!("topic {topic}"),
            code: ErrorCode::UnknownTopicOrPartition,
            message: Some(format!("it does not exist, and {AUTO_CREATE} is false")),
        }
        .into());
    }
    if let (Some(wanted), Some(count)) = (partition, creation.partitions)
        && !(0..count).contains(&wanted)
    {
        bail!(
            "topic {topic} does not exist, and with {NUM_PARTITIONS}={count} it would be created without partition \
             {wanted}; `ottla topic create {topic} --partitions N` creates it with N"
        );
    }
    Ok(cluster.topic_or_create(topic).await?)
}

/// What the brokers do at the first use of a topic.
struct Creation {
    /// Whether they create it; a broker that does not tell may.
    is_allowed: bool,
    /// With how many partitions, where a broker tells.
    partitions: Option<i32>,
}

impl Creation {
    async fn of(cluster: &Cluster) -> Self {
        let nodes = cluster.metadata();
        let configs = match nodes.nodes.keys().next() {
            Some(node) => {
                let resource = Resource::Broker(*node);
                let configs = cluster.describe_configs(&resource, Documentation::Omitted);
                configs.await.unwrap_or_default()
            }
            None => Vec::new(),
        };
        let value = |name: &str| {
            let config = configs.iter().find(|config| config.name.as_str() == name)?;
            config.value.as_ref().map(ToString::to_string)
        };
        Self {
            is_allowed: value(AUTO_CREATE).is_none_or(|value| value != "false"),
            partitions: value(NUM_PARTITIONS).and_then(|value| value.parse().ok()),
        }
    }
}
