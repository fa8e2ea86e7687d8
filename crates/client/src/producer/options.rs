//! How a producer produces: its options, what it takes and what it gives back.

use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::records::{Compression, CompressionLevel};

use crate::{RecordHeader, Result, TopicPartition};

/// What the broker must have done before it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Nothing. The broker does not answer.
    Zero,
    /// The leader has the batch.
    Leader,
    /// All in-sync replicas have the batch.
    #[default]
    All,
}

impl Acks {
    pub(super) fn wire(self) -> i16 {
        match self {
            Self::Zero => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer produces.
#[derive(Debug, Clone, Copy)]
pub struct ProducerOptions {
    pub acks: Acks,
    pub compression: Compression,
    /// The compression level; `None` for the codec's default.
    pub level: Option<CompressionLevel>,
    /// The size at which a batch is sent.
    pub batch_bytes: usize,
    /// The bytes of closed batches above which `send` waits.
    pub buffer_bytes: usize,
    /// Whether the broker recognises and drops repeated batches.
    pub idempotent: bool,
    /// How long a batch is tried again after retriable errors.
    pub delivery_timeout: Duration,
    /// Whether the producer stops at the first record that cannot be written, so that the caller can send it and all later
    /// records again.
    pub halts: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            level: None,
            batch_bytes: 512 * 1024,
            buffer_bytes: 32 * 1024 * 1024,
            idempotent: true,
            delivery_timeout: Duration::from_mins(2),
            halts: false,
        }
    }
}

/// A record to be sent.
#[derive(Debug, Clone, Default)]
pub struct ProducerRecord {
    pub topic: String,
    /// The partition, if the key should not decide it.
    pub partition: Option<i32>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RecordHeader>,
    /// In milliseconds since 1970.
    pub timestamp: i64,
}

impl ProducerRecord {
    pub(super) fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers: usize = headers.map(|h| h.key.len() + length(&h.value) + 10).sum();
        length(&self.key) + length(&self.value) + headers + 25
    }
}

/// The number of a record in the order of `send`. Outcomes refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The outcome of a batch.
#[derive(Debug)]
pub struct BatchOutcome {
    pub partition: TopicPartition,
    /// Its records, in order.
    pub tickets: Vec<Ticket>,
    /// The offset of its first record, -1 if the broker did not tell it, or why it was not written.
    pub result: Result<i64>,
    /// Whether it may be in the log although `result` is an error, because an attempt ended without a clear answer.
    pub is_in_doubt: bool,
}
