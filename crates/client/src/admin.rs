//! Admin calls: topics, configs, groups. Each returns an error for the first item that the broker refuses.

mod cluster;
mod log_dirs;
mod records;

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsRequestData, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequestData,
};
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequestData};
use ottla_protocol::messages::describe_configs_request::{
    DescribeConfigsRequestData, DescribeConfigsResource,
};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequestData,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestData, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::{
    ConsumerGroupDescribeRequestData, DeleteGroupsRequestData, DescribeGroupsRequestData,
    KafkaString, KafkaUuid, ListGroupsRequestData,
};

use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::group::{decode_assignment, decode_subscription};
use crate::{ClientError, Cluster, Result, TopicPartition};

pub use cluster::{Broker, Feature, Quorum, QuorumReplica};
pub use log_dirs::LogDir;

/// A topic to be created.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; nothing for the broker's default.
    pub partitions: Option<i32>,
    /// How many replicas; nothing for the broker's default.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition, in place of the two counts.
    pub assignment: BTreeMap<i32, Vec<i32>>,
    /// Its configs.
    pub configs: BTreeMap<String, String>,
}

/// What the broker made of a [`NewTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: KafkaUuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
}

/// Something that has configs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(i32),
    /// What all brokers of the cluster share.
    BrokerDefaults,
    /// A group.
    Group(String),
}

impl Resource {
    fn wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (2, name.clone()),
            Self::Broker(id) => (4, id.to_string()),
            Self::BrokerDefaults => (4, String::new()),
            Self::Group(name) => (32, name.clone()),
        }
    }

    /// The broker that must be asked, where it matters.
    fn node(&self) -> Option<i32> {
        match self {
            Self::Broker(id) => Some(*id),
            Self::Topic(_) | Self::BrokerDefaults | Self::Group(_) => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Topic(name) => format!("configs of topic {name}"),
            Self::Broker(id) => format!("configs of broker {id}"),
            Self::BrokerDefaults => "configs of all brokers".to_owned(),
            Self::Group(name) => format!("configs of group {name}"),
        }
    }
}

/// A change of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Set it.
    Set(String),
    /// Back to its default.
    Delete,
    /// Add to a list.
    Append(String),
    /// Take out of a list.
    Subtract(String),
}

impl ConfigChange {
    fn wire(&self) -> (i8, Option<&str>) {
        match self {
            Self::Set(value) => (0, Some(value)),
            Self::Delete => (1, None),
            Self::Append(value) => (2, Some(value)),
            Self::Subtract(value) => (3, Some(value)),
        }
    }
}

/// A group, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its name.
    pub group: String,
    /// What its members speak: `consumer`, `connect`, …
    pub protocol_type: String,
    /// Its state: `Stable`, `Empty`, …
    pub state: String,
    /// `Classic` or `Consumer`.
    pub group_type: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
}

