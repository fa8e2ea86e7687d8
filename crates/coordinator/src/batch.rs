//! Encodes the records of a coordinator as a batch, and applies the records of a log to a shard.

use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::records::control::ControlType;
use ottla_protocol::records::{BatchBuilder, BatchHeader, BatchOptions, Compression, Record};
use ottla_protocol::time::Timestamp;

use crate::group::offsets::TransactionResult;
use crate::group::offsets::record::value_version;
use crate::runtime::Unavailable;
use crate::shard::Shard;
use crate::state::Position;

/// One batch of these records, of which there must be at least one.
pub fn encode(
    compression: Compression,
    records: &[GroupRecord],
    now: Timestamp,
) -> Result<Vec<u8>, Unavailable> {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        level: compression.default_level(),
        ..BatchOptions::default()
    });
    for record in records {
        // Encoding fails only for a string that is longer than the format allows (32 KiB).
        let encoded = record.encode(value_version(record));
        let (key, value) = encoded.map_err(|_| Unavailable::TooLarge)?;
        builder.append(now.0, Some(&key), value.as_deref(), &[]);
    }
    Ok(builder.build().expect("a batch with records can be built"))
}

impl Shard {
    /// Applies a record of the partition while the shard is loaded. False if the record cannot be read.
    pub fn replay(&mut self, header: &BatchHeader, record: &Record<'_>) -> bool {
        if header.is_control() {
            self.replay_marker(header, record)
        } else {
            self.replay_data(header, record)
        }
    }

    fn replay_marker(&mut self, header: &BatchHeader, record: &Record<'_>) -> bool {
        let result = match ControlType::from_key(record.key) {
            Ok(ControlType::Commit) => TransactionResult::Commit,
            Ok(ControlType::Abort) => TransactionResult::Abort,
            Ok(_) => return true,
            Err(_) => return false,
        };
        self.apply_marker(ProducerId(header.producer_id), result);
        true
    }

    fn replay_data(&mut self, header: &BatchHeader, record: &Record<'_>) -> bool {
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
        let position = Position {
            offset: Offset(record.offset),
            producer_id,
        };
        self.apply(position, decoded);
        true
    }
}
