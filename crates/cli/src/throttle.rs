//! A throttle for the time of moves: Kafka's configs for the rate of replication, set before and taken back after.
//!
//! It holds back only replicas that are not in sync. A command that is interrupted leaves it; the same command takes it
//! back when it ends.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ottla_client::Cluster;
use ottla_client::admin::{ConfigChange, Resource, Validation};

use crate::moving::{How, Moves};

/// The two sides of replication, each with its configs.
const SIDES: [&str; 2] = ["leader", "follower"];

/// The topics that have partitions in `moves`.
pub fn topics(moves: &Moves) -> BTreeSet<String> {
    moves.keys().map(|of| of.topic.clone()).collect()
}

/// Carries out `moving` under the throttle of `how`, if it has one. It is taken back also after an error.
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
    let brokers = brokers.into_iter().map(|broker| broker.node.id);
    let throttled = Throttled {
        brokers: brokers.collect(),
        topics,
    };
    let set = |value: &str| ConfigChange::Set(value.to_owned());
    throttled
        .change(cluster, set(&rate.to_string()), set("*"))
        .await?;
    let moved = moving.await;
    let taken_back = throttled
        .change(cluster, ConfigChange::Delete, ConfigChange::Delete)
        .await;
    moved.and(taken_back)
}

struct Throttled {
    brokers: Vec<i32>,
    topics: BTreeSet<String>,
}

impl Throttled {
    /// Changes the rates of the brokers, and what is throttled of the topics.
    async fn change(
        &self,
        cluster: &Cluster,
        rate: ConfigChange,
        replicas: ConfigChange,
    ) -> Result<()> {
        let changes = |what: &str, change: &ConfigChange| {
            let key = |side: &str| format!("{side}.replication.throttled.{what}");
            let both = SIDES.map(|side| (key(side), change.clone()));
            BTreeMap::from(both)
        };
        let (rates, replicas) = (changes("rate", &rate), changes("replicas", &replicas));
        for broker in &self.brokers {
            let broker = Resource::Broker(*broker);
            cluster
                .alter_configs(&broker, &rates, Validation::AndExecution)
                .await?;
        }
        for topic in &self.topics {
            let topic = Resource::Topic(topic.clone());
            cluster
                .alter_configs(&topic, &replicas, Validation::AndExecution)
                .await?;
        }
        Ok(())
    }
}
