//! Builds batches: the broker's own (offsets, groups, metadata, markers), a client's, and recompressed ones.

use super::compression::{Compression, CompressionLevel};
use super::control::ControlRecord;
use super::header::{self, BATCH_OVERHEAD, BatchHeader, HEADER_UP_TO_LENGTH, MAGIC, TimestampType};
use super::record::{Header, Record};
use super::varint;

/// The properties of a batch. The default is an uncompressed batch with `CreateTime` at offset 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// The offset of the batch; records get consecutive ones from here unless they come with their own.
    pub base_offset: i64,
    /// The epoch of the leader that appends it; -1 if it is not known yet.
    pub partition_leader_epoch: i32,
    /// The compression of the records.
    pub compression: Compression,
    /// The level of that compression.
    pub level: CompressionLevel,
    /// The time of the append for `LogAppendTime`; `None` for `CreateTime`.
    pub log_append_time: Option<i64>,
    /// The idempotent producer, -1 for none.
    pub producer_id: i64,
    /// Its epoch, -1 for none.
    pub producer_epoch: i16,
    /// The sequence number of the first record, -1 for none.
    pub base_sequence: i32,
    /// Whether the records belong to a transaction.
    pub is_transactional: bool,
    /// Whether the records are control records.
    pub is_control: bool,
    /// The time from which compaction may remove tombstones and markers in the batch; set by compaction.
    pub delete_horizon_ms: Option<i64>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            base_offset: 0,
            partition_leader_epoch: -1,
            compression: Compression::None,
            level: Compression::None.default_level(),
            log_append_time: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            is_transactional: false,
            is_control: false,
            delete_horizon_ms: None,
        }
    }
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// 61 bytes for the header, then the uncompressed records.
    bytes: Vec<u8>,
    headers: Vec<u8>,
    record_count: i32,
    next_offset: i64,
    last_offset: Option<i64>,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> Self {
        Self {
            options,
            bytes: vec![0; BATCH_OVERHEAD],
            headers: Vec::new(),
            record_count: 0,
            next_offset: options.base_offset,
            last_offset: None,
            base_timestamp: options.delete_horizon_ms,
            max_timestamp: -1,
        }
    }

    /// A control batch with one record, for markers and the quorum's records.
    pub fn control(options: BatchOptions, timestamp: i64, record: &ControlRecord) -> Vec<u8> {
        let mut builder = Self::new(BatchOptions {
            is_control: true,
            ..options
        });
        builder.append(
            timestamp,
            Some(&record.control_type().key()),
            Some(&record.encode_value()),
            &[],
        );
        builder.build().expect("a batch with a record can be built")
    }

    /// Appends a record at the next offset.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        let mut encoded = std::mem::take(&mut self.headers);
        encoded.clear();
        for header in headers {
            write_bytes(&mut encoded, Some(header.key));
            write_bytes(&mut encoded, header.value);
        }
        let content = Content {
            key,
            value,
            header_count: headers.len(),
            headers: &encoded,
        };
        self.append_at(self.next_offset, timestamp, &content);
        self.headers = encoded;
    }

    /// Appends a record of another batch at the next offset.
    pub fn append_record(&mut self, record: &Record<'_>) {
        self.append_at(self.next_offset, record.timestamp, &Content::of(record));
    }

    /// Appends a record of another batch at its own offset, which must not be below the next one (compaction).
    pub fn append_record_at_its_offset(&mut self, record: &Record<'_>) {
        assert!(
            record.offset >= self.next_offset,
            "records are appended in the order of their offsets"
        );
        self.append_at(record.offset, record.timestamp, &Content::of(record));
    }

    /// Sets the last offset of the batch, which may be after its last record: compaction keeps the range of offsets.
    pub fn end_at(&mut self, offset: i64) {
        self.last_offset = Some(offset);
    }

    /// The number of records so far.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// The size of the batch so far, before compression.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The largest timestamp so far, -1 for none.
    pub fn max_timestamp(&self) -> i64 {
        self.options.log_append_time.unwrap_or(self.max_timestamp)
    }

    /// The batch; `None` if it would have neither records nor a range of offsets to keep.
    pub fn build(mut self) -> Option<Vec<u8>> {
        if self.record_count == 0 && self.last_offset.is_none() {
            return None;
        }
        if self.options.compression != Compression::None {
            let plain = std::mem::replace(&mut self.bytes, vec![0; BATCH_OVERHEAD]);
            let records = plain.get(BATCH_OVERHEAD..).unwrap_or_default();
            self.options
                .compression
                .compress(self.options.level, records, &mut self.bytes);
        }
        let mut header = self.header();
        let (front, body) = self
            .bytes
            .split_first_chunk_mut::<BATCH_OVERHEAD>()
            .expect("room for a header");
        header.crc = header.compute_crc(body);
        *front = header.encode();
        Some(self.bytes)
    }

    fn header(&self) -> BatchHeader {
        let options = &self.options;
        let timestamp_type = match options.log_append_time {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        let attributes = header::with_flags(
            header::attributes(options.compression, timestamp_type),
            options.is_transactional,
            options.is_control,
            options.delete_horizon_ms.is_some(),
        );
        let last_offset = self.last_offset.unwrap_or(self.next_offset - 1);
        BatchHeader {
            base_offset: options.base_offset,
            length: i32::try_from(self.bytes.len() - HEADER_UP_TO_LENGTH)
                .expect("a batch stays below 2 GiB"),
            partition_leader_epoch: options.partition_leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes,
            last_offset_delta: i32::try_from(last_offset - options.base_offset)
                .expect("offsets of one batch are near"),
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.max_timestamp(),
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.record_count,
        }
    }

    fn append_at(&mut self, offset: i64, timestamp: i64, content: &Content<'_>) {
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        let offset_delta = i32::try_from(offset - self.options.base_offset)
            .expect("offsets of one batch are near each other");
        content.write(
            &mut self.bytes,
            timestamp.wrapping_sub(base_timestamp),
            offset_delta,
        );
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count += 1;
        self.next_offset = offset + 1;
    }
}

/// A record without its deltas.
struct Content<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: usize,
    /// The headers, encoded.
    headers: &'a [u8],
}

impl<'a> Content<'a> {
    fn of(record: &Record<'a>) -> Self {
        Self {
            key: record.key,
            value: record.value,
            header_count: record.headers.len(),
            headers: record.headers.encoded(),
        }
    }

    fn write(&self, out: &mut Vec<u8>, timestamp_delta: i64, offset_delta: i32) {
        let header_count = length(self.header_count);
        let body = 1
            + varint::len_i64(timestamp_delta)
            + varint::len_i32(offset_delta)
            + len_bytes(self.key)
            + len_bytes(self.value)
            + varint::len_i32(header_count)
            + self.headers.len();
        out.reserve(body + 5);
        varint::write_i32(out, length(body));
        out.push(0);
        varint::write_i64(out, timestamp_delta);
        varint::write_i32(out, offset_delta);
        write_bytes(out, self.key);
        write_bytes(out, self.value);
        varint::write_i32(out, header_count);
        out.extend_from_slice(self.headers);
    }
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a record stays below 2 GiB")
}

fn len_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| {
        varint::len_i32(length(bytes.len())) + bytes.len()
    })
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::write_i32(out, -1),
        Some(bytes) => {
            varint::write_i32(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}
