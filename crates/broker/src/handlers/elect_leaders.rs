//! `ElectLeaders` (key 43), versions 0 to 2.
//!
//! - 1: the kind of election, and an error for the whole answer.

use ottla_controller::Refusal;
use ottla_controller::elections::{self, Election, Named};
use ottla_controller::request::ElectLeaders;
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::elect_leaders_request::TopicPartitions;
use ottla_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use ottla_protocol::messages::{ElectLeadersRequestData, ElectLeadersResponseData, ErrorCode};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Elects leaders, partition by partition.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: ElectLeadersRequestData,
) -> ElectLeadersResponseData {
    let failed = |code: ErrorCode| ElectLeadersResponseData::default().with_error_code(code.code());
    let election = match request.election_type {
        0 => Election::Preferred,
        1 => Election::Unclean,
        _ => return failed(ErrorCode::InvalidRequest),
    };
    let partitions: Option<Vec<Named>> = request
        .topic_partitions
        .map(|topics| topics.into_iter().flat_map(named).collect());
    let asked = ElectLeaders {
        election,
        partitions,
    };
    match broker.controller.ask_here(asked).await {
        Ok(reply) => {
            ElectLeadersResponseData::default().with_replica_election_results(results(reply))
        }
        Err(_) => failed(ErrorCode::NotController),
    }
}

fn named(topic: TopicPartitions) -> Vec<Named> {
    let name = topic.topic.as_str();
    let partitions = topic.partitions.iter();
    partitions
        .map(|index| (name.to_owned(), PartitionIndex(*index)))
        .collect()
}

/// The results by topic; adjacent results of one topic share an entry.
fn results(reply: elections::Reply) -> Vec<ReplicaElectionResult> {
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for ((topic, index), outcome) in reply {
        let partition = result(index, outcome);
        match results.last_mut() {
            Some(last) if last.topic.as_str() == topic => last.partition_result.push(partition),
            _ => results.push(
                ReplicaElectionResult::default()
                    .with_topic(topic.into())
                    .with_partition_result(vec![partition]),
            ),
        }
    }
    results
}

fn result(index: PartitionIndex, outcome: Result<(), Refusal>) -> PartitionResult {
    let result = PartitionResult::default().with_partition_id(index.0);
    match outcome {
        Ok(()) => result,
        Err(refusal) => result
            .with_error_code(refusal.code().code())
            .with_error_message(Some(refusal.to_string().into())),
    }
}
