//! `OffsetForLeaderEpoch` (key 23), versions 2 to 4.
//!
//! - 2: the reader's current leader epoch. 3: replica id. 4: flexible.
//!
//! Returns where a leader epoch ends, by which a reader notices that the log was truncated. The end is flushed before the
//! answer, as a crash could truncate it otherwise.

use std::sync::Arc;

use ottla_log::EpochEnd;
use ottla_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use ottla_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_protocol::messages::{
    ErrorCode, OffsetForLeaderEpochRequestData, OffsetForLeaderEpochResponseData,
};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::replicas::Partition;
use crate::replicas::ends::{self, Unreached};

/// The end offset of an epoch, if the log knows the epoch.
type Looked = Result<(Arc<Partition>, Option<EpochEnd>), ErrorCode>;

/// Finds the end of an epoch for each partition.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: OffsetForLeaderEpochRequestData,
) -> OffsetForLeaderEpochResponseData {
    let mut ends = Vec::new();
    for topic in &request.topics {
        let partitions = topic.partitions.iter();
        ends.extend(partitions.map(|wanted| find(broker, topic.topic.as_str(), wanted)));
    }
    let awaited = ends.iter().flatten().map(|(partition, end)| {
        let until = end.as_ref().map_or(Offset(0), |end| end.end);
        (Arc::clone(partition), until)
    });
    let awaited: Vec<_> = awaited.collect();
    let mut reached = ends::reach(&awaited, ends::PATIENCE, broker.clock)
        .await
        .into_iter();
    let mut ends = ends.into_iter().map(|end| {
        let (_, end) = end?;
        let reached = reached.next().unwrap_or(Ok(()));
        reached.map(|()| end).map_err(|unreached| match unreached {
            Unreached::Unavailable(unavailable) => unavailable.code(),
            Unreached::Late => ErrorCode::OffsetNotAvailable,
        })
    });
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut ends);
        let partitions = partitions.map(|(wanted, end)| answer(wanted.partition, end));
        OffsetForLeaderTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic(topic.topic.clone())
    });
    OffsetForLeaderEpochResponseData::default().with_topics(topics.collect())
}

fn find(broker: &Broker, topic: &str, wanted: &OffsetForLeaderPartition) -> Looked {
    let partition = broker
        .replicas
        .by_name(topic, PartitionIndex(wanted.partition))
        .or_code()?;
    let current =
        (wanted.current_leader_epoch >= 0).then_some(LeaderEpoch(wanted.current_leader_epoch));
    let end = partition.with_leader_log(current, |log| {
        log.end_of_epoch(LeaderEpoch(wanted.leader_epoch))
    });
    let end = end.map_err(|error| error.code())?;
    Ok((partition, end))
}

fn answer(index: i32, end: Result<Option<EpochEnd>, ErrorCode>) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(index);
    match end {
        Ok(Some(end)) => answer
            .with_leader_epoch(end.epoch.0)
            .with_end_offset(end.end.0),
        Ok(None) => answer.with_leader_epoch(-1).with_end_offset(-1),
        Err(code) => answer.with_error_code(code.code()),
    }
}
