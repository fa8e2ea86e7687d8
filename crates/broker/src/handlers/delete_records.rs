//! `DeleteRecords` (key 21), versions 0 to 2.
//!
//! - 2: flexible.
//!
//! Only readable records are deleted: records that are not on stable storage yet are flushed first. The new log start
//! offsets are written before the answer, so that deleted records do not come back after a crash.

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
use ottla_protocol::messages::{DeleteRecordsRequestData, DeleteRecordsResponseData, ErrorCode};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::drivers::disk_work::blocking;
use crate::internal_topics::is_internal;
use crate::process::clock::Clock;
use crate::replicas::ends::{self, Unreached};
use crate::replicas::partition::{Partition, Unavailable};
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
    let wanted = reach(wanted, timeout.max(ends::LEAST_PATIENCE), broker.clock).await;
    let broker = Arc::clone(broker);
    // Removing and writing files takes long.
    blocking(move || delete_all(&broker, request, wanted)).await
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

/// The new log start offset of a partition, not written yet.
type Deleted = Result<(Offset, Arc<Partition>), ErrorCode>;

fn delete_all(
    broker: &Broker,
    request: DeleteRecordsRequestData,
    wanted: Vec<Wanted>,
) -> DeleteRecordsResponseData {
    let mut wanted = wanted.into_iter();
    let mut deleted = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().zip(&mut wanted);
        let partitions = partitions.map(|(partition, wanted)| {
            let deleted = wanted.and_then(|wanted| delete(broker, wanted));
            (partition.partition_index, deleted)
        });
        let partitions: Vec<(i32, Deleted)> = partitions.collect();
        deleted.push((topic.name, partitions));
    }
    let all = deleted.iter().flat_map(|(_, partitions)| partitions);
    let unwritten = write_log_starts(broker, all.flat_map(|(_, deleted)| deleted));
    let topics = deleted.into_iter().map(|(name, partitions)| {
        let partitions = partitions
            .into_iter()
            .map(|(index, deleted)| answer(index, deleted, &unwritten));
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
    deleted: impl Iterator<Item = &'a (Offset, Arc<Partition>)>,
) -> Vec<Arc<Directory>> {
    let mut directories = distinct(deleted.map(|(_, partition)| partition.directory()));
    directories.retain(|directory| match broker.replicas.ensure_log_starts(directory) {
        Ok(()) => false,
        Err(error) => {
            tracing::error!(%error, "cannot write the log start offsets: deleted records may come back after a crash");
            true
        }
    });
    directories
}

fn answer(
    index: i32,
    deleted: Deleted,
    unwritten: &[Arc<Directory>],
) -> DeleteRecordsPartitionResult {
    let is_unwritten = |partition: &Partition| {
        let mut unwritten = unwritten.iter();
        unwritten.any(|directory| Arc::ptr_eq(directory, partition.directory()))
    };
    let (low_watermark, code) = match deleted {
        Ok((_, partition)) if is_unwritten(&partition) => (-1, ErrorCode::KafkaStorageError),
        Ok((start, _)) => (start.0, ErrorCode::None),
        Err(code) => (-1, code),
    };
    DeleteRecordsPartitionResult::default()
        .with_partition_index(index)
        .with_low_watermark(low_watermark)
        .with_error_code(code.code())
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

fn delete(broker: &Broker, (partition, offset): (Arc<Partition>, Option<Offset>)) -> Deleted {
    let now = broker.clock.now().wall;
    let trimmed = partition.with_leader_log(None, |log| log.delete_records(offset, now));
    match trimmed.map_err(|error| error.code())? {
        Ok(start) => Ok((start, partition)),
        Err(TrimError::BeyondHighWatermark { .. }) => Err(ErrorCode::OffsetOutOfRange),
        Err(TrimError::Storage(error)) => Err(Unavailable::from(error).code()),
    }
}
