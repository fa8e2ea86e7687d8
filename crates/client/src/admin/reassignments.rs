//! Moves partitions to other brokers (AlterPartitionReassignments, ListPartitionReassignments).

use std::collections::BTreeMap;

use ottla_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::list_partition_reassignments_response::OngoingPartitionReassignment;
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequestData, KafkaString, ListPartitionReassignmentsRequestData,
};

use crate::{ClientError, Cluster, Result, TopicPartition};

/// A partition, and the replicas that it will have, the preferred leader first; `None` cancels what is going on.
pub type Move = (TopicPartition, Option<Vec<i32>>);

/// A partition whose replicas are being changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    pub partition: TopicPartition,
    /// All replicas: those that stay, and those of the next two fields.
    pub replicas: Vec<i32>,
    pub adding: Vec<i32>,
    pub removing: Vec<i32>,
}

impl Cluster {
    /// Begins or cancels moves. Returns those that the cluster refuses, with the reason.
    pub async fn reassign(&self, moves: &[Move]) -> Result<Vec<(TopicPartition, ClientError)>> {
        let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for (partition, replicas) in moves {
            let of_topic = topics.entry(&partition.topic).or_default();
            of_topic.push(ReassignablePartition {
                partition_index: partition.partition,
                replicas: replicas.clone(),
                ..ReassignablePartition::default()
            });
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| ReassignableTopic {
                name: KafkaString::from(name.to_owned()),
                partitions,
                ..ReassignableTopic::default()
            });
        let request = AlterPartitionReassignmentsRequestData {
            timeout_ms: self.timeout_ms(),
            topics: topics.collect(),
            ..AlterPartitionReassignmentsRequestData::default()
        };
        let response = self.call_controller(&request).await?;
        let message = response.error_message.as_ref().map(KafkaString::as_str);
        ClientError::check(response.error_code, message, "move partitions")?;
        let mut refused = Vec::new();
        for topic in &response.responses {
            for result in &topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), result.partition_index);
                let message = result.error_message.as_ref().map(KafkaString::as_str);
                let what = format!("move partition {partition}");
                if let Err(error) = ClientError::check(result.error_code, message, what) {
                    refused.push((partition, error));
                }
            }
        }
        Ok(refused)
    }

    /// The moves that are going on in the cluster, by topic and partition.
    pub async fn reassignments(&self) -> Result<Vec<Reassignment>> {
        let request = ListPartitionReassignmentsRequestData {
            timeout_ms: self.timeout_ms(),
            topics: None,
            ..ListPartitionReassignmentsRequestData::default()
        };
        let response = self.call_controller(&request).await?;
        let message = response.error_message.as_ref().map(KafkaString::as_str);
        ClientError::check(response.error_code, message, "list moves of partitions")?;
        let mut moves = Vec::new();
        for topic in &response.topics {
            let of_topic = |moved: &OngoingPartitionReassignment| Reassignment {
                partition: TopicPartition::new(topic.name.as_str(), moved.partition_index),
                replicas: moved.replicas.clone(),
                adding: moved.adding_replicas.clone(),
                removing: moved.removing_replicas.clone(),
            };
            moves.extend(topic.partitions.iter().map(of_topic));
        }
        moves.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(moves)
    }
}
