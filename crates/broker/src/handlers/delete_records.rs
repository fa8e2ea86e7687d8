//! `DeleteRecords` (key 21), versions 0 to 2.
//!
//! - 2: flexible.
//!
//! Only readable records are deleted: records that are not on stable storage yet are flushed first. The new log start
//! offsets are written before the answer, so that deleted records do not come back after a crash. The answer waits until the
//! followers on live brokers have deleted the records too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::TrimError;
use ottla_protocol::ids::{Offset, PartitionIndex};
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use ottla_protocol::messages::{
    DeleteRecordsRequestData, DeleteRecordsResponseData, ErrorCode, KafkaString,
};
use ottla_protocol::time::MonotonicTime;

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::drivers::disk_work::blocking;
use crate::internal_topics::is_internal;
use crate::process::clock::Clock;
use crate::replicas::ends::{self, Unreached};
use crate::replicas::partition::{Partition, Unavailable, reader};
use crate::replicas::{Directory, distinct};

/// An offset that means "up to the high watermark".
const TO_HIGH_WATERMARK: i64 = -1;

/// A partition whose records may be deleted, and up to which offset: `None` is the high watermark.
type Wanted = Result<(Arc<Partition>, Option<Offset>), ErrorCode>;

/// Moves the log start offset of each partition.
pub async fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    mut request: DeleteRecordsRequestData,
) -> DeleteRecordsResponseData {
    request.topics = as_named_last(request.topics);
    let mut wanted: Vec<Wanted> = Vec::new();
    for topic in &request.topics {
        let partitions = topic.partitions.iter();
        wanted.extend(partitions.map(|wanted| find(broker, topic.name.as_str(), wanted)));
    }
    let timeout = Duration::from_millis(request.timeout_ms.max(0).cast_unsigned().into());
    let timeout = timeout.max(ends::LEAST_PATIENCE);
    let end = broker.clock.monotonic().after(timeout);
    let wanted = reach(wanted, timeout, broker.clock).await;
    let deleting = Arc::clone(broker);
    // Removing and writing files takes long.
    let mut deleted = blocking(move || delete_all(&deleting, request, wanted)).await;
    for (_, partitions) in &mut deleted {
        for (_, deleted) in partitions {
            if let Ok(deleted) = deleted {
                deleted.low_watermark = followed(deleted, broker.clock, end).await;
            }
        }
    }
    respond(deleted)
}

/// Waits until the followers on live brokers have deleted the records too. Returns the lowest log start offset, and the
/// error.
async fn followed(deleted: &Deleted, clock: Clock, end: MonotonicTime) -> (Offset, ErrorCode) {
    let reader = reader();
    loop {
        match deleted.partition.low_watermark(deleted.start, &reader) {
            Err(unavailable) => return (Offset(-1), unavailable.code()),
            Ok(lowest) if lowest >= deleted.start => return (lowest, ErrorCode::None),
            Ok(lowest) if clock.monotonic() >= end => return (lowest, ErrorCode::RequestTimedOut),
            Ok(_) => {}
        }
        tokio::select! {
            () = reader.consumer().notified() => {}
            () = clock.sleep_until(Some(end)) => {}
        }
    }
}

/// Waits until the records to delete can be read.
async fn reach(wanted: Vec<Wanted>, limit: Duration, clock: Clock) -> Vec<Wanted> {
    let awaited = wanted.iter().flatten().map(|(partition, offset)| {
        // An offset beyond the end is refused later, without a wait. So is a partition that cannot serve.
        let end = partition.offsets().map_or(Offset(0), |all| all.log_end);
        let until = offset.unwrap_or(end);
        let until = if until > end { Offset(0) } else { until };
        (Arc::clone(partition), until)
    });
    let awaited: Vec<_> = awaited.collect();
    let mut reached = ends::reach(&awaited, limit, clock).await.into_iter();
    let wanted = wanted.into_iter().map(|wanted| {
        let wanted = wanted?;
        match reached.next() {
            None | Some(Ok(())) => Ok(wanted),
            Some(Err(Unreached::Unavailable(unavailable))) => Err(unavailable.code()),
            Some(Err(Unreached::Late)) => Err(ErrorCode::RequestTimedOut),
        }
    });
    wanted.collect()
}

/// A partition whose records were deleted.
struct Deleted {
    partition: Arc<Partition>,
    /// Its new log start offset.
    start: Offset,
    /// The lowest log start offset of the replicas, and the error.
    low_watermark: (Offset, ErrorCode),
}

