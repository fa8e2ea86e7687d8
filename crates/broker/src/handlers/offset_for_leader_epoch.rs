//! `OffsetForLeaderEpoch` (key 23), versions 2 to 4.
//!
//! - 2: the asker's current leader epoch. 3: replica id. 4: flexible.
//!
//! Says where a leader epoch ends, so that a reader notices that its log was cut off.

use ottla_protocol::ids::{LeaderEpoch, PartitionIndex};
use ottla_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_protocol::messages::{
    ErrorCode, OffsetForLeaderEpochRequestData, OffsetForLeaderEpochResponseData,
};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::replicas::Found;

/// Finds the end of an epoch for each partition.
pub fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: OffsetForLeaderEpochRequestData,
) -> OffsetForLeaderEpochResponseData {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|wanted| find(broker, topic.topic.as_str(), wanted));
        OffsetForLeaderTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic(topic.topic.clone())
    });
    OffsetForLeaderEpochResponseData::default().with_topics(topics.collect())
}

fn find(broker: &Broker, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(wanted.partition);
    let failed = |code: ErrorCode| answer.clone().with_error_code(code.code());
    let partition = match broker
        .replicas
        .by_name(topic, PartitionIndex(wanted.partition))
    {
        Found::Here(partition) => partition,
        Found::Elsewhere => return failed(ErrorCode::NotLeaderOrFollower),
        Found::UnknownTopic | Found::UnknownPartition => {
            return failed(ErrorCode::UnknownTopicOrPartition);
        }
    };
    let current =
        (wanted.current_leader_epoch >= 0).then_some(LeaderEpoch(wanted.current_leader_epoch));
    let end = partition.with_leader_log(current, |log| {
        log.end_of_epoch(LeaderEpoch(wanted.leader_epoch))
    });
    match end {
        Ok(Some(end)) => answer
            .with_leader_epoch(end.epoch.0)
            .with_end_offset(end.end.0),
        Ok(None) => answer.with_leader_epoch(-1).with_end_offset(-1),
        Err(error) => failed(error.code()),
    }
}
