//! Partitions as people name them: `TOPIC`, `TOPIC:0,3`, and patterns of topics.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use ottla_client::{Cluster, TopicPartition};

use crate::patterns::{self, Chosen};

/// The partitions that `TOPIC` and `TOPIC:0,3` name; each must exist.
pub async fn named(cluster: &Cluster, given: &[String]) -> Result<BTreeSet<TopicPartition>> {
    let mut partitions = BTreeSet::new();
    for text in given {
        let (name, indexes) = split(text);
        let chosen = patterns::topics(cluster, &[name.to_owned()]).await?;
        if !chosen.unmatched.is_empty() {
            return Err(Chosen::unmatched_error("topic", name));
        }
        for topic in &chosen.names {
            partitions.extend(of_topic(cluster, topic, indexes).await?);
        }
    }
    Ok(partitions)
}

/// The topic and its partitions in `TOPIC:0,3`.
pub fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, indexes)) => (name, Some(indexes)),
        None => (text, None),
    }
}

async fn of_topic(
    cluster: &Cluster,
    name: &str,
    indexes: Option<&str>,
) -> Result<Vec<TopicPartition>> {
    let topic = cluster.topic(name).await?;
    let partition = |index: &i32| TopicPartition::new(name, *index);
    let Some(indexes) = indexes else {
        return Ok(topic.partitions.keys().map(partition).collect());
    };
    let mut partitions = Vec::new();
    for index in indexes.split(',') {
        let parsed = index.parse().ok();
        let Some(index) = parsed.filter(|index| topic.partitions.contains_key(index)) else {
            let last = topic.partitions.len() - 1;
            bail!("topic {name} has no partition {index:?}, only 0 to {last}");
        };
        partitions.push(partition(&index));
    }
    Ok(partitions)
}
