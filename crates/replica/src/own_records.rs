//! Records that this node itself keeps in a partition, as coordinators do. It reads them all, in any role, and appends
//! as leader. Blocks on the disk.
//!
//! A record that cannot be read is skipped and counted: one bad record must not make the others unreadable.

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
/// Upper bound of a decompressed batch of a coordinator.
const MAX_DECOMPRESSED: usize = 256 * 1024 * 1024;

/// Why a partition cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A read within its offsets failed.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Calls `take` with every record of `partition`; `take` returns whether it could decode the record. Returns the number
/// of skipped records.
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
            // Compaction has removed the remaining records before the end of the log.
            break;
        }
    }
    Ok(passed_over)
}

/// The next whole batches from `offset` on.
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
    // A damaged batch may still decode, as an offset that was never committed.
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

/// Appends one batch as a whole and asks for a flush; returns the offset of its first record. A refusal is logged, and
/// its error code returned.
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
