//! Validates a produced batch before it is appended: in one pass over its bytes, without a copy unless Kafka rebuilds
//! the batch too.
//!
//! The order of the checks is Kafka's (`ProduceRequest`, `UnifiedLog`, `LogValidator` of 4.3), because the first
//! failure decides the error code. The log assigns offsets and leader epoch later, under its lock.

use super::batch::BatchView;
use super::builder::{BatchBuilder, BatchOptions};
use super::compression::{Compression, CompressionLevel, DecompressError, Decompressor};
use super::header::{BatchHeader, TimestampType};
use super::record::{Record, RecordError, Records};
use super::split::{BatchError, split_batches};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;
use thiserror::Error;

/// The first Produce version whose clients may use Zstandard.
const FIRST_VERSION_WITH_ZSTD: i16 = 7;

/// A topic's `compression.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetCompression {
    /// `producer`: the batch keeps its own.
    Producer,
    /// A fixed one (`uncompressed` is [`Compression::None`]).
    Fixed(Compression, CompressionLevel),
}

/// Whether a record may have no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyRule {
    #[default]
    Optional,
    /// Every record needs a key, because compaction keeps the last record of each key.
    Required,
}

/// The settings of topic and broker for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceRules {
    /// `compression.type` and its level.
    pub compression: TargetCompression,
    /// Whether keys are required.
    pub keys: KeyRule,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// Upper bound of a decompressed batch in bytes.
    pub max_decompressed_bytes: usize,
    /// `max.decompressed.message.bytes`: upper bound of one record in a batch that is or will be compressed.
    pub max_record_bytes: usize,
}

/// A batch that may be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidBatch<'a> {
    /// The header to write, with its final timestamps and CRC. The log sets base offset and leader epoch.
    pub header: BatchHeader,
    /// The bytes after the header.
    pub body: ValidBody<'a>,
    /// The time of the append, for the response, if the topic has `LogAppendTime`.
    pub log_append_time: Option<Timestamp>,
    /// The number of records without a key.
    pub null_keys: u32,
}

/// The records of a valid batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidBody<'a> {
    /// As received: the batch from byte 61 on.
    Received(&'a [u8]),
    /// Recompressed, or with corrected offsets.
    Rebuilt(Vec<u8>),
}

impl ValidBody<'_> {
    /// The bytes to write after the header.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Received(bytes) => bytes,
            Self::Rebuilt(bytes) => bytes,
        }
    }
}

/// An invalid record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRejection {
    /// Its index in the batch, from 0.
    pub index: i32,
    pub message: String,
}

/// Why a batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RejectedBatch {
    /// The request has no batch for the partition.
    #[error("a produce request must carry a record batch for each partition")]
    Nothing,
    /// The request has more than one batch for the partition.
    #[error("a produce request may carry only one record batch for each partition")]
    SeveralBatches,
    /// The format of Kafka 0.10 or older.
    #[error("only record batches of magic 2 are accepted, this one has magic {0}")]
    LegacyMagic(i8),
    /// Zstandard from a client that is too old for it.
    #[error("produce requests below version 7 may not use zstd, this one has version {0}")]
    ZstdTooEarly(i16),
    /// The bytes are not a batch.
    #[error("the record batch is corrupt: {0}")]
    NoBatch(BatchError),
    /// The checksum is wrong.
    #[error(
        "the record batch is corrupt: its checksum is {stored:#010x}, its bytes give {computed:#010x}"
    )]
    Checksum { stored: u32, computed: u32 },
    /// The batch is larger than the topic allows, as it came or recompressed.
    #[error("the record batch has {size} bytes, max.message.bytes allows {limit}")]
    TooLarge {
        /// The size of the whole batch.
        size: usize,
        /// `max.message.bytes`.
        limit: usize,
    },
    /// A record is larger than the topic allows.
    #[error("record {index} has {size} bytes, max.decompressed.message.bytes allows {limit}")]
    RecordTooLarge {
        /// Its index in the batch, from 0.
        index: i32,
        /// The size of the record, without its length field.
        size: usize,
        /// `max.decompressed.message.bytes`.
        limit: usize,
    },
    /// The records do not decompress.
    #[error(transparent)]
    Decompression(#[from] DecompressError),
    /// The header does not match the records, or has values that a client may not set.
    #[error("{0}")]
    Header(&'static str),
    /// A record cannot be read.
    #[error(transparent)]
    Malformed(#[from] RecordError),
    /// Records break the topic's rules.
    #[error("{} of the batch's records break the rules of the topic", .0.len())]
    Records(Vec<RecordRejection>),
    /// Records break the rules of the topic, timestamps among them.
    #[error("{} of the batch's records break the rules of the topic, timestamps among them", .0.len())]
    Timestamps(Vec<RecordRejection>),
}

impl RejectedBatch {
    /// Kafka's error code for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Nothing
            | Self::SeveralBatches
            | Self::LegacyMagic(_)
            | Self::Header(_)
            | Self::Malformed(_)
            | Self::RecordTooLarge { .. }
            | Self::Records(_) => ErrorCode::InvalidRecord,
            Self::Timestamps(_) => ErrorCode::InvalidTimestamp,
            Self::ZstdTooEarly(_) => ErrorCode::UnsupportedCompressionType,
            Self::NoBatch(_) | Self::Checksum { .. } => ErrorCode::CorruptMessage,
            // A producer that gets this code splits the batch.
            Self::TooLarge { .. } | Self::Decompression(DecompressError::TooLarge { .. }) => {
                ErrorCode::MessageTooLarge
            }
            Self::Decompression(
                DecompressError::UnknownCompression(_) | DecompressError::Corrupt { .. },
            ) => ErrorCode::UnknownServerError,
        }
    }
}

