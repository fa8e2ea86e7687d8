//! The sizes of topics on the brokers' disks.

use std::collections::BTreeMap;

use ottla_client::{Cluster, TopicPartition};

use crate::output::message;

/// The size of each replica, from the brokers that answered.
#[derive(Debug, Default)]
pub struct Sizes {
    replicas: BTreeMap<(TopicPartition, i32), u64>,
}

impl Sizes {
    /// Asks all brokers. One that does not answer is not an error; a message names it.
    pub async fn of_all(cluster: &Cluster) -> Self {
        let mut sizes = Self::default();
        for node in cluster.metadata().nodes.keys() {
            match cluster.log_dirs(*node).await {
                Ok(directories) => {
                    for directory in directories {
                        for (partition, size) in directory.replicas {
                            *sizes.replicas.entry((partition, *node)).or_default() += size;
                        }
                    }
                }
                Err(error) => message(&format!("broker {node} does not tell sizes: {error}")),
            }
        }
        sizes
    }

    /// The bytes of all replicas of a topic; `None` when no broker reported one.
    pub fn of_topic(&self, topic: &str) -> Option<u64> {
        let of_topic = self.replicas.iter();
        let of_topic = of_topic.filter(|((partition, _), _)| partition.topic == topic);
        of_topic.map(|(_, size)| *size).reduce(|a, b| a + b)
    }

    /// The bytes of one replica of a partition.
    pub fn of_replica(&self, partition: &TopicPartition, node: i32) -> Option<u64> {
        self.replicas.get(&(partition.clone(), node)).copied()
    }

    /// The bytes of all replicas of each topic.
    pub fn by_topic(&self) -> BTreeMap<&str, u64> {
        let mut topics = BTreeMap::new();
        for ((partition, _), size) in &self.replicas {
            *topics.entry(partition.topic.as_str()).or_default() += size;
        }
        topics
    }
}
