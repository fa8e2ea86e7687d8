//! Replays a partition of `__consumer_offsets` into the state of its groups. Blocks on the disk.

use ottla_coordinator::group::offsets::TransactionResult;
use ottla_coordinator::state::Position;
use ottla_coordinator::{Config, Shard};
use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::records::control::ControlType;
use ottla_protocol::records::{BatchHeader, Record};
use ottla_protocol::time::MonotonicTime;

use super::records;
use crate::replicas::Partition;

pub use super::records::LoadError;

/// Replays the whole partition into a new shard. What cannot be read is passed over and said.
pub fn read(partition: &Partition, config: Config, now: MonotonicTime) -> Result<Shard, LoadError> {
    let mut shard = Shard::new(config);
    let passed_over = records::for_each(partition, now, |header, record| {
        if header.is_control() {
            apply_marker(&mut shard, header, record)
        } else {
            apply_record(&mut shard, header, record)
        }
    })?;
    if passed_over > 0 {
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.index.0,
            records = passed_over,
            "records of a group coordinator cannot be read, and were passed over"
        );
    }
    Ok(shard)
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
