//! `ListOffsets` (key 2), versions 1 to 11.
//!
//! - 1: one offset a timestamp. 2: isolation level. 4: leader epochs. 6: flexible.
//! - 7: -3, the largest timestamp. 8: -4, the earliest on local disk. 9: -5, the latest tiered.
//! - 10: timeout. 11: -6, the earliest that waits to be tiered. There is no tiered storage: -5 and -6 find nothing.

use std::collections::BTreeSet;

use ottla_log::{Bound, OffsetAtTime, TimeQuery, TimeQueryError};
use ottla_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use ottla_protocol::messages::list_offsets_request::ListOffsetsPartition;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::{ErrorCode, ListOffsetsRequestData, ListOffsetsResponseData};
use ottla_protocol::time::Timestamp;

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::replicas::Found;
use crate::replicas::partition::Unavailable;

/// From this version on an offset comes with its leader epoch.
const FIRST_WITH_LEADER_EPOCH: i16 = 4;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Finds an offset for each partition.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListOffsetsRequestData,
) -> ListOffsetsResponseData {
    let bound = match (request.replica_id, request.isolation_level) {
        (-1, 1) => Bound::LastStableOffset,
        (-1, _) => Bound::HighWatermark,
        _ => Bound::LogEnd,
    };
    let mut seen = BTreeSet::new();
    let mut duplicates = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.as_str(), partition.partition_index);
            if !seen.insert(key) {
                duplicates.insert(key);
            }
        }
    }
    let mut refused = BTreeSet::new();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().filter_map(|partition| {
            let key = (topic.name.as_str(), partition.partition_index);
            let found = if !duplicates.contains(&key) {
                let name = topic.name.as_str();
                find(broker, context.version, name, (partition, bound))
            } else if refused.insert(key) {
                Err(ErrorCode::InvalidRequest)
            } else {
                return None;
            };
            Some(answer(partition.partition_index, context.version, found))
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponseData::default().with_topics(topics.collect())
}

fn find(
    broker: &Broker,
    version: i16,
    topic: &str,
    (wanted, bound): (&ListOffsetsPartition, Bound),
) -> Result<Option<OffsetAtTime>, ErrorCode> {
    let query = query(wanted.timestamp, version, bound)?;
    let partition = match broker
        .replicas
        .by_name(topic, PartitionIndex(wanted.partition_index))
    {
        Found::Here(partition) => partition,
        Found::Elsewhere => return Err(ErrorCode::NotLeaderOrFollower),
        Found::UnknownTopic | Found::UnknownPartition => {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
    };
    let epoch =
        (wanted.current_leader_epoch >= 0).then_some(LeaderEpoch(wanted.current_leader_epoch));
    let found = partition.with_leader_log(epoch, |log| {
        let Some(query) = query else { return Ok(None) };
        let limit = log.bound(bound);
        let found = log.offset_at(query)?;
        let is_search = matches!(query, TimeQuery::At(_) | TimeQuery::MaxTimestamp);
        // A search may hit what the asker may not see yet.
        Ok(found.filter(|found| !is_search || found.offset < limit))
    });
    let found = found.map_err(|error| error.code())?;
    found.map_err(|error| match error {
        TimeQueryError::Storage(error) => Unavailable::from(error).code(),
        TimeQueryError::RecordTooLarge(_) => ErrorCode::InvalidRecord,
    })
}

/// What the timestamp asks for; nothing for what is never found here.
fn query(timestamp: i64, version: i16, bound: Bound) -> Result<Option<TimeQuery>, ErrorCode> {
    let since = |first: i16, query: Option<TimeQuery>| {
        if version >= first {
            Ok(query)
        } else {
            Err(ErrorCode::UnsupportedVersion)
        }
    };
    match timestamp {
        LATEST => Ok(Some(TimeQuery::Latest(bound))),
        EARLIEST => Ok(Some(TimeQuery::Earliest)),
        MAX_TIMESTAMP => since(7, Some(TimeQuery::MaxTimestamp)),
        EARLIEST_LOCAL => since(8, Some(TimeQuery::Earliest)),
        LATEST_TIERED => since(9, None),
        EARLIEST_PENDING_UPLOAD => since(11, None),
        0.. => Ok(Some(TimeQuery::At(Timestamp(timestamp)))),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

fn answer(
    index: i32,
    version: i16,
    found: Result<Option<OffsetAtTime>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let (found, code) = match found {
        Ok(found) => (found, ErrorCode::None),
        Err(code) => (None, code),
    };
    let epoch = found
        .filter(|_| version >= FIRST_WITH_LEADER_EPOCH)
        .and_then(|found| found.leader_epoch)
        .unwrap_or(LeaderEpoch::NONE);
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code.code())
        .with_timestamp(found.map_or(Timestamp::NONE, |found| found.timestamp).0)
        .with_offset(found.map_or(Offset::NONE, |found| found.offset).0)
        .with_leader_epoch(epoch.0)
}
