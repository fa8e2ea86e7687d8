//! The header of a record batch: its first 61 bytes.
//!
//! | bytes | field | bytes | field |
//! |---|---|---|---|
//! | 0..8 | base offset | 23..27 | last offset delta |
//! | 8..12 | length (of what follows) | 27..35, 35..43 | base and largest timestamp |
//! | 12..16 | partition leader epoch | 43..51, 51..53 | producer id and epoch |
//! | 16 | magic | 53..57 | base sequence |
//! | 17..21 | CRC-32C of 21 onwards | 57..61 | record count |
//! | 21..23 | attributes | 61.. | records |

use super::compression::Compression;
use crate::ids::Offset;
use bytes::{Buf, BufMut};

/// The record format's version: the only one that Kafka 4 writes or accepts from a producer.
pub const MAGIC: i8 = 2;
/// The bytes of a batch before its records.
pub const BATCH_OVERHEAD: usize = 61;
/// The bytes that tell a batch's size: base offset and length.
pub const HEADER_UP_TO_LENGTH: usize = 12;
/// The length field of a batch without records.
const LENGTH_WITHOUT_RECORDS: i32 = 49;
/// The bytes that tell a batch's size and format.
pub const HEADER_UP_TO_MAGIC: usize = 17;
/// The position of the first byte that the CRC covers.
pub(super) const CRC_COVERS_FROM: usize = 21;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_FLAG: i16 = 0x08;
const TRANSACTIONAL_FLAG: i16 = 0x10;
const CONTROL_FLAG: i16 = 0x20;
const DELETE_HORIZON_FLAG: i16 = 0x40;
/// The attribute bits that Kafka keeps when it rewrites a batch. It drops the others.
const KNOWN_FLAGS: i16 = 0x7f;

/// Who set the timestamps of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer, for each record.
    #[default]
    CreateTime,
    /// The broker: all records have the batch's largest timestamp.
    LogAppendTime,
}

/// The fields of a batch's header, as in the bytes. Nothing is validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record, also after compaction has removed that record.
    pub base_offset: i64,
    /// The bytes that follow the length field.
    pub length: i32,
    /// The epoch of the leader that appended the batch; -1 before that.
    pub partition_leader_epoch: i32,
    /// The record format, 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression and flags.
    pub attributes: i16,
    /// The last offset of the batch, relative to `base_offset`.
    pub last_offset_delta: i32,
    /// The base of the records' timestamp deltas; the delete horizon if that flag is set.
    pub base_timestamp: i64,
    /// The largest timestamp of the records, or the time of the append.
    pub max_timestamp: i64,
    /// The idempotent producer, -1 for none.
    pub producer_id: i64,
    /// Its epoch, -1 for none.
    pub producer_epoch: i16,
    /// The sequence number of the first record, -1 for none.
    pub base_sequence: i32,
    /// The number of records, according to the header.
    pub record_count: i32,
}

impl BatchHeader {
    pub fn decode(bytes: &[u8; BATCH_OVERHEAD]) -> Self {
        let mut bytes = bytes.as_slice();
        Self {
            base_offset: bytes.get_i64(),
            length: bytes.get_i32(),
            partition_leader_epoch: bytes.get_i32(),
            magic: bytes.get_i8(),
            crc: bytes.get_u32(),
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            record_count: bytes.get_i32(),
        }
    }

    /// The 61 bytes of the header.
    pub fn encode(&self) -> [u8; BATCH_OVERHEAD] {
        let mut encoded = [0; BATCH_OVERHEAD];
        let mut out = encoded.as_mut_slice();
        out.put_i64(self.base_offset);
        out.put_i32(self.length);
        out.put_i32(self.partition_leader_epoch);
        out.put_i8(self.magic);
        out.put_u32(self.crc);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
        encoded
    }

    /// The size of the whole batch, from the length field; `None` if that is too small for a header.
    pub fn size(&self) -> Option<usize> {
        let size = usize::try_from(self.length)
            .ok()?
            .checked_add(HEADER_UP_TO_LENGTH)?;
        (size >= BATCH_OVERHEAD).then_some(size)
    }

