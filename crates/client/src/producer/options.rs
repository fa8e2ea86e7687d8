//! How a producer produces: its options, what it takes and what it gives back.

use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::records::{Compression, CompressionLevel};

use crate::{RecordHeader, Result, TopicPartition};

/// What the broker must have done before it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Nothing: there is no answer.
    Zero,
    /// The leader has the batch.
    Leader,
    /// All in-sync replicas have it, as durable as the topic asks.
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
    /// What an acknowledgement means.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// How hard; nothing for the codec's default.
    pub level: Option<CompressionLevel>,
    /// The size at which a batch is sent.
    pub batch_bytes: usize,
    /// The bytes of batches that may wait before `send` does.
    pub buffer_bytes: usize,
    /// Whether the broker drops repeated batches.
    pub idempotent: bool,
    /// How long a batch is tried again on errors that pass.
    pub delivery_timeout: Duration,
    /// Whether nothing more is sent after a record that cannot be written, so that what was read from there on can
    /// be sent again.
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
    /// The partition, where the key shall not decide it.
    pub partition: Option<i32>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RecordHeader>,
    /// Its time in milliseconds since 1970.
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

/// The place of a record in the order of `send`, by which its outcome is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What became of a batch.
#[derive(Debug)]
pub struct BatchOutcome {
    /// Where it went.
    pub partition: TopicPartition,
    /// Its records, in order.
    pub tickets: Vec<Ticket>,
    /// The offset of its first record (-1 when the broker does not say it), or why it is not there.
    pub result: Result<i64>,
    /// Whether it may be there although `result` is an error: an attempt ended without an answer, or with one that
    /// leaves it open.
    pub is_in_doubt: bool,
}
