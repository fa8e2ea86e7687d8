//! The cluster as a whole: its brokers, its features, its metadata quorum.

use ottla_protocol::address;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use ottla_protocol::messages::describe_quorum_response::{self, ReplicaState};
use ottla_protocol::messages::{
    DescribeClusterRequestData, DescribeQuorumRequestData, KafkaString, RemoveRaftVoterRequestData,
    UnregisterBrokerRequestData,
};

use super::no_answer;
use crate::request::api_versions;
use crate::{ClientError, Cluster, Node, Result};

const METADATA_TOPIC: &str = "__cluster_metadata";

/// A broker of the cluster, fenced or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub node: Node,
    /// Whether the controller has fenced it, because it has not caught up or does not send heartbeats.
    pub is_fenced: bool,
}

/// A feature that one broker supports, and the level that the cluster has finalized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name: `metadata.version`, `group.version`, …
    pub name: String,
    /// The lowest level that the broker supports.
    pub lowest: i16,
    /// The highest level that the broker supports.
    pub highest: i16,
    /// The finalized level of the cluster; 0 if there is none.
    pub finalized: i16,
}

/// The quorum of controllers that keeps the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    pub leader: i32,
    pub leader_epoch: i32,
    /// All records before it are committed.
    pub high_watermark: i64,
    pub voters: Vec<QuorumReplica>,
    /// The replicas that do not vote: brokers.
    pub observers: Vec<QuorumReplica>,
    /// Where the controllers are reached; from Kafka 3.9 on.
    pub controllers: Vec<ControllerEndpoint>,
}

/// An address of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerEndpoint {
    pub node: i32,
    /// The name of its listener.
    pub listener: String,
    pub host: String,
    pub port: u16,
}

impl ControllerEndpoint {
    /// `host:port`.
    pub fn address(&self) -> String {
        address::dialled(&self.host, self.port)
    }
}

/// A replica of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumReplica {
    /// The node that holds it.
    pub id: i32,
    /// The directory that has its log; zero if that does not tell it from others of its node.
    pub directory: Uuid,
    /// The end of its log, if the leader knows it.
    pub log_end_offset: Option<i64>,
}

impl Cluster {
    /// All brokers; from Kafka 4.0 on also those that are fenced.
    pub async fn describe_cluster(&self) -> Result<Vec<Broker>> {
        let request = DescribeClusterRequestData {
            endpoint_type: 1,
            include_fenced_brokers: true,
            ..DescribeClusterRequestData::default()
        };
        let response = match self.call_any(&request).await {
            // Brokers before Kafka 4.0 cannot list fenced brokers.
            Err(ClientError::Encode { .. }) => {
                let request = DescribeClusterRequestData {
                    endpoint_type: 1,
                    ..DescribeClusterRequestData::default()
                };
                self.call_any(&request).await?
            }
            answer => answer?,
        };
        let message = response.error_message.as_ref().map(KafkaString::as_str);
        ClientError::check(response.error_code, message, "describe the cluster")?;
        let brokers = response.brokers.iter().map(|broker| Broker {
            node: Node {
                id: broker.broker_id,
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_ref().map(ToString::to_string),
            },
            is_fenced: broker.is_fenced,
        });
        Ok(brokers.collect())
    }

    /// Makes the cluster forget a broker, which must not come back under its id while it is wanted gone.
    pub async fn unregister_broker(&self, id: i32) -> Result<()> {
        let request = UnregisterBrokerRequestData {
            broker_id: id,
            ..UnregisterBrokerRequestData::default()
        };
        let response = self.call_controller(&request).await?;
        let message = response.error_message.as_ref().map(KafkaString::as_str);
        ClientError::check(
            response.error_code,
            message,
            format!("unregister broker {id}"),
        )
    }

    /// Takes the vote from a controller.
    pub async fn remove_voter(&self, id: i32, directory: Uuid) -> Result<()> {
        let request = RemoveRaftVoterRequestData {
            voter_id: id,
            voter_directory_id: directory,
            ..RemoveRaftVoterRequestData::default()
        };
        let response = self.call_controller(&request).await?;
        let message = response.error_message.as_ref().map(KafkaString::as_str);
        ClientError::check(response.error_code, message, format!("remove voter {id}"))
    }

    /// The features of one broker, by name.
    pub async fn features(&self, node: i32) -> Result<Vec<Feature>> {
        let response = self.call(node, &api_versions()).await?;
        ClientError::check(
            response.error_code,
            None,
            format!("features of broker {node}"),
        )?;
        let finalized = |name: &KafkaString| {
            let mut finalized = response.finalized_features.iter();
            let found = finalized.find(|feature| feature.name.as_str() == name.as_str());
            found.map_or(0, |feature| feature.max_version_level)
        };
        let supported = response.supported_features.iter();
        let mut features: Vec<_> = supported
            .map(|feature| Feature {
                name: feature.name.to_string(),
                lowest: feature.min_version,
                highest: feature.max_version,
                finalized: finalized(&feature.name),
            })
            .collect();
        features.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(features)
    }

    /// The metadata quorum, from its leader.
    pub async fn quorum(&self) -> Result<Quorum> {
        let request = DescribeQuorumRequestData {
            topics: vec![TopicData {
                topic_name: KafkaString::from(METADATA_TOPIC.to_owned()),
                partitions: vec![PartitionData::default()],
                ..TopicData::default()
            }],
            ..DescribeQuorumRequestData::default()
        };
        let response = self.call_any(&request).await?;
        let what = "describe the metadata quorum";
        let message = response.error_message.as_ref().map(KafkaString::as_str);
        ClientError::check(response.error_code, message, what)?;
        let partition = response.topics.first();
        let partition = partition.and_then(|topic| topic.partitions.first());
        let partition = partition.ok_or_else(|| no_answer(what.to_owned()))?;
        let message = partition.error_message.as_ref().map(KafkaString::as_str);
        ClientError::check(partition.error_code, message, what)?;
        Ok(Quorum {
            leader: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            high_watermark: partition.high_watermark,
            voters: replicas(&partition.current_voters),
            observers: replicas(&partition.observers),
            controllers: response.nodes.iter().flat_map(controllers).collect(),
        })
    }
}

fn controllers(of: &describe_quorum_response::Node) -> impl Iterator<Item = ControllerEndpoint> {
    of.listeners.iter().map(|listener| ControllerEndpoint {
        node: of.node_id,
        listener: listener.name.as_str().to_owned(),
        host: listener.host.as_str().to_owned(),
        port: listener.port,
    })
}

/// By id: the cluster tells them in the order in which they came.
fn replicas(states: &[ReplicaState]) -> Vec<QuorumReplica> {
    let mut replicas: Vec<QuorumReplica> = states.iter().map(replica).collect();
    replicas.sort_by_key(|replica| replica.id);
    replicas
}

fn replica(state: &ReplicaState) -> QuorumReplica {
    QuorumReplica {
        id: state.replica_id,
        directory: state.replica_directory_id,
        log_end_offset: Some(state.log_end_offset).filter(|offset| *offset >= 0),
    }
}
