//! Records, read one by one from the (decompressed) bytes of a batch.
//!
//! A record is validated completely before it is yielded, with its headers, which can then be read without errors.

use super::header::{BatchHeader, TimestampType};
use super::varint;
use thiserror::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The header claims a negative number of records.
    #[error("a batch cannot hold {0} records")]
    Count(i32),
    /// The bytes end inside a record.
    #[error("record {index} is cut short")]
    Truncated {
        /// Its index in the batch, from 0.
        index: i32,
    },
    /// A length or count inside a record is impossible.
    #[error("record {index} is malformed: {what}")]
    Malformed {
        /// Its index in the batch, from 0.
        index: i32,
        /// The field.
        what: &'static str,
    },
    /// There are bytes after the last record.
    #[error("{0} bytes are left after the last record of the batch")]
    Trailing(usize),
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its absolute offset; relative to 0 in a batch from a producer.
    pub offset: i64,
    /// Its timestamp; that of the batch for `LogAppendTime`.
    pub timestamp: i64,
    /// Not used by Kafka.
    pub attributes: u8,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
    /// Its size in the batch, with its length field.
    pub size: usize,
    /// Its size without its length field.
    pub length: usize,
}

/// A header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key: UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// The value, if there is one.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The encoded headers without their count, for copying whole.
    pub fn encoded(&self) -> &'a [u8] {
        self.bytes
    }

    fn read_next(&mut self) -> Result<Header<'a>, &'static str> {
        let key = read_bytes(&mut self.bytes)
            .ok_or("header key")?
            .ok_or("header without a key")?;
        let value = read_bytes(&mut self.bytes).ok_or("header value")?;
        self.count -= 1;
        Ok(Header { key, value })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.count == 0 {
            return None;
        }
        self.read_next().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// A lazy iterator over the records of a batch. It yields as many as the header says, or ends after one error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    log_append_time: Option<i64>,
}

impl<'a> Records<'a> {
    /// The records of the batch with `header`, in its decompressed `bytes`.
    pub fn new(header: &BatchHeader, bytes: &'a [u8]) -> Self {
        let log_append_time = match header.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Self {
            rest: bytes,
            index: 0,
            count: header.record_count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time,
        }
    }

    fn read_next(&mut self) -> Result<Record<'a>, RecordError> {
        let index = self.index;
        let malformed = |what| RecordError::Malformed { index, what };
        let before = self.rest.len();
        let length = varint::read_i32(&mut self.rest).ok_or(RecordError::Truncated { index })?;
        let length = usize::try_from(length).map_err(|_| malformed("negative length"))?;
        let (body, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(RecordError::Truncated { index })?;
        self.rest = rest;
        let record = self.parse(body, before - rest.len()).map_err(malformed)?;
        self.index += 1;
        if self.index == self.count && !rest.is_empty() {
            return Err(RecordError::Trailing(rest.len()));
        }
        Ok(record)
    }

    fn parse(&self, mut body: &'a [u8], size: usize) -> Result<Record<'a>, &'static str> {
        let length = body.len();
        let (&attributes, rest) = body.split_first().ok_or("empty")?;
        body = rest;
        let timestamp_delta = varint::read_i64(&mut body).ok_or("timestamp delta")?;
        let offset_delta = varint::read_i32(&mut body).ok_or("offset delta")?;
        let key = read_bytes(&mut body).ok_or("key")?;
        let value = read_bytes(&mut body).ok_or("value")?;
        let count = varint::read_i32(&mut body).ok_or("header count")?;
        let count = usize::try_from(count).map_err(|_| "negative header count")?;
        if count > body.len() {
            return Err("header count");
        }
        let headers = Headers { count, bytes: body };
        let mut walked = headers.clone();
        for _ in 0..count {
            walked.read_next()?;
        }
        if !walked.bytes.is_empty() {
            return Err("bytes after the last header");
        }
        Ok(Record {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: self
                .log_append_time
                .unwrap_or(self.base_timestamp.wrapping_add(timestamp_delta)),
            attributes,
            key,
            value,
            headers,
            size,
            length,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.count < 0 {
            let error = RecordError::Count(self.count);
            self.count = 0;
            return Some(Err(error));
        }
        if self.index >= self.count {
            return None;
        }
        let record = self.read_next();
        if record.is_err() {
            self.count = 0;
        }
        Some(record)
    }
}

/// Bytes with a varint length: the outer `None` is malformed, the inner `None` is null, which is any negative length as
/// in Kafka.
#[expect(
    clippy::option_option,
    reason = "malformed and null are two things, private to this file"
)]
fn read_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(varint::read_i32(rest)?) else {
        return Some(None);
    };
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Some(bytes))
}
