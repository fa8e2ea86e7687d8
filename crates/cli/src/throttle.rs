//! A throttle for the time of moves: Kafka's configs for the rate of replication, set before and taken back after.
//!
//! It holds back only replicas that are not in sync. A command that is interrupted leaves it. The same command, with the
//! throttle, takes it back when it ends: so its topics are also those whose moves an earlier run has begun or done.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use ottla_client::admin::{ConfigChange, Documentation, Resource, Validation};
use ottla_client::{Cluster, TopicPartition};

use crate::moving::How;
use crate::output::message;

/// The two sides of replication, each with its configs.
const SIDES: [&str; 2] = ["leader", "follower"];
/// The value of a topic's configs that throttles all replicas.
const ALL: &str = "*";

/// The topics of partitions.
pub fn topics<'a>(of: impl IntoIterator<Item = &'a TopicPartition>) -> BTreeSet<String> {
    of.into_iter().map(|of| of.topic.clone()).collect()
}

/// The topics that a command like this may have left throttled: all replicas, on both sides. None if `how` has no throttle.
pub async fn left(cluster: &Cluster, how: &How) -> Result<BTreeSet<String>> {
    let mut left = BTreeSet::new();
    if how.throttle.is_none() {
        return Ok(left);
    }
    let metadata = cluster.refresh_all().await?;
    for topic in metadata.topics.keys() {
        let resource = Resource::Topic(topic.clone());
        let configs = cluster
            .describe_configs(&resource, Documentation::Omitted)
            .await?;
        let is_all = |side: &&str| {
            let key = key(side, "replicas");
            let mut configs = configs.iter();
            let found = configs.find(|config| config.name.as_str() == key);
            let value = found.and_then(|config| config.value.as_ref());
            value.is_some_and(|value| value.as_str() == ALL)
        };
        if SIDES.iter().all(is_all) {
            left.insert(topic.clone());
        }
    }
    Ok(left)
}

/// Carries out `moving` under the throttle of `how`, if it has one. Whatever fails, it is taken back everywhere.
pub async fn during(
    cluster: &Cluster,
    topics: BTreeSet<String>,
    how: &How,
    moving: impl Future<Output = Result<()>>,
) -> Result<()> {
    let Some(rate) = how.throttle else {
        return moving.await;
    };
    let brokers = cluster.describe_cluster().await?;
    let brokers = brokers
        .iter()
        .map(|broker| Resource::Broker(broker.node.id));
    let topics = topics.into_iter().map(Resource::Topic);
    let resources: Vec<Resource> = brokers.chain(topics).collect();
    let moved = async {
        for resource in &resources {
            change(cluster, resource, Some(rate)).await?;
        }
        moving.await
    };
    let moved = moved.await;
    let mut taken_back = Ok(());
    for resource in &resources {
        taken_back = taken_back.and(change(cluster, resource, None).await);
    }
    let taken_back = taken_back.context("the throttle is not taken back everywhere");
    match (moved, taken_back) {
        (Err(error), Err(left)) => {
            message(&format!("{left:#}"));
            Err(error)
        }
        (moved, taken_back) => moved.and(taken_back),
    }
}

/// Throttles a broker to a rate, or the replicas of a topic; without a rate, takes it back.
async fn change(cluster: &Cluster, resource: &Resource, rate: Option<u64>) -> Result<()> {
    let (what, value) = match resource {
        Resource::Topic(_) => ("replicas", rate.map(|_| ALL.to_owned())),
        _ => ("rate", rate.map(|rate| rate.to_string())),
    };
    let change = value.map_or(ConfigChange::Delete, ConfigChange::Set);
    let changes = BTreeMap::from(SIDES.map(|side| (key(side, what), change.clone())));
    cluster
        .alter_configs(resource, &changes, Validation::AndExecution)
        .await?;
    Ok(())
}

fn key(side: &str, what: &str) -> String {
    format!("{side}.replication.throttled.{what}")
}
