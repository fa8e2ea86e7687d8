//! Records that the node itself keeps in a partition, as coordinators do: read from the first to the last, whoever
//! leads, and appended as leader. Blocks on the disk.
//!
//! A record that cannot be read is passed over and counted: one bad record must not take the rest with it.

use std::sync::Arc;

use ottla_log::files::Files;
use ottla_log::{Batch, Bound, FirstBatch, Origin, ReadError, ReadRequest, StorageError};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::{BatchHeader, BatchView, Decompressor, Record, split_batches};
use ottla_protocol::time::{MonotonicTime, Now};

use crate::partition::{Append, RequiredAcks};
use crate::{Host, Partition, Unavailable};

/// `offsets.load.buffer.size` of Kafka: bytes read at once.
const READ_BYTES: usize = 5 * 1024 * 1024;
/// The most that one batch of a coordinator may hold once decompressed.
const MAX_DECOMPRESSED: usize = 256 * 1024 * 1024;

/// Why a partition cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It cannot be read where its offsets say that there are records.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The disk cannot.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Hands every record of `partition` to `take`, which says whether it understood; returns how many were passed over.
pub fn for_each<F: Files, H: Host>(
    partition: &Partition<F, H>,
    now: MonotonicTime,
    mut take: impl FnMut(&BatchHeader, &Record<'_>) -> bool,
) -> Result<u64, LoadError> {
    let mut decompressor = Decompressor::default();
    let mut passed_over = 0;
    let offsets = partition.offsets()?;
    let mut next = offsets.log_start;
    while next < offsets.log_end {
        let bytes = read(partition, next, now)?;
        let start = next;
        for batch in split_batches(&bytes).map_while(Result::ok) {
            next = batch.header().next_offset().max(next);
            passed_over += replay(&batch, &mut decompressor, &mut take);
        }
        if next == start {
            // Nothing there although the log goes on: what is left was compacted away.
            break;
        }
    }
    Ok(passed_over)
}

/// A piece of the log: whole batches, the first of them with `offset` or behind it.
fn read<F: Files, H: Host>(
    partition: &Partition<F, H>,
    offset: Offset,
    now: MonotonicTime,
) -> Result<Vec<u8>, LoadError> {
    let request = ReadRequest {
        offset,
        max_bytes: READ_BYTES,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::LogEnd,
    };
    let plan = partition
        .plan_own(&request, now)
        .ok_or(Unavailable::Gone)??;
    let mut bytes = Vec::new();
    plan.read(&mut bytes)?;
    Ok(bytes)
}

fn replay(
    batch: &BatchView<'_>,
    decompressor: &mut Decompressor,
    take: &mut impl FnMut(&BatchHeader, &Record<'_>) -> bool,
) -> u64 {
    let header = *batch.header();
    // What has rotted may still decode, as an offset that nobody has committed.
    if !batch.is_crc_valid() {
        return 1;
    }
    let Ok(records) = batch.records(decompressor, MAX_DECOMPRESSED) else {
        return 1;
    };
    let mut passed_over = 0;
    for record in records {
        let is_taken = record.is_ok_and(|record| take(&header, &record));
        passed_over += u64::from(!is_taken);
    }
    passed_over
}

/// Appends one batch, all or none, and asks for a flush; returns the offset of its first record, or the error code of
/// the refusal, which is logged.
pub fn append<F: Files, H: Host>(
    partition: &Arc<Partition<F, H>>,
    batch: &[u8],
    now: Now,
) -> Result<Offset, ErrorCode> {
    let limit = partition.settings().rules.max_message_bytes;
    if batch.len() > limit {
        tracing::error!(
            bytes = batch.len(),
            limit,
            topic = &*partition.topic,
            "a group's record is too large; raise max.message.bytes of the topic"
        );
        return Err(ErrorCode::MessageTooLarge);
    }
    let view = BatchView::first(batch).expect("a batch that was built can be read");
    let batches = [Batch::from(view)];
    let append = Append {
        batches: &batches,
        acks: RequiredAcks::All,
    };
    let outcome = partition.append(&[append], Origin::Coordinator, now).pop();
    outcome
        .expect("an outcome for each request")
        .map(|appended| appended.first_offset)
        .map_err(|refused| {
            tracing::warn!(
                topic = &*partition.topic,
                partition = partition.index.0,
                error = %refused,
                "a group coordinator cannot write"
            );
            refused.code()
        })
}
