//! Reads a coordinator partition from its first record to its last. Blocks on the disk.
//!
//! A record that cannot be read is passed over and reported: one bad record must not take the groups of a whole
//! partition with it.

use std::sync::Arc;

use ottla_coordinator::group::offsets::TransactionResult;
use ottla_coordinator::state::Position;
use ottla_coordinator::{Config, Shard};
use ottla_log::{Bound, FirstBatch};
use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::records::control::ControlType;
use ottla_protocol::records::{BatchHeader, BatchView, Decompressor, Record, split_batches};

use crate::replicas::Partition;
use crate::replicas::partition::{ReadAt, Unavailable, Unreadable};

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
    Unreadable(#[from] Unreadable),
}

/// Replays the whole partition into a new shard.
pub fn read(partition: &Arc<Partition>, config: Config) -> Result<Shard, LoadError> {
    let mut replay = Replay {
        partition,
        shard: Shard::new(config),
        decompressor: Decompressor::default(),
        passed_over: 0,
    };
    let offsets = partition.offsets()?;
    let mut next = offsets.log_start;
    while next < offsets.log_end {
        next = replay.read_from(next)?;
    }
    if replay.passed_over > 0 {
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.index.0,
            records = replay.passed_over,
            "records of a group coordinator cannot be read, and were passed over"
        );
    }
    Ok(replay.shard)
}

struct Replay<'a> {
    partition: &'a Arc<Partition>,
    shard: Shard,
    decompressor: Decompressor,
    passed_over: u64,
}

impl Replay<'_> {
    /// Replays a piece of the log and returns the offset that follows it.
    fn read_from(&mut self, offset: Offset) -> Result<Offset, LoadError> {
        let planned = self.partition.plan(&ReadAt {
            offset,
            max_bytes: READ_BYTES,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::LogEnd,
            current_epoch: None,
            last_fetched_epoch: None,
        })?;
        let mut bytes = Vec::new();
        let read = planned.plan.read(&mut bytes);
        read.map_err(|error| LoadError::Unavailable(error.into()))?;
        let mut next = offset;
        for batch in split_batches(&bytes).map_while(Result::ok) {
            next = batch.header().next_offset().max(next);
            self.replay(&batch);
        }
        if next == offset {
            // Nothing there although the log goes on: what is left was compacted away.
            return Ok(planned.offsets.log_end);
        }
        Ok(next)
    }

    fn replay(&mut self, batch: &BatchView<'_>) {
        let header = *batch.header();
        let Ok(records) = batch.records(&mut self.decompressor, MAX_DECOMPRESSED) else {
            self.passed_over += 1;
            return;
        };
        for record in records {
            let applied = match record {
                Ok(record) if header.is_control() => {
                    apply_marker(&mut self.shard, &header, &record)
                }
                Ok(record) => apply_record(&mut self.shard, &header, &record),
                Err(_) => false,
            };
            self.passed_over += u64::from(!applied);
        }
    }
}

fn apply_marker(shard: &mut Shard, header: &BatchHeader, record: &Record<'_>) -> bool {
    let result = match ControlType::from_key(record.key) {
        Ok(ControlType::Commit) => TransactionResult::Commit,
        Ok(ControlType::Abort) => TransactionResult::Abort,
        Ok(_) => return true,
        Err(_) => return false,
    };
    shard.apply_marker(ProducerId(header.producer_id), result);
    true
}

fn apply_record(shard: &mut Shard, header: &BatchHeader, record: &Record<'_>) -> bool {
    let Some(key) = record.key else { return false };
    let key = bytes::Bytes::copy_from_slice(key);
    let value = record.value.map(bytes::Bytes::copy_from_slice);
    let Ok(decoded) = GroupRecord::decode(key, value) else {
        return false;
    };
    let producer_id = if header.is_transactional() {
        ProducerId(header.producer_id)
    } else {
        ProducerId::NONE
    };
    let offset = Offset(record.offset);
    shard.apply(
        Position {
            offset,
            producer_id,
        },
        decoded,
    );
    true
}