/// A group, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// Its state.
    pub state: String,
    /// How partitions are assigned.
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    /// Its members.
    pub members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id that the coordinator gave it.
    pub member_id: String,
    /// Its own name, for a static member.
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// The topics to which it has subscribed.
    pub topics: BTreeSet<String>,
    /// What it reads.
    pub partitions: Vec<TopicPartition>,
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

    /// Gives a topic more partitions, or only checks whether it could have them.
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

    /// The configs of something, with their sources and synonyms.
    pub async fn describe_configs(
        &self,
        resource: &Resource,
        documentation: Documentation,
    ) -> Result<Vec<DescribeConfigsResourceResult>> {
        let (resource_type, name) = resource.wire();
        let request = DescribeConfigsRequestData {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: KafkaString::from(name),
                configuration_keys: None,
                ..DescribeConfigsResource::default()
            }],
            include_synonyms: true,
            include_documentation: documentation == Documentation::Included,
            ..DescribeConfigsRequestData::default()
        };
        let response = match resource.node() {
            Some(node) => self.call(node, &request).await?,
            None => self.call_any(&request).await?,
        };
        let mut configs = Vec::new();
        for result in response.results {
            let message = result.error_message.as_ref().map(KafkaString::as_str);
            ClientError::check(result.error_code, message, resource.describe())?;
            configs.extend(result.configs);
        }
        Ok(configs)
    }

    /// Changes some configs of something and leaves the others, or only checks whether they could be changed.
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &BTreeMap<String, ConfigChange>,
        validation: Validation,
    ) -> Result<()> {
        let (resource_type, name) = resource.wire();
        let configs = changes.iter().map(|(name, change)| {
            let (config_operation, value) = change.wire();
            AlterableConfig {
                name: KafkaString::from(name.clone()),
                config_operation,
                value: value.map(|value| KafkaString::from(value.to_owned())),
                ..AlterableConfig::default()
            }
        });
        let request = IncrementalAlterConfigsRequestData {
            resources: vec![AlterConfigsResource {
                resource_type,
                resource_name: KafkaString::from(name),
                configs: configs.collect(),
                ..AlterConfigsResource::default()
            }],
            validate_only: validation == Validation::Only,
            ..IncrementalAlterConfigsRequestData::default()
        };
        let response = match resource.node() {
            Some(node) => self.call(node, &request).await?,
            None => self.call_controller(&request).await?,
        };
        for result in &response.responses {
            let message = result.error_message.as_ref().map(KafkaString::as_str);
            ClientError::check(result.error_code, message, resource.describe())?;
        }
        Ok(())
    }

    /// All groups, from all brokers.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>> {
        let mut groups = Vec::new();
        for node in self.metadata().nodes.keys() {
            let request = ListGroupsRequestData::default();
            let mut backoff = Backoff::new(self.options().retry_for);
            let response = loop {
                let response = self.call(*node, &request).await?;
                match ClientError::check(response.error_code, None, "list groups") {
                    Ok(()) => break response,
                    Err(error) if error.is_retriable() && backoff.wait().await => {}
                    Err(error) => return Err(error),
                }
            };
            groups.extend(response.groups.iter().map(|group| ListedGroup {
                group: group.group_id.to_string(),
                protocol_type: group.protocol_type.to_string(),
                state: group.group_state.to_string(),
                group_type: group.group_type.to_string(),
                coordinator: *node,
            }));
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    /// A group and its members, whether it speaks the classic or the newer protocol (KIP-848).
    pub async fn describe_group(&self, group: &str) -> Result<Group> {
        let request = DescribeGroupsRequestData {
            groups: vec![KafkaString::from(group.to_owned())],
            ..DescribeGroupsRequestData::default()
        };
        let mut backoff = Backoff::new(self.options().retry_for);
        loop {
            let coordinator = self.coordinator(group).await?;
            let response = self.call(coordinator, &request).await?;
            let described = response.groups.first();
            let described = described.ok_or_else(|| no_answer(format!("group {group}")))?;
            let code = ErrorCode::from(described.error_code);
            let is_dead = described.group_state.as_str() == "Dead";
            if code == ErrorCode::GroupIdNotFound || (!code.is_error() && is_dead) {
                return self.describe_consumer_group(coordinator, group).await;
            }
            let message = described.error_message.as_ref().map(KafkaString::as_str);
            match ClientError::check(described.error_code, message, format!("group {group}")) {
                Ok(()) => return Ok(classic_group(described, coordinator)),
                Err(error) if error.is_retriable() && backoff.wait().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn describe_consumer_group(&self, coordinator: i32, group: &str) -> Result<Group> {
        let what = format!("group {group}");
        let request = ConsumerGroupDescribeRequestData {
            group_ids: vec![KafkaString::from(group.to_owned())],
            ..ConsumerGroupDescribeRequestData::default()
        };
        let response = match self.call(coordinator, &request).await {
            Err(ClientError::Unsupported { .. }) => {
                ClientError::check(ErrorCode::GroupIdNotFound.code(), None, what.clone())?;
                return Err(no_answer(what));
            }
            answer => answer?,
        };
        let described = response
            .groups
            .first()
            .ok_or_else(|| no_answer(what.clone()))?;
        // A broker that offers the newer protocol and has it switched off has no such group either.
        let code = match ErrorCode::from(described.error_code) {
            ErrorCode::UnsupportedVersion => ErrorCode::GroupIdNotFound,
            code => code,
        };
        // The broker's words name the protocol it looked for; the code says all there is.
        ClientError::check(code.code(), None, what)?;
        let members = described.members.iter().map(|member| {
            let topics = member.assignment.topic_partitions.iter();
            let partitions = topics.flat_map(|topic| {
                let name = topic.topic_name.as_str();
                topic
                    .partitions
                    .iter()
                    .map(move |index| TopicPartition::new(name, *index))
            });
            Member {
                member_id: member.member_id.to_string(),
                instance_id: member.instance_id.as_ref().map(ToString::to_string),
                client_id: member.client_id.to_string(),
                host: member.client_host.to_string(),
                topics: member
                    .subscribed_topic_names
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                partitions: partitions.collect(),
            }
        });
        Ok(Group {
            group: group.to_owned(),
            state: described.group_state.to_string(),
            assignor: described.assignor_name.to_string(),
            coordinator,
            members: members.collect(),
        })
    }

    /// Deletes a group, which must have no members.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequestData {
            groups_names: vec![KafkaString::from(group.to_owned())],
            ..DeleteGroupsRequestData::default()
        };
        let coordinator = self.coordinator(group).await?;
        let response = self.call(coordinator, &request).await?;
        for result in &response.results {
            ClientError::check(result.error_code, None, format!("delete group {group}"))?;
        }
        Ok(())
    }

    /// Deletes what a group has committed for some partitions.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<()> {
        let topics = crate::offsets::by_topic(partitions)
            .into_iter()
            .map(|(name, indexes)| {
                let partition = |partition_index| OffsetDeleteRequestPartition {
                    partition_index,
                    ..OffsetDeleteRequestPartition::default()
                };
                OffsetDeleteRequestTopic {
                    name: KafkaString::from(name.to_owned()),
                    partitions: indexes.into_iter().map(partition).collect(),
                    ..OffsetDeleteRequestTopic::default()
                }
            });
        let request = OffsetDeleteRequestData {
            group_id: KafkaString::from(group.to_owned()),
            topics: topics.collect(),
            ..OffsetDeleteRequestData::default()
        };
        let coordinator = self.coordinator(group).await?;
        let response = self.call(coordinator, &request).await?;
        ClientError::check(
            response.error_code,
            None,
            format!("offsets of group {group}"),
        )?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let what = format!("offset of {}-{}", topic.name, partition.partition_index);
                ClientError::check(partition.error_code, None, what)?;
            }
        }
        Ok(())
    }

    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Whether a request is carried out or only checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Carried out.
    AndExecution,
    /// Only checked.
    Only,
}

/// Whether configs come with what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documentation {
    /// With.
    Included,
    /// Without.
    Omitted,
}

fn classic_group(described: &DescribedGroup, coordinator: i32) -> Group {
    let members = described.members.iter().map(|member| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        // Other protocol types (Connect) have subscriptions and assignments of their own.
        topics: decode_subscription(&member.member_metadata)
            .unwrap_or_default()
            .into_iter()
            .collect(),
        partitions: decode_assignment(&member.member_assignment).unwrap_or_default(),
    });
    Group {
        group: described.group_id.to_string(),
        state: described.group_state.to_string(),
        assignor: described.protocol_data.to_string(),
        coordinator,
        members: members.collect(),
    }
}

fn no_answer(what: String) -> ClientError {
    ClientError::Refused {
        what,
        code: ErrorCode::UnknownServerError,
        message: Some("the broker left it out of its answer".to_owned()),
    }
}
