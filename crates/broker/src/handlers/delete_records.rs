//! `DeleteRecords` (key 21), versions 0 to 2.
//!
//! - 2: flexible.
//!
//! The new log start offsets are written down before the answer: what was deleted does not come back by a crash.

use std::sync::Arc;

use ottla_log::TrimError;
use ottla_protocol::ids::{Offset, PartitionIndex};
use ottla_protocol::messages::delete_records_request::DeleteRecordsPartition;
use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use ottla_protocol::messages::{DeleteRecordsRequestData, DeleteRecordsResponseData, ErrorCode};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::replicas::Found;
use crate::replicas::partition::Unavailable;
use crate::topics::is_internal;

/// An offset that means "up to the high watermark".
const TO_HIGH_WATERMARK: i64 = -1;

/// Moves the log start offset of each partition.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DeleteRecordsRequestData,
) -> DeleteRecordsResponseData {
    let topics: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|wanted| {
                let deleted = delete(broker, topic.name.as_str(), wanted);
                let (low_watermark, code) = match deleted {
                    Ok(start) => (start.0, ErrorCode::None),
                    Err(code) => (-1, code),
                };
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(wanted.partition_index)
                    .with_low_watermark(low_watermark)
                    .with_error_code(code.code())
            });
            let partitions = partitions.collect();
            DeleteRecordsTopicResult::default()
                .with_partitions(partitions)
                .with_name(topic.name)
        })
        .collect();
    let replicas = Arc::clone(&broker.replicas);
    let written = tokio::task::spawn_blocking(move || replicas.write_log_starts()).await;
    if let Ok(Err(error)) = written {
        tracing::error!(%error, "cannot write the log start offsets");
    }
    DeleteRecordsResponseData::default().with_topics(topics)
}

fn delete(
    broker: &Broker,
    topic: &str,
    wanted: &DeleteRecordsPartition,
) -> Result<Offset, ErrorCode> {
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
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    if !partition.settings().log.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = match wanted.offset {
        TO_HIGH_WATERMARK => None,
        0.. => Some(Offset(wanted.offset)),
        _ => return Err(ErrorCode::OffsetOutOfRange),
    };
    let now = broker.clock.now().wall;
    let trimmed = partition.with_leader_log(None, |log| log.delete_records(offset, now));
    match trimmed.map_err(|error| error.code())? {
        Ok(start) => Ok(start),
        Err(TrimError::BeyondHighWatermark { .. }) => Err(ErrorCode::OffsetOutOfRange),
        Err(TrimError::Storage(error)) => Err(Unavailable::from(error).code()),
    }
}