/// The only batch of a partition in a produce request of `version`.
pub fn first_batch(records: &[u8], version: i16) -> Result<BatchView<'_>, RejectedBatch> {
    let mut batches = split_batches(records);
    let batch = match batches.next() {
        None | Some(Err(BatchError::Incomplete { .. })) => return Err(RejectedBatch::Nothing),
        Some(Err(BatchError::LegacyMagic(magic))) => return Err(RejectedBatch::LegacyMagic(magic)),
        Some(Err(error)) => return Err(RejectedBatch::NoBatch(error)),
        Some(Ok(batch)) => batch,
    };
    if version < FIRST_VERSION_WITH_ZSTD && batch.header().compression() == Some(Compression::Zstd)
    {
        return Err(RejectedBatch::ZstdTooEarly(version));
    }
    match batches.next() {
        // As in Kafka, an incomplete batch at the end is dropped.
        None | Some(Err(BatchError::Incomplete { .. })) => Ok(batch),
        Some(Ok(_) | Err(BatchError::LegacyMagic(_))) => Err(RejectedBatch::SeveralBatches),
        Some(Err(error)) => Err(RejectedBatch::NoBatch(error)),
    }
}

/// Validates `batch`. `now` is its timestamp if the topic has `LogAppendTime`.
pub fn validate<'a>(
    batch: &BatchView<'a>,
    rules: &ProduceRules,
    now: Timestamp,
    decompressor: &mut Decompressor,
) -> Result<ValidBatch<'a>, RejectedBatch> {
    let source = check_batch(batch, rules)?;
    let records = batch.records(decompressor, rules.max_decompressed_bytes)?;
    let target = match rules.compression {
        TargetCompression::Producer => source,
        TargetCompression::Fixed(compression, _) => compression,
    };
    // If neither the batch nor the topic is compressed, Kafka does not check the inner offsets and the sizes of
    // records.
    let is_plain = source == Compression::None && target == Compression::None;
    let max_record_bytes = if is_plain {
        usize::MAX
    } else {
        rules.max_record_bytes
    };
    let rules = &ProduceRules {
        max_record_bytes,
        ..*rules
    };
    let walked = walk(records.clone(), batch.header(), rules, now)?;
    let log_append_time = (rules.timestamp_type == TimestampType::LogAppendTime).then_some(now);
    let null_keys = walked.null_keys;
    if is_plain || (source == target && walked.offsets_are_consecutive) {
        let mut header = *batch.header();
        let max_timestamp = log_append_time.map_or(walked.max_timestamp, |now| now.0);
        header.set_timestamps(rules.timestamp_type, max_timestamp, batch.body());
        return Ok(ValidBatch {
            header,
            body: ValidBody::Received(batch.body()),
            log_append_time,
            null_keys,
        });
    }
    let (header, body) = rebuild(records, batch.header(), (rules, target), log_append_time)?;
    Ok(ValidBatch {
        header,
        body: ValidBody::Rebuilt(body),
        log_append_time,
        null_keys,
    })
}

