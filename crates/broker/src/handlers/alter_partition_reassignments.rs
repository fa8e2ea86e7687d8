//! `AlterPartitionReassignments` (key 45), versions 0 and 1.
//!
//! - 1: whether the number of replicas may change.

use ottla_controller::reassignments::{self, ReplicationFactor, Wanted};
use ottla_controller::request::AlterPartitionReassignments;
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_protocol::messages::alter_partition_reassignments_request::ReassignableTopic;
use ottla_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequestData, AlterPartitionReassignmentsResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Assigns partitions to brokers, each by itself.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AlterPartitionReassignmentsRequestData,
) -> AlterPartitionReassignmentsResponseData {
    let response = AlterPartitionReassignmentsResponseData::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change);
    let wanted: Vec<Wanted> = request.topics.into_iter().flat_map(wanted).collect();
    let replication_factor = if request.allow_replication_factor_change {
        ReplicationFactor::MayChange
    } else {
        ReplicationFactor::Stays
    };
    let asked = AlterPartitionReassignments {
        partitions: wanted,
        replication_factor,
    };
    match broker.controller.ask_here(asked).await {
        Ok(reply) => response.with_responses(responses(reply)),
        Err(_) => response.with_error_code(ErrorCode::NotController.code()),
    }
}

fn wanted(topic: ReassignableTopic) -> Vec<Wanted> {
    let name = topic.name.as_str().to_owned();
    let partitions = topic.partitions.into_iter();
    partitions
        .map(|partition| {
            let replicas = partition
                .replicas
                .map(|replicas| replicas.into_iter().map(NodeId).collect());
            let index = PartitionIndex(partition.partition_index);
            ((name.clone(), index), replicas)
        })
        .collect()
}

/// The results by topic; adjacent results of one topic share an entry.
fn responses(reply: reassignments::Reply) -> Vec<ReassignableTopicResponse> {
    let mut responses: Vec<ReassignableTopicResponse> = Vec::new();
    for ((topic, index), outcome) in reply {
        let partition = ReassignablePartitionResponse::default().with_partition_index(index.0);
        let partition = match outcome {
            Ok(()) => partition,
            Err(refusal) => partition
                .with_error_code(refusal.code().code())
                .with_error_message(Some(refusal.to_string().into())),
        };
        match responses.last_mut() {
            Some(last) if last.name.as_str() == topic => last.partitions.push(partition),
            _ => responses.push(
                ReassignableTopicResponse::default()
                    .with_name(topic.into())
                    .with_partitions(vec![partition]),
            ),
        }
    }
    responses
}