    /// The offset of the first record.
    pub fn base_offset(&self) -> Offset {
        Offset(self.base_offset)
    }

    /// The offset of the last record, or of the last that compaction removed.
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .wrapping_add(i64::from(self.last_offset_delta)),
        )
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.wrapping_add(1))
    }

    /// The compression of the records; `None` for an unknown id.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_id((self.attributes & COMPRESSION_MASK) as u8)
    }

    /// The compression bits of the attributes.
    pub fn compression_id(&self) -> u8 {
        (self.attributes & COMPRESSION_MASK) as u8
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_FLAG == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction; also true for its marker.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_FLAG != 0
    }

    /// Whether the batch holds control records, which no consumer sees.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_FLAG != 0
    }

    /// Whether the batch has a producer id.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > -1
    }

    /// The time from which compaction may remove tombstones and markers in the batch. The first compaction that meets
    /// them sets it.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_FLAG != 0).then_some(self.base_timestamp)
    }

    /// The sequence number of the last record, -1 without sequences.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == -1 {
            return -1;
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// Sets the timestamp type and the largest timestamp, and updates the CRC if they have changed. `body` is the batch
    /// from byte 61 on.
    pub fn set_timestamps(
        &mut self,
        timestamp_type: TimestampType,
        max_timestamp: i64,
        body: &[u8],
    ) {
        if self.timestamp_type() == timestamp_type && self.max_timestamp == max_timestamp {
            return;
        }
        let flag = match timestamp_type {
            TimestampType::CreateTime => 0,
            TimestampType::LogAppendTime => LOG_APPEND_TIME_FLAG,
        };
        self.attributes = (self.attributes & KNOWN_FLAGS & !LOG_APPEND_TIME_FLAG) | flag;
        self.max_timestamp = max_timestamp;
        self.crc = self.compute_crc(body);
    }

    /// The header of this batch without records, as compaction leaves it: producer, offsets and sequences stay.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let kept_flags = LOG_APPEND_TIME_FLAG | TRANSACTIONAL_FLAG | CONTROL_FLAG;
        let mut header = Self {
            length: LENGTH_WITHOUT_RECORDS,
            attributes: self.attributes & kept_flags,
            base_timestamp: -1,
            record_count: 0,
            ..*self
        };
        header.crc = header.compute_crc(&[]);
        header
    }

    /// The CRC of this header followed by `body`.
    pub fn compute_crc(&self, body: &[u8]) -> u32 {
        let encoded = self.encode();
        let (_, covered) = encoded.split_at(CRC_COVERS_FROM);
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(covered);
        digest.update(body);
        u32::try_from(digest.finalize()).expect("a CRC-32C has 32 bits")
    }
}

/// The attribute bits of a compression and a timestamp type.
pub(super) fn attributes(compression: Compression, timestamp_type: TimestampType) -> i16 {
    let flag = match timestamp_type {
        TimestampType::CreateTime => 0,
        TimestampType::LogAppendTime => LOG_APPEND_TIME_FLAG,
    };
    i16::from(compression.id()) | flag
}

/// `attributes` with the flags of a transactional or control batch, and of a set delete horizon.
pub(super) fn with_flags(
    attributes: i16,
    transactional: bool,
    control: bool,
    delete_horizon: bool,
) -> i16 {
    let mut attributes = attributes;
    for (wanted, flag) in [
        (transactional, TRANSACTIONAL_FLAG),
        (control, CONTROL_FLAG),
        (delete_horizon, DELETE_HORIZON_FLAG),
    ] {
        if wanted {
            attributes |= flag;
        }
    }
    attributes
}

/// The sequence number `increment` higher; 0 follows `i32::MAX`.
pub fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    if sequence > i32::MAX.wrapping_sub(increment) {
        increment
            .wrapping_sub(i32::MAX.wrapping_sub(sequence))
            .wrapping_sub(1)
    } else {
        sequence.wrapping_add(increment)
    }
}
