//! The log of one partition: what is appended, read, flushed, truncated and let go of, over its segments.
//!
//! Synchronous and owned by one lock, which is held for memory and page cache work only: bytes are read by the plan
//! that [`PartitionLog::read`] gives, and synced by the [`Flush`] that [`PartitionLog::begin_flush`] gives, both
//! outside of the lock. Invariants: there is always a last segment, the active one; log start <= last stable offset
//! <= high watermark <= log end; everything below `flushed` is on stable storage, and below `recovery_point` so are
//! the indexes.

mod aborted;
mod append;
mod creation;
mod damaged;
mod flush;
mod read;
mod trim;

pub use self::append::{AppendError, Appended, LeaderAppend};
pub(crate) use self::creation::Creation;
pub(crate) use self::damaged::KnownDamage;
pub(crate) use self::flush::Progress;
pub use self::flush::{Flush, run_together};
pub use self::read::{
    Bound, FirstBatch, OffsetAtTime, ReadError, ReadPlan, ReadRequest, TimeQuery, TimeQueryError,
};
pub use self::trim::{Removed, TrimError};

use crate::compaction::Compacted;
use crate::config::LogConfig;
use crate::directory::{LogDirectory, StorageError};
use crate::epoch_file::EpochFile;
use crate::files::Files;
use crate::format::AbortedTransaction;
use crate::leader_epochs::{EpochEnd, LeaderEpochs};
use crate::place::Place;
use crate::position::LogPosition;
use crate::producer_state::ProducerState;
use crate::segment::{Segment, Sought};
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The log of one partition.
#[derive(Debug)]
pub struct PartitionLog<F: Files> {
    pub(crate) place: Place<F>,
    pub(crate) config: LogConfig,
    pub(crate) segments: BTreeMap<Offset, Segment<F>>,
    /// The segments that hold aborted transactions.
    pub(crate) with_aborted: BTreeSet<Offset>,
    /// Of these, the entries that could not be written yet.
    pub(crate) waiting_aborted: BTreeMap<Offset, Vec<AbortedTransaction>>,
    pub(crate) log_start: Offset,
    pub(crate) next: Offset,
    pub(crate) high_watermark: LogPosition,
    pub(crate) first_unstable: Option<LogPosition>,
    pub(crate) flush: Progress,
    pub(crate) producers: ProducerState,
    pub(crate) leader_epochs: LeaderEpochs,
    pub(crate) epoch_file: Arc<EpochFile>,
    /// The offsets of the producer snapshots on disk.
    pub(crate) snapshots: BTreeSet<Offset>,
    /// The segment and size at which the last one was taken.
    pub(crate) last_snapshot: (Offset, u64),
    pub(crate) compaction: Compacted,
    pub(crate) damage: KnownDamage,
}

impl<F: Files> PartitionLog<F> {
    /// The directory that holds the partition's files.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Ends the log of a partition that is deleted: a checkpoint that is under way writes nothing into its directory any
    /// more, whose name may soon be another partition's.
    pub fn retire(self) {
        self.epoch_file.retire();
        self.place.directory.forget(&self.place.path);
    }

    /// The log directory it lies in.
    pub fn directory(&self) -> &Arc<LogDirectory<F>> {
        &self.place.directory
    }

