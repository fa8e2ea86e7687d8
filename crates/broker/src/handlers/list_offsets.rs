//! `ListOffsets` (key 2), versions 1 to 11.
//!
//! - 1: one offset for each timestamp. 2: isolation level. 4: leader epochs. 6: flexible.
//! - 7: -3, the largest timestamp. 8: -4, the earliest on local disk. 9: -5, the latest tiered.
//! - 10: timeout. 11: -6, the earliest that waits to be tiered. There is no tiered storage: -5 and -6 find nothing.
//!
//! A record that is found may not be readable yet: its producer was answered (acks=1), but it is not flushed. The answer
//! then waits for the flush. So each log is asked twice: first how far it must be readable, then for the answer.
//! A new leader answers consumers with OFFSET_NOT_AVAILABLE where its high watermark may be lower than that of the leader
//! before it (KIP-207).

use std::collections::BTreeSet;
use std::sync::Arc;

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
use crate::replicas::ends::{self, Unreached};
use crate::replicas::partition::{Partition, Unavailable};

/// From this version on an offset comes with its leader epoch.
const FIRST_WITH_LEADER_EPOCH: i16 = 4;
/// From this version on clients know `OFFSET_NOT_AVAILABLE`.
const FIRST_WITH_OFFSET_NOT_AVAILABLE: i16 = 5;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The question about one partition, and the result of the first search.
struct Asked {
    partition: Arc<Partition>,
    epoch: Option<LeaderEpoch>,
    query: Option<TimeQuery>,
    found: Option<OffsetAtTime>,
    /// How far the log must be readable before the answer.
    until: Offset,
}

/// Finds an offset for each partition.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListOffsetsRequestData,
) -> ListOffsetsResponseData {
    let version = context.version;
    let bound = match (request.replica_id, request.isolation_level) {
        (-1, 1) => Bound::LastStableOffset,
        (-1, _) => Bound::HighWatermark,
        _ => Bound::LogEnd,
    };
    let duplicates = duplicates(&request);
    let mut refused = BTreeSet::new();
    let mut asked = Vec::new();
    for topic in &request.topics {
        let name = topic.name.as_str();
        let partitions = topic.partitions.iter().filter_map(|partition| {
            let key = (name, partition.partition_index);
            let asked = if !duplicates.contains(&key) {
                ask(broker, version, name, (partition, bound))
            } else if refused.insert(key) {
                Err(ErrorCode::InvalidRequest)
            } else {
                return None;
            };
            Some((partition.partition_index, asked))
        });
        asked.push(partitions.collect::<Vec<_>>());
    }
    let awaited = asked.iter().flatten();
    let awaited = awaited.filter_map(|(_, asked)| asked.as_ref().ok());
    let awaited: Vec<_> = awaited
        .map(|asked| (Arc::clone(&asked.partition), asked.until))
        .collect();
    let mut reached = ends::reach(&awaited, ends::PATIENCE, broker.clock)
        .await
        .into_iter();
    let topics = request.topics.iter().zip(asked).map(|(topic, asked)| {
        let partitions = asked.into_iter().map(|(index, asked)| {
            let found = asked.and_then(|asked| {
                let reached = reached.next().unwrap_or(Ok(()));
                reached.map_err(|unreached| code(&unreached, version))?;
                asked.answer(bound, version)
            });
            answer(index, version, found)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponseData::default().with_topics(topics.collect())
}

/// The partitions that the request names more than once.
fn duplicates(request: &ListOffsetsRequestData) -> BTreeSet<(&str, i32)> {
    let mut seen = BTreeSet::new();
    let named = request.topics.iter().flat_map(|topic| {
        let indexes = topic.partitions.iter();
        indexes.map(|partition| (topic.name.as_str(), partition.partition_index))
    });
    named.filter(|partition| !seen.insert(*partition)).collect()
}

fn ask(
    broker: &Broker,
    version: i16,
    topic: &str,
    (wanted, bound): (&ListOffsetsPartition, Bound),
) -> Result<Asked, ErrorCode> {
    let query = query(wanted.timestamp, version, bound)?;
    let partition = broker
        .replicas
        .by_name(topic, PartitionIndex(wanted.partition_index))
        .or_code()?;
    let epoch =
        (wanted.current_leader_epoch >= 0).then_some(LeaderEpoch(wanted.current_leader_epoch));
    let looked = partition.with_leader_log(epoch, |log| {
        let Some(query) = query else {
            return Ok((None, Offset(0)));
        };
        let found = log.offset_at(query)?;
        let until = match query {
            _ if bound == Bound::LogEnd => Offset(0),
            TimeQuery::Earliest => Offset(0),
            TimeQuery::Latest(_) => log.log_end_offset(),
            TimeQuery::At(_) | TimeQuery::MaxTimestamp => {
                found.map_or(Offset(0), |found| found.offset.plus(1))
            }
        };
        Ok((found, until))
    });
    let looked = looked.map_err(|error| error.code())?;
    let (found, until) = looked.map_err(not_found)?;
    Ok(Asked {
        partition,
        epoch,
        query,
        found,
        until,
    })
}

impl Asked {
    /// The answer, once the log is readable as far as needed.
    fn answer(self, bound: Bound, version: i16) -> Result<Option<OffsetAtTime>, ErrorCode> {
        let Some(query) = self.query else {
            return Ok(None);
        };
        let is_behind = bound != Bound::LogEnd && self.partition.is_behind_its_epoch();
        let found = self.partition.with_leader_log(self.epoch, |log| {
            if matches!(query, TimeQuery::At(_) | TimeQuery::MaxTimestamp) {
                // A search may find a record that the client may not read yet.
                let limit = log.bound(bound);
                return Ok(self.found.filter(|found| found.offset < limit));
            }
            log.offset_at(query)
        });
        let found = found.map_err(|error| error.code())?.map_err(not_found)?;
        let is_below = found.is_some() && !matches!(query, TimeQuery::Latest(_));
        if is_behind && !is_below {
            return Err(not_available(version));
        }
        Ok(found)
    }
}

fn not_found(error: TimeQueryError) -> ErrorCode {
    match error {
        TimeQueryError::Storage(error) => Unavailable::from(error).code(),
        TimeQueryError::RecordTooLarge(_) => ErrorCode::InvalidRecord,
    }
}

/// The error after a wait that failed. Clients retry each of them.
fn code(unreached: &Unreached, version: i16) -> ErrorCode {
    match unreached {
        Unreached::Unavailable(unavailable) => unavailable.code(),
        Unreached::Late => not_available(version),
    }
}

/// The offset cannot be told yet.
fn not_available(version: i16) -> ErrorCode {
    if version >= FIRST_WITH_OFFSET_NOT_AVAILABLE {
        ErrorCode::OffsetNotAvailable
    } else {
        ErrorCode::LeaderNotAvailable
    }
}

/// The query that a timestamp stands for; `None` for tiered storage, where no offset is ever found.
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
