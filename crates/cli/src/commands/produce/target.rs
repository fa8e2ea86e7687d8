//! Where records go and where lines come from, and whether the topic can be written to, before the first line is read.

use std::path::PathBuf;

use anyhow::{Result, bail};
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{ClientError, Cluster, ErrorCode, TopicMetadata};

use super::Args;

const AUTO_CREATE: &str = "auto.create.topics.enable";

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
    let found = find(cluster, topic).await?;
    let count = found.partitions.len();
    match partition {
        Some(wanted) if !found.partitions.contains_key(&wanted) => bail!(
            "topic {topic} has no partition {wanted}, {}",
            match count {
                1 => "only 0".to_owned(),
                _ => format!("only 0 to {}", count - 1),
            }
        ),
        _ => Ok(()),
    }
}

async fn find(cluster: &Cluster, topic: &str) -> Result<TopicMetadata> {
    let errors = cluster.refresh(&[topic.to_owned()]).await?;
    let is_missing = errors.get(topic) == Some(&ErrorCode::UnknownTopicOrPartition);
    // Whether a broker creates a topic is seen only by waiting for it; its config says it at once.
    if is_missing && !creates_topics(cluster).await {
        return Err(ClientError::Refused {
            what: format!("topic {topic}"),
            code: ErrorCode::UnknownTopicOrPartition,
            message: Some(format!("it does not exist, and {AUTO_CREATE} is false")),
        }
        .into());
    }
    Ok(cluster.topic_or_create(topic).await?)
}

/// Whether the brokers create topics on first use; a broker that does not tell may.
async fn creates_topics(cluster: &Cluster) -> bool {
    let Some(node) = cluster.metadata().nodes.keys().next().copied() else {
        return true;
    };
    let resource = Resource::Broker(node);
    let configs = cluster
        .describe_configs(&resource, Documentation::Omitted)
        .await;
    let configs = configs.unwrap_or_default();
    let value = configs
        .iter()
        .find(|config| config.name.as_str() == AUTO_CREATE)
        .and_then(|config| config.value.as_ref());
    value.is_none_or(|value| value.as_str() != "false")
}
