//! The state of idempotent and transactional producers in one partition, as in Kafka: for each producer its last five
//! batches (to detect duplicates), its last sequence, its epoch and its open transaction.
//!
//! Pure. An append is first staged ([`ProducerState::stage`]), which checks it and changes nothing, and applied after
//! the write ([`ProducerState::apply`]), so a failed write changes nothing. Invariants:
//!
//! - An open transaction is in `ongoing`, under its first offset.
//! - A transaction whose marker is not below the high watermark is in `unreplicated`, and holds the last stable offset
//!   back until the high watermark has passed the marker.

mod append;

pub(crate) use self::append::Changes;
pub use self::append::{Origin, ProducerError, Staged};

use crate::batch::subtract_sequence;
use crate::position::LogPosition;
use ottla_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use ottla_protocol::records::BatchHeader;
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Batches remembered of each producer: as many as it may have in flight.
const BATCHES: usize = 5;

/// The producers of one partition.
#[derive(Debug, Clone, Default)]
pub struct ProducerState {
    producers: BTreeMap<ProducerId, ProducerEntry>,
    ongoing: BTreeMap<Offset, OpenTransaction>,
    unreplicated: BTreeMap<Offset, EndedTransaction>,
    end: Offset,
}

/// The state of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerEntry {
    /// The epoch of its last batch or marker.
    pub epoch: ProducerEpoch,
    /// The epoch of the coordinator that last ended its transaction; -1 for none.
    pub coordinator_epoch: i32,
    /// The largest timestamp of its last batch.
    pub last_timestamp: Timestamp,
    /// The first offset of its open transaction.
    pub transaction_first_offset: Option<Offset>,
    batches: [BatchMetadata; BATCHES],
    count: usize,
}

/// A remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchMetadata {
    /// The sequence number of its last record.
    pub last_sequence: i32,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// Its last offset less its first.
    pub offset_delta: i32,
    /// Its largest timestamp.
    pub timestamp: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpenTransaction {
    producer_id: ProducerId,
    /// The position of its first batch, if it is known without a search.
    first: FirstBatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EndedTransaction {
    last_offset: Offset,
    first: FirstBatch,
}

/// The first offset of a transaction, and its position if this process appended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstBatch {
    /// Its first offset.
    pub offset: Offset,
    pub position: Option<LogPosition>,
}

/// A transaction that was ended by a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompletedTransaction {
    pub producer_id: ProducerId,
    /// Its first offset.
    pub first_offset: Offset,
    /// The marker's offset.
    pub last_offset: Offset,
    /// Whether it was aborted; otherwise it was committed.
    pub is_aborted: bool,
}

impl BatchMetadata {
    fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: Timestamp(header.max_timestamp),
        }
    }

    /// The offset of its first record.
    pub const fn first_offset(&self) -> Offset {
        self.last_offset.plus(-(self.offset_delta as i64))
    }

    /// The sequence number of its first record.
    pub fn first_sequence(&self) -> i32 {
        subtract_sequence(self.last_sequence, self.offset_delta)
    }
}

impl ProducerEntry {
    /// A producer without batches.
    pub fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: Timestamp::NONE,
            transaction_first_offset: None,
            batches: [BatchMetadata::default(); BATCHES],
            count: 0,
        }
    }

    /// The remembered batches, oldest first.
    pub fn batches(&self) -> &[BatchMetadata] {
        self.batches.get(..self.count).unwrap_or_default()
    }

    /// The newest remembered batch.
    pub fn last_batch(&self) -> Option<BatchMetadata> {
        self.batches().last().copied()
    }

    /// The sequence number of the last record; -1 when no batch is remembered.
    pub fn last_sequence(&self) -> i32 {
        self.last_batch().map_or(-1, |batch| batch.last_sequence)
    }

    /// Adds a batch, and drops the oldest if there are more than five.
    pub fn push(&mut self, batch: BatchMetadata) {
        if self.count == BATCHES {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        if let Some(place) = self.batches.get_mut(self.count) {
            *place = batch;
            self.count += 1;
        }
        self.last_timestamp = batch.timestamp;
    }

    /// Remembers a batch before the last one. Batches come in the order of their offsets.
    fn recall(&mut self, batch: BatchMetadata) {
        let Some(last) = self.last_batch() else {
            return;
        };
        if batch.last_offset >= last.last_offset {
            return;
        }
        let last_timestamp = self.last_timestamp;
        self.count -= 1;
        self.push(batch);
        self.push(last);
        self.last_timestamp = last_timestamp;
    }

    /// Changes the epoch. The batches of an older epoch are dropped.
    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.count = 0;
            self.epoch = epoch;
        }
    }

    fn is_expired(&self, now: Timestamp, expiration: Duration) -> bool {
        let idle = now.0.saturating_sub(self.last_timestamp.0);
        let is_idle = u128::try_from(idle).unwrap_or(0) >= expiration.as_millis();
        self.transaction_first_offset.is_none() && is_idle
    }
}

