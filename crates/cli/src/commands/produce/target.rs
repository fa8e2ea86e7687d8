//! The topic and the input file of a command line. The topic is checked before the first line is
//! read.

use std::path::PathBuf;

use anyhow::{Result, bail};
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{ClientError, Cluster, ErrorCode, TopicMetadata};

use super::Args;
use crate::partitions;

const AUTO_CREATE: &str = "auto.create.topics.enable";
const NUM_PARTITIONS: &str = "num.partitions";

#[derive(Debug)]
pub struct Target {
    pub topic: String,
    /// The input file; `None` for stdin.
    pub file: Option<PathBuf>,
}

impl Target {
    /// From `TOPIC [FILE]` or `--topic TOPIC [FILE]`.
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

/// Checks that the topic exists or can be created, and that it has the partition.
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
    // A broker's config says at once whether it creates topics; without it, only a timeout would.
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

/// What the brokers do when a topic is used first.
struct Creation {
    /// Whether they create it; true when the broker does not answer.
    is_allowed: bool,
    /// With how many partitions; `None` when the broker does not answer.
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
