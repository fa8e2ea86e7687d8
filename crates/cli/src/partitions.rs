//! Resolves the partitions that a user names: `TOPIC`, `TOPIC:0,3`, and patterns of topics.

use std::collections::BTreeSet;
use std::fmt::Display;

use anyhow::{Error, Result, anyhow};
use ottla_client::{ClientError, Cluster, TopicMetadata, TopicPartition};

use crate::patterns::{self, Chosen};

/// The outcome of [`find`].
#[derive(Debug, Default)]
pub struct Found {
    /// The partitions that exist.
    pub partitions: BTreeSet<TopicPartition>,
    /// The names without a partition, and why.
    pub failures: Vec<(String, Error)>,
}

/// The partitions that `TOPIC` and `TOPIC:0,3` name; each must exist.
pub async fn named(cluster: &Cluster, given: &[String]) -> Result<BTreeSet<TopicPartition>> {
    let mut found = find(cluster, given).await?;
    if found.failures.is_empty() {
        return Ok(found.partitions);
    }
    Err(found.failures.remove(0).1)
}

/// As [`named`], but each name is tried, and the missing ones are in the result. Only a cluster that
/// does not answer is an error.
pub async fn find(cluster: &Cluster, given: &[String]) -> Result<Found> {
    let mut found = Found::default();
    for text in given {
        match of_name(cluster, text).await {
            Ok(partitions) => found.partitions.extend(partitions),
            Err(error) if is_without_answer(&error) => return Err(error),
            Err(error) => found.failures.push((text.clone(), error)),
        }
    }
    Ok(found)
}

fn is_without_answer(error: &Error) -> bool {
    let failed = error.downcast_ref::<ClientError>();
    failed.is_some_and(|error| error.code().is_none())
}

async fn of_name(cluster: &Cluster, text: &str) -> Result<Vec<TopicPartition>> {
    let (name, indexes) = split(text);
    let chosen = patterns::topics(cluster, &[name.to_owned()]).await?;
    if !chosen.unmatched.is_empty() {
        return Err(Chosen::unmatched_error("topic", name));
    }
    let mut partitions = Vec::new();
    for topic in &chosen.names {
        partitions.extend(of_topic(cluster, topic, indexes).await?);
    }
    Ok(partitions)
}

/// The error for a partition that does not exist, with the next step.
pub fn missing(topic: &TopicMetadata, wanted: impl Display) -> Error {
    let name = &topic.name;
    let there_are = match topic.partitions.len() {
        1 => "only 0".to_owned(),
        count => format!("only 0 to {}", count.saturating_sub(1)),
    };
    anyhow!(
        "topic {name} has no partition {wanted}, {there_are}; `ottla topic alter {name} --partitions N` adds some"
    )
}

/// Splits `TOPIC:0,3` into the topic and the indexes.
pub fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, indexes)) => (name, Some(indexes)),
        None => (text, None),
    }
}

/// The partitions of a topic that `0,3` names, or all of them. Each must exist.
pub async fn of_topic(
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
            return Err(missing(&topic, index));
        };
        partitions.push(partition(&index));
    }
    Ok(partitions)
}
