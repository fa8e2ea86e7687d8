//! `AlterPartition` (key 56), versions 2 and 3.
//!
//! - 3: the ISR with the epoch of each broker (KIP-903).

use ottla_controller::alter_partition::{Rejection, Wanted};
use ottla_controller::request::AlterPartition;
use ottla_metadata::Partition;
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::alter_partition_request::PartitionData as Asked;
use ottla_protocol::messages::alter_partition_response::{PartitionData, TopicData};
use ottla_protocol::messages::{AlterPartitionRequestData, AlterPartitionResponseData, ErrorCode};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The recovery state of a leader that was elected uncleanly.
const RECOVERING: i8 = 1;

/// Changes the ISRs of partitions for their leader.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: AlterPartitionRequestData,
) -> AlterPartitionResponseData {
    let refused =
        |code: ErrorCode| AlterPartitionResponseData::default().with_error_code(code.code());
    let topics = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| wanted(topic.topic_id, partition, context.version))
    });
    let operation = AlterPartition {
        broker: NodeId(request.broker_id),
        epoch: request.broker_epoch,
        partitions: topics.collect(),
    };
    let decided = match broker.controller.ask_here(operation).await {
        Ok(Ok(decided)) => decided,
        Ok(Err(refusal)) => return refused(refusal.code()),
        Err(_) => return refused(ErrorCode::NotController),
    };
    let mut topics: Vec<TopicData> = Vec::new();
    for ((id, index), outcome) in decided {
        let partition = partition(index, outcome);
        match topics.last_mut().filter(|topic| topic.topic_id == id) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                TopicData::default()
                    .with_topic_id(id)
                    .with_partitions(vec![partition]),
            ),
        }
    }
    AlterPartitionResponseData::default().with_topics(topics)
}

fn wanted(topic: Uuid, asked: &Asked, version: i16) -> Wanted {
    let isr = if version >= 3 {
        let members = asked.new_isr_with_epochs.iter();
        members
            .map(|member| (NodeId(member.broker_id), member.broker_epoch))
            .collect()
    } else {
        asked.new_isr.iter().map(|id| (NodeId(*id), -1)).collect()
    };
    Wanted {
        place: (topic, PartitionIndex(asked.partition_index)),
        leader_epoch: LeaderEpoch(asked.leader_epoch),
        partition_epoch: asked.partition_epoch,
        isr,
        recovering: asked.leader_recovery_state == RECOVERING,
    }
}

fn partition(index: PartitionIndex, outcome: Result<Partition, Rejection>) -> PartitionData {
    let answer = PartitionData::default().with_partition_index(index.0);
    match outcome {
        Ok(partition) => answer
            .with_leader_id(partition.leader.map_or(-1, |leader| leader.0))
            .with_leader_epoch(partition.leader_epoch.0)
            .with_isr(partition.isr.iter().map(|id| id.0).collect())
            .with_leader_recovery_state(i8::from(partition.recovering))
            .with_partition_epoch(partition.partition_epoch),
        Err(rejection) => answer.with_error_code(rejection.code().code()),
    }
}
