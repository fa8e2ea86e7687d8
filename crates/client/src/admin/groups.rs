//! Lists, describes and deletes groups.

use std::collections::BTreeSet;

use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::{
    ConsumerGroupDescribeRequestData, DeleteGroupsRequestData, DescribeGroupsRequestData,
    KafkaString, ListGroupsRequestData,
};

use super::no_answer;
use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::group::{decode_assignment, decode_subscription};
use crate::{ClientError, Cluster, Result, TopicPartition};

/// A group, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its name.
    pub group: String,
    /// The protocol type of its members: `consumer`, `connect`, …
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
    pub state: String,
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    pub members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id that the coordinator gave it.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    pub host: String,
    pub topics: BTreeSet<String>,
    pub partitions: Vec<TopicPartition>,
}

impl Cluster {
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

    /// A group and its members, of the classic protocol or of the newer one (KIP-848).
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
        // A broker whose newer protocol is switched off has no group of that protocol.
        let code = match ErrorCode::from(described.error_code) {
            ErrorCode::UnsupportedVersion => ErrorCode::GroupIdNotFound,
            code => code,
        };
        // Without the broker's message: it names only one of the two protocols that were tried.
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
}

fn classic_group(described: &DescribedGroup, coordinator: i32) -> Group {
    let members = described.members.iter().map(|member| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        // Other protocol types (Connect) have other subscriptions and assignments, which cannot be read here.
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
