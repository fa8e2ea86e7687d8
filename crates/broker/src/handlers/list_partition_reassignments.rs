//! `ListPartitionReassignments` (key 46), version 0.

use ottla_metadata::{Partition, Topic};
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use ottla_protocol::messages::{
    ErrorCode, ListPartitionReassignmentsRequestData, ListPartitionReassignmentsResponseData,
};

use super::metadata::numbers;
use crate::broker::Broker;
use crate::context::{ListenerRole, RequestContext};

/// Lists partitions that are being reassigned: among those requested, or all. Of the controllers only the active one
/// answers.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListPartitionReassignmentsRequestData,
) -> ListPartitionReassignmentsResponseData {
    let is_active = || broker.controller.sessions().is_active();
    if context.connection.role == ListenerRole::Controller && !is_active() {
        return ListPartitionReassignmentsResponseData::default()
            .with_error_code(ErrorCode::NotController.code());
    }
    let image = broker.controller.image();
    let topics: Vec<OngoingTopicReassignment> = match request.topics {
        None => {
            let topics = image.topics.values();
            topics
                .filter_map(|topic| ongoing(topic, |_| true))
                .collect()
        }
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let topic = image.topic(asked.name.as_str())?;
                ongoing(topic, |index| asked.partition_indexes.contains(&index.0))
            })
            .collect(),
    };
    ListPartitionReassignmentsResponseData::default().with_topics(topics)
}

fn ongoing(
    topic: &Topic,
    is_asked: impl Fn(PartitionIndex) -> bool,
) -> Option<OngoingTopicReassignment> {
    let partitions: Vec<OngoingPartitionReassignment> = topic
        .partitions
        .iter()
        .filter(|(index, partition)| is_asked(**index) && is_moving(partition))
        .map(|(index, partition)| {
            OngoingPartitionReassignment::default()
                .with_partition_index(index.0)
                .with_replicas(numbers(&partition.replicas))
                .with_adding_replicas(numbers(&partition.adding))
                .with_removing_replicas(numbers(&partition.removing))
        })
        .collect();
    (!partitions.is_empty()).then(|| {
        OngoingTopicReassignment::default()
            .with_name(topic.name.clone().into())
            .with_partitions(partitions)
    })
}

fn is_moving(partition: &Partition) -> bool {
    !partition.adding.is_empty() || !partition.removing.is_empty()
}
