//! Creates and deletes topics, and adds partitions to them.

use std::collections::BTreeMap;

use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsRequestData, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequestData,
};
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequestData};
use ottla_protocol::messages::{KafkaString, KafkaUuid};

use super::{Validation, no_answer};
use crate::{ClientError, Cluster, Result};

/// A topic to be created.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    pub name: String,
    /// The number of partitions; `None` for the broker's default.
    pub partitions: Option<i32>,
    /// The number of replicas; `None` for the broker's default.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition, instead of the two numbers.
    pub assignment: BTreeMap<i32, Vec<i32>>,
    pub configs: BTreeMap<String, String>,
}

/// A topic as the broker created it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    pub id: KafkaUuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// The number of replicas of each partition.
    pub replication_factor: i16,
}

impl Cluster {
    /// Creates a topic, or only checks whether it could be created.
    pub async fn create_topic(
        &self,
        topic: &NewTopic,
        validation: Validation,
    ) -> Result<CreatedTopic> {
        let has_assignment = !topic.assignment.is_empty();
        let count = |count: Option<i32>| {
            if has_assignment {
                -1
            } else {
                count.unwrap_or(-1)
            }
        };
        let replicas = topic.replication_factor.filter(|_| !has_assignment);
        let assignments =
            topic
                .assignment
                .iter()
                .map(|(index, brokers)| CreatableReplicaAssignment {
                    partition_index: *index,
                    broker_ids: brokers.clone(),
                    ..CreatableReplicaAssignment::default()
                });
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: KafkaString::from(name.clone()),
                value: Some(KafkaString::from(value.clone())),
                ..CreatableTopicConfig::default()
            });
        let request = CreateTopicsRequestData {
            topics: vec![CreatableTopic {
                name: KafkaString::from(topic.name.clone()),
                num_partitions: count(topic.partitions),
                replication_factor: replicas.unwrap_or(-1),
                assignments: assignments.collect(),
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            validate_only: validation == Validation::Only,
            ..CreateTopicsRequestData::default()
        };
        let response = self.call_controller(&request).await?;
        let created = response.topics.first();
        let created = created.ok_or_else(|| no_answer(format!("create topic {}", topic.name)))?;
        let message = created.error_message.as_ref().map(KafkaString::as_str);
        ClientError::check(
            created.error_code,
            message,
            format!("create topic {}", topic.name),
        )?;
        Ok(CreatedTopic {
            id: created.topic_id,
            partitions: created.num_partitions,
            replication_factor: created.replication_factor,
        })
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequestData {
            topics: vec![DeleteTopicState {
                name: Some(KafkaString::from(name.to_owned())),
                ..DeleteTopicState::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..DeleteTopicsRequestData::default()
        };
        let response = self.call_controller(&request).await?;
        self.forget(name);
        for topic in &response.responses {
            let message = topic.error_message.as_ref().map(KafkaString::as_str);
            ClientError::check(topic.error_code, message, format!("delete topic {name}"))?;
        }
        Ok(())
    }

    /// Raises the number of partitions of a topic to `count`, or only checks whether that is possible.
    pub async fn create_partitions(
        &self,
        topic: &str,
        count: i32,
        validation: Validation,
    ) -> Result<()> {
        let request = CreatePartitionsRequestData {
            topics: vec![CreatePartitionsTopic {
                name: KafkaString::from(topic.to_owned()),
                count,
                assignments: None,
                ..CreatePartitionsTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            validate_only: validation == Validation::Only,
            ..CreatePartitionsRequestData::default()
        };
        let response = self.call_controller(&request).await?;
        self.forget(topic);
        for result in &response.results {
            let message = result.error_message.as_ref().map(KafkaString::as_str);
            ClientError::check(
                result.error_code,
                message,
                format!("add partitions to {topic}"),
            )?;
        }
        Ok(())
    }
}