    /// The settings it obeys.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Lets it obey other settings from now on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The offset of the first record that may be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start
    }

    /// The offset that the next record will have.
    pub fn log_end_offset(&self) -> Offset {
        self.next
    }

    /// The end of the log, and where that is.
    pub fn log_end(&self) -> LogPosition {
        self.active().end_position(self.next)
    }

    /// The offset below which consumers may read.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.offset
    }

    /// The offset below which every transaction is decided.
    pub fn last_stable_offset(&self) -> Offset {
        self.last_stable().offset
    }

    pub(crate) fn last_stable(&self) -> LogPosition {
        match self.first_unstable {
            Some(unstable) if unstable.offset < self.high_watermark.offset => unstable,
            _ => self.high_watermark,
        }
    }

    /// Moves the high watermark; never beyond the end of the log or before its start.
    pub fn set_high_watermark(&mut self, offset: Offset) -> Result<(), StorageError> {
        let offset = offset.clamp(self.log_start, self.next);
        self.high_watermark = self.position_of(offset)?;
        self.producers.on_high_watermark(offset);
        self.update_first_unstable()
    }

    /// Moves the high watermark to the end of a flush, whose place is known and need not be looked up.
    pub fn set_high_watermark_to(&mut self, flushed: LogPosition) -> Result<(), StorageError> {
        let is_there = flushed.offset >= self.log_start
            && flushed.offset <= self.next
            && self.segments.contains_key(&flushed.segment);
        if !is_there {
            return self.set_high_watermark(flushed.offset);
        }
        self.high_watermark = flushed;
        self.producers.on_high_watermark(flushed.offset);
        self.update_first_unstable()
    }

    /// The bytes from the high watermark to the end.
    pub fn bytes_beyond_high_watermark(&self) -> u64 {
        let from = self.high_watermark;
        if from.offset == self.next {
            return 0;
        }
        let sizes = self.segments.range(from.segment..);
        let bytes: u64 = sizes.map(|(_, segment)| segment.size).sum();
        bytes.saturating_sub(from.position)
    }

    /// The bytes of all its segments.
    pub fn size(&self) -> u64 {
        self.segments.values().map(|segment| segment.size).sum()
    }

    /// The number of its segments.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Whether a segment begins at `base`.
    pub fn has_segment(&self, base: Offset) -> bool {
        self.segments.contains_key(&base)
    }

    /// The producers it knows.
    pub fn producers(&self) -> &ProducerState {
        &self.producers
    }

    /// The newest leader epoch that has appended, or was announced.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.leader_epochs.latest()
    }

    /// The leader epochs and where each begins.
    pub fn leader_epochs(&self) -> &LeaderEpochs {
        &self.leader_epochs
    }

    /// The end of `epoch`, or of the one before it when nothing was appended in it.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        self.leader_epochs.end_of(epoch, self.next)
    }

    /// Takes note that `epoch` appends from the end of the log on.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        self.leader_epochs.assign(epoch, self.next);
    }

    /// Forgets producers that have been idle for the configured time.
    pub fn expire_producers(&mut self, now: ottla_protocol::time::Timestamp) {
        self.producers
            .expire(now, self.config.producer_id_expiration);
    }

    /// The first offset of the open transaction of `producer`.
    pub fn open_transaction(&self, producer: ProducerId) -> Option<Offset> {
        self.producers
            .producers()
            .get(&producer)?
            .transaction_first_offset
    }

    /// Writes the leader epochs down after a truncation.
    pub(crate) fn write_leader_epochs(&self) -> Result<(), StorageError> {
        let Place {
            directory, path, ..
        } = &self.place;
        let written = self
            .epoch_file
            .truncate(directory.files(), path, &self.leader_epochs);
        directory.judge(written)
    }

    pub(crate) fn active(&self) -> &Segment<F> {
        self.segments
            .last_key_value()
            .expect("a log always has an active segment")
            .1
    }

    /// Where `offset` lies: the start of the first batch that ends at it or later, or of the damage that may hold it.
    pub(crate) fn position_of(&self, offset: Offset) -> Result<LogPosition, StorageError> {
        if offset >= self.next {
            return Ok(self.log_end());
        }
        let floor = self
            .segments
            .range(..=offset)
            .next_back()
            .map_or(self.log_start, |(base, _)| *base);
        for segment in self.segments.range(floor..).map(|(_, segment)| segment) {
            let found = segment.find(&self.place, offset, self.bound_of(segment.base));
            let position = match self.place.directory.judge(found)? {
                Sought::Batch(located) => located.position,
                Sought::Damage(damage) => damage.position,
                Sought::Beyond => continue,
            };
            return Ok(LogPosition {
                offset,
                segment: segment.base,
                position,
            });
        }
        Ok(self.log_end())
    }

    pub(crate) fn update_first_unstable(&mut self) -> Result<(), StorageError> {
        let Some(first) = self.producers.first_unstable() else {
            self.first_unstable = None;
            return Ok(());
        };
        if self
            .first_unstable
            .is_none_or(|known| known.offset != first.offset.max(self.log_start))
        {
            let position = match first.position {
                Some(position) if position.offset >= self.log_start => position,
                _ => self.position_of(first.offset.max(self.log_start))?,
            };
            self.first_unstable = Some(position);
        }
        Ok(())
    }
}

/// A number of milliseconds that stays the same for one segment and differs between segments.
pub(crate) fn jitter(limit: Duration, place: &Path, base: Offset) -> Duration {
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let mut hash = 0xCBF2_9CE4_8422_2325u64;
    for byte in place
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .chain(&base.0.to_be_bytes())
    {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    }
    Duration::from_millis(hash.checked_rem(limit).unwrap_or(0))
}