/// The partitions of a topic, by their indexes.
type OfTopic = (KafkaString, Vec<(i32, Result<Deleted, ErrorCode>)>);

fn delete_all(
    broker: &Broker,
    request: DeleteRecordsRequestData,
    wanted: Vec<Wanted>,
) -> Vec<OfTopic> {
    let mut wanted = wanted.into_iter();
    let mut deleted = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().zip(&mut wanted);
        let partitions = partitions.map(|(partition, wanted)| {
            let deleted = wanted.and_then(|wanted| delete(broker, wanted));
            (partition.partition_index, deleted)
        });
        let partitions: Vec<_> = partitions.collect();
        deleted.push((topic.name, partitions));
    }
    let all = deleted.iter().flat_map(|(_, partitions)| partitions);
    let unwritten = write_log_starts(broker, all.flat_map(|(_, deleted)| deleted));
    for (_, deleted) in deleted.iter_mut().flat_map(|(_, partitions)| partitions) {
        let is_unwritten = |deleted: &Deleted| {
            let directory = deleted.partition.directory();
            unwritten.iter().any(|known| Arc::ptr_eq(known, directory))
        };
        if deleted.as_ref().is_ok_and(is_unwritten) {
            *deleted = Err(ErrorCode::KafkaStorageError);
        }
    }
    deleted
}

fn respond(deleted: Vec<OfTopic>) -> DeleteRecordsResponseData {
    let topics = deleted.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, deleted)| {
            let (low_watermark, code) = match deleted {
                Ok(deleted) => deleted.low_watermark,
                Err(code) => (Offset(-1), code),
            };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(index)
                .with_low_watermark(low_watermark.0)
                .with_error_code(code.code())
        });
        DeleteRecordsTopicResult::default()
            .with_partitions(partitions.collect())
            .with_name(name)
    });
    DeleteRecordsResponseData::default().with_topics(topics.collect())
}

/// Each partition once. If the request names it more often, its last offset counts.
fn as_named_last(topics: Vec<DeleteRecordsTopic>) -> Vec<DeleteRecordsTopic> {
    let mut wanted: BTreeMap<String, BTreeMap<i32, DeleteRecordsPartition>> = BTreeMap::new();
    for topic in topics {
        let partitions = wanted.entry(topic.name.as_str().to_owned()).or_default();
        let named = topic.partitions.into_iter();
        partitions.extend(named.map(|partition| (partition.partition_index, partition)));
    }
    let topics = wanted.into_iter().map(|(name, partitions)| {
        DeleteRecordsTopic::default()
            .with_name(name.into())
            .with_partitions(partitions.into_values().collect())
    });
    topics.collect()
}

/// Writes the log start offsets; returns the log directories where that failed.
fn write_log_starts<'a>(
    broker: &Broker,
    deleted: impl Iterator<Item = &'a Deleted>,
) -> Vec<Arc<Directory>> {
    let mut directories = distinct(deleted.map(|deleted| deleted.partition.directory()));
    directories.retain(|directory| match broker.replicas.ensure_log_starts(directory) {
        Ok(()) => false,
        Err(error) => {
            tracing::error!(%error, "cannot write the log start offsets: deleted records may come back after a crash");
            true
        }
    });
    directories
}

fn find(broker: &Broker, topic: &str, wanted: &DeleteRecordsPartition) -> Wanted {
    let partition = broker
        .replicas
        .by_name(topic, PartitionIndex(wanted.partition_index))
        .or_code()?;
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let settings = partition.settings();
    // A topic without any policy keeps its records for ever; deleting them by hand is allowed.
    if settings.log.compact && !settings.log.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    match wanted.offset {
        TO_HIGH_WATERMARK => Ok((partition, None)),
        0.. => Ok((partition, Some(Offset(wanted.offset)))),
        _ => Err(ErrorCode::OffsetOutOfRange),
    }
}

fn delete(
    broker: &Broker,
    (partition, offset): (Arc<Partition>, Option<Offset>),
) -> Result<Deleted, ErrorCode> {
    let now = broker.clock.now().wall;
    let trimmed = partition.with_leader_log(None, |log| log.delete_records(offset, now));
    match trimmed.map_err(|error| error.code())? {
        Ok(start) => Ok(Deleted {
            partition,
            start,
            low_watermark: (start, ErrorCode::None),
        }),
        Err(TrimError::BeyondHighWatermark { .. }) => Err(ErrorCode::OffsetOutOfRange),
        Err(TrimError::Storage(error)) => Err(Unavailable::from(error).code()),
    }
}