/// The checks of the header and the checksum.
fn check_batch(batch: &BatchView<'_>, rules: &ProduceRules) -> Result<Compression, RejectedBatch> {
    let header = batch.header();
    if header.base_offset != 0 {
        return Err(RejectedBatch::Header(
            "the base offset of a produced batch must be 0",
        ));
    }
    check_size(batch.size(), rules)?;
    let computed = batch.compute_crc();
    if computed != header.crc {
        return Err(RejectedBatch::Checksum {
            stored: header.crc,
            computed,
        });
    }
    let source = header
        .compression()
        .ok_or(DecompressError::UnknownCompression(header.compression_id()))?;
    if header.last_offset_delta < 0 {
        return Err(RejectedBatch::Header(
            "the last offset of the batch is below its first",
        ));
    }
    if header.record_count <= 0 {
        return Err(RejectedBatch::Header("the batch counts no records"));
    }
    if i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        return Err(RejectedBatch::Header(
            "the offsets of the batch do not fit its record count",
        ));
    }
    if header.is_control() {
        return Err(RejectedBatch::Header(
            "clients may not write control records",
        ));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(RejectedBatch::Header(
            "a batch with a producer id must have a sequence number",
        ));
    }
    Ok(source)
}

fn check_size(size: usize, rules: &ProduceRules) -> Result<(), RejectedBatch> {
    if size > rules.max_message_bytes {
        return Err(RejectedBatch::TooLarge {
            size,
            limit: rules.max_message_bytes,
        });
    }
    Ok(())
}

struct Walked {
    max_timestamp: i64,
    offsets_are_consecutive: bool,
    null_keys: u32,
}

fn walk(
    records: Records<'_>,
    header: &BatchHeader,
    rules: &ProduceRules,
    now: Timestamp,
) -> Result<Walked, RejectedBatch> {
    let mut walked = Walked {
        max_timestamp: -1,
        offsets_are_consecutive: true,
        null_keys: 0,
    };
    let mut rejections = Vec::new();
    let mut has_bad_timestamp = false;
    for (index, record) in (0..).zip(records) {
        let record = record?;
        let (size, limit) = (record.length, rules.max_record_bytes);
        if size > limit {
            return Err(RejectedBatch::RecordTooLarge { index, size, limit });
        }
        walked.max_timestamp = walked.max_timestamp.max(record.timestamp);
        walked.offsets_are_consecutive &= record.offset == i64::from(index);
        walked.null_keys += u32::from(record.key.is_none());
        if rules.keys == KeyRule::Required && record.key.is_none() {
            let message = "a compacted topic takes no record without a key".to_owned();
            rejections.push(RecordRejection { index, message });
        } else if let Some(message) = bad_timestamp(&record, header, rules, now) {
            has_bad_timestamp = true;
            rejections.push(RecordRejection { index, message });
        }
    }
    match (rejections.is_empty(), has_bad_timestamp) {
        (true, _) => Ok(walked),
        (false, true) => Err(RejectedBatch::Timestamps(rejections)),
        (false, false) => Err(RejectedBatch::Records(rejections)),
    }
}

fn bad_timestamp(
    record: &Record<'_>,
    header: &BatchHeader,
    rules: &ProduceRules,
    now: Timestamp,
) -> Option<String> {
    if rules.timestamp_type == TimestampType::CreateTime && record.timestamp != Timestamp::NONE.0 {
        let age = now.0.wrapping_sub(record.timestamp);
        if age <= rules.timestamp_before_max_ms
            && age.wrapping_neg() <= rules.timestamp_after_max_ms
        {
            return None;
        }
        return Some(format!(
            "timestamp {} of the record is out of range: message.timestamp.before.max.ms and \
             message.timestamp.after.max.ms allow {} to {}",
            record.timestamp,
            now.0.saturating_sub(rules.timestamp_before_max_ms),
            now.0.saturating_add(rules.timestamp_after_max_ms),
        ));
    }
    (header.timestamp_type() == TimestampType::LogAppendTime)
        .then(|| "a producer may not set the timestamp type LogAppendTime".to_owned())
}

fn rebuild(
    records: Records<'_>,
    header: &BatchHeader,
    (rules, target): (&ProduceRules, Compression),
    log_append_time: Option<Timestamp>,
) -> Result<(BatchHeader, Vec<u8>), RejectedBatch> {
    let level = match rules.compression {
        TargetCompression::Producer => target.default_level(),
        TargetCompression::Fixed(_, level) => level,
    };
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: target,
        level,
        log_append_time: log_append_time.map(|time| time.0),
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        is_transactional: header.is_transactional(),
        ..BatchOptions::default()
    });
    for record in records {
        builder.append_record(&record?);
    }
    let mut bytes = builder.build().expect("a valid batch has records");
    check_size(bytes.len(), rules)?;
    let rebuilt = *BatchView::first(&bytes)
        .expect("a batch just built is a batch")
        .header();
    bytes.drain(..super::header::BATCH_OVERHEAD);
    Ok((rebuilt, bytes))
}
