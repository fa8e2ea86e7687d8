//! The client's copy of the metadata: an immutable snapshot. An answer replaces each of its topics as a whole.

use std::collections::BTreeMap;
use std::fmt;

use ottla_protocol::address;
use ottla_protocol::messages::{KafkaUuid, MetadataResponseData, MetadataResponseTopic};

use crate::error::ErrorCode;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's index.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition with this index.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `node.id`.
    pub id: i32,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
}

impl Node {
    /// `host:port`.
    pub fn address(&self) -> String {
        address::dialled(&self.host, self.port)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    pub name: String,
    pub id: KafkaUuid,
    /// Whether it is one of Kafka's own (`__consumer_offsets`).
    pub is_internal: bool,
    /// Its partitions by index.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// The leader, if it has one.
    pub leader: Option<i32>,
    /// Its epoch, -1 when unknown.
    pub leader_epoch: i32,
    /// The brokers that hold it.
    pub replicas: Vec<i32>,
    /// The in-sync replicas.
    pub isr: Vec<i32>,
    /// The offline replicas.
    pub offline: Vec<i32>,
}

/// The metadata as last received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterMetadata {
    pub cluster_id: Option<String>,
    /// The broker that takes admin requests.
    pub controller: Option<i32>,
    /// The brokers by id.
    pub nodes: BTreeMap<i32, Node>,
    /// The topics that were requested so far, by name.
    pub topics: BTreeMap<String, TopicMetadata>,
}

impl ClusterMetadata {
    /// The leader of a partition, if it is known and has one.
    pub fn leader(&self, of: &TopicPartition) -> Option<i32> {
        self.partition(of)?.leader
    }

    /// A partition, if it is known.
    pub fn partition(&self, partition: &TopicPartition) -> Option<&PartitionMetadata> {
        self.topics
            .get(&partition.topic)?
            .partitions
            .get(&partition.partition)
    }

    /// The topics known so far, updated by an answer. Topics with an error are removed, and returned by name.
    pub(crate) fn updated(
        topics: BTreeMap<String, TopicMetadata>,
        response: &MetadataResponseData,
    ) -> (Self, BTreeMap<String, ErrorCode>) {
        let mut next = Self {
            cluster_id: response.cluster_id.as_ref().map(ToString::to_string),
            controller: Some(response.controller_id).filter(|id| *id >= 0),
            nodes: response.brokers.iter().map(node).collect(),
            topics,
        };
        let mut errors = BTreeMap::new();
        for topic in &response.topics {
            let name = topic.name.as_ref().map_or("", |name| name.as_str());
            let code = ErrorCode::from(topic.error_code);
            if code.is_error() {
                next.topics.remove(name);
                errors.insert(name.to_owned(), code);
            } else {
                next.topics.insert(name.to_owned(), topic_metadata(topic));
            }
        }
        (next, errors)
    }
}

fn node(broker: &ottla_protocol::messages::MetadataResponseBroker) -> (i32, Node) {
    let node = Node {
        id: broker.node_id,
        host: broker.host.to_string(),
        port: broker.port,
        rack: broker.rack.as_ref().map(ToString::to_string),
    };
    (node.id, node)
}

fn topic_metadata(topic: &MetadataResponseTopic) -> TopicMetadata {
    let partitions = topic.partitions.iter().map(|partition| {
        let metadata = PartitionMetadata {
            leader: Some(partition.leader_id).filter(|id| *id >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.clone(),
            isr: partition.isr_nodes.clone(),
            offline: partition.offline_replicas.clone(),
        };
        (partition.partition_index, metadata)
    });
    TopicMetadata {
        name: topic
            .name
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
    }
}