impl ProducerState {
    /// A state without producers, of a log that ends at `end`.
    pub fn empty(end: Offset) -> Self {
        Self {
            end,
            ..Self::default()
        }
    }

    /// The producers of a snapshot taken at `end`.
    pub fn from_snapshot(producers: BTreeMap<ProducerId, ProducerEntry>, end: Offset) -> Self {
        let open = |(id, entry): (&ProducerId, &ProducerEntry)| {
            let offset = entry.transaction_first_offset?;
            let first = FirstBatch {
                offset,
                position: None,
            };
            Some((
                offset,
                OpenTransaction {
                    producer_id: *id,
                    first,
                },
            ))
        };
        let ongoing = producers.iter().filter_map(open).collect();
        Self {
            producers,
            ongoing,
            unreplicated: BTreeMap::new(),
            end,
        }
    }

    /// Remembers a batch before the last one of its producer, if the producer still has the batch's epoch.
    pub(crate) fn recall(&mut self, header: &BatchHeader) {
        let producer = self.producers.get_mut(&ProducerId(header.producer_id));
        if header.is_control() {
            return;
        }
        if let Some(producer) = producer.filter(|one| one.epoch.0 == header.producer_epoch) {
            producer.recall(BatchMetadata::of(header));
        }
    }

    /// The producers, by id.
    pub fn producers(&self) -> &BTreeMap<ProducerId, ProducerEntry> {
        &self.producers
    }

    /// The state covers the log below this offset.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Records that the state covers the log up to `end`.
    pub fn advance_to(&mut self, end: Offset) {
        self.end = end;
    }

    /// Begins to check batches before they are appended.
    pub fn stage(&self) -> Staged<'_> {
        Staged::new(self, None)
    }

    /// The start of the earliest transaction that is open, or whose marker the high watermark has not passed.
    pub fn first_unstable(&self) -> Option<FirstBatch> {
        let ongoing = self
            .ongoing
            .values()
            .next()
            .map(|transaction| transaction.first);
        let unreplicated = self
            .unreplicated
            .values()
            .next()
            .map(|transaction| transaction.first);
        match (ongoing, unreplicated) {
            (Some(one), Some(other)) => Some(if one.offset < other.offset {
                one
            } else {
                other
            }),
            (one, other) => one.or(other),
        }
    }

    /// Drops ended transactions whose markers are below `high_watermark`.
    pub fn on_high_watermark(&mut self, high_watermark: Offset) {
        self.unreplicated
            .retain(|_, transaction| transaction.last_offset >= high_watermark);
    }

    /// The log start offset has moved to `log_start`.
    pub fn on_log_start(&mut self, log_start: Offset) {
        self.on_high_watermark(log_start);
        self.end = self.end.max(log_start);
    }

    /// Drops producers that were idle for `expiration` and have no open transaction.
    pub fn expire(&mut self, now: Timestamp, expiration: Duration) {
        self.producers
            .retain(|_, entry| !entry.is_expired(now, expiration));
    }

    /// The last stable offset right after `completed` has ended: the start of the earliest other transaction, or the
    /// offset after the marker.
    fn last_stable_offset(&self, completed: &CompletedTransaction) -> Offset {
        let another = self
            .ongoing
            .values()
            .find(|open| open.producer_id != completed.producer_id);
        another.map_or(completed.last_offset.plus(1), |open| open.first.offset)
    }
}

#[cfg(test)]
mod tests;
