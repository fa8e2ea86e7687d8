//! The log of one partition: append, read, flush, truncate and retention, over its segments.
//!
//! Synchronous. Its owner protects it by one lock, which is held only for work in memory and in the page cache. Two
//! things run without the lock: the [`ReadPlan`] of [`PartitionLog::read`] reads bytes, and the [`Flush`] of
//! [`PartitionLog::begin_flush`] syncs.

mod append;
mod compact;
mod creation;
mod flush;
mod progress;
mod read;
mod roll;
mod scrub;
mod trim;

pub use self::append::{AppendError, Appended, LeaderAppend};
pub(crate) use self::creation::Creation;
pub use self::flush::{Flush, run_together};
pub use self::progress::sync_recovered;
pub use self::read::{
    Bound, FirstBatch, OffsetAtTime, ReadError, ReadPlan, ReadRequest, TimeQuery, TimeQueryError,
};
pub use self::trim::{Removed, TrimError};

use self::progress::Progress;
use crate::compaction::Compacted;
use crate::config::LogConfig;
use crate::damage::Damage;
use crate::directory::{LogDirectory, StorageError};
use crate::epoch_file::EpochFile;
use crate::files::Files;
use crate::format::{AbortedTransaction, FileKind};
use crate::leader_epochs::{EpochEnd, LeaderEpochs};
use crate::look::Look;
use crate::place::Place;
use crate::position::LogPosition;
use crate::producer_state::ProducerState;
use crate::segment::Segment;
use crate::segments::Segments;
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use std::path::Path;
use std::sync::Arc;

/// The log of one partition. A sample:
///
/// | offsets | segment | what happened | offsets of the log |
/// |---|---|---|---|
/// | 0 to 3 | 0, closed | deleted by DeleteRecords; the segment is still there | log start offset 4 |
/// | 4 to 9 | 0, closed | compacted: some offsets have no record any more | recovery point on disk 10 |
/// | 10 to 14 | 10, closed | synced with indexes and producer snapshot | recovery point 15 |
/// | 15 | 15, active | synced | last stable offset 16 |
/// | 16 to 17 | 15, active | synced; a transaction began at 16 and is open | flushed 18, high watermark 18 |
/// | 18 to 19 | 15, active | appended, not synced | log end offset 20 |
///
/// Invariants. All but the first two are asserted whenever the high watermark moves, a flush or checkpoint ends, or
/// segments are replaced. An error may leave a log between two states; it takes the directory offline, and the log is
/// not used any more.
///
/// - The last segment is the active one, and no other takes appends.
/// - Offsets rise. Gaps are left only by compaction, damage and repairs. Compaction stays below the recovery point on
///   disk, so recovery never meets a gap that it left.
/// - log start offset <= last stable offset <= high watermark <= log end offset.
/// - recovery point on disk <= recovery point <= flushed <= log end offset. Below `flushed` batches are on stable
///   storage; below the recovery point, indexes and snapshots are too.
/// - The position of the high watermark is in a segment of the log, unless all records below it are removed.
/// - The producer state covers the log up to its end, and no batch of a failed write.
/// - The log is compacted at most up to its end.
#[derive(Debug)]
pub struct PartitionLog<F: Files> {
    config: LogConfig,
    segments: Segments<F>,
    log_start: Offset,
    high_watermark: LogPosition,
    /// The start of the earliest transaction that is open, or whose marker is not below the high watermark.
    first_unstable: Option<LogPosition>,
    flush: Progress,
    producers: ProducerState,
    leader_epochs: LeaderEpochs,
    epoch_file: Arc<EpochFile>,
    /// The active segment and its size when the last producer snapshot was taken.
    last_snapshot: (Offset, u64),
    compaction: Compacted,
}

/// The parts of a log that recovery has opened or created.
#[derive(Debug)]
pub(crate) struct Recovered<F: Files> {
    pub(crate) config: LogConfig,
    /// At least one.
    pub(crate) segments: Segments<F>,
    pub(crate) log_start: Offset,
    /// `None` stands for the end of the log.
    pub(crate) high_watermark: Option<Offset>,
    pub(crate) producers: ProducerState,
    pub(crate) leader_epochs: LeaderEpochs,
    pub(crate) epoch_file: Arc<EpochFile>,
    pub(crate) compaction: Compacted,
    /// The offset below which batches, indexes and snapshots are on stable storage.
    pub(crate) recovery_point: Offset,
    /// The recovery point in the checkpoint file.
    pub(crate) recovery_point_on_disk: Offset,
    /// The offset from which recovery's changes must be synced; `None` if it has changed nothing.
    pub(crate) unsynced_from: Option<Offset>,
    pub(crate) creation: Creation,
}

impl<F: Files> PartitionLog<F> {
    /// The log that recovery has opened. [`sync_recovered`] must be called before it is used.
    pub(crate) fn from_recovered(recovered: Recovered<F>) -> Result<Self, StorageError> {
        let end = recovered.segments.end();
        let mut flush = Progress::at(end, recovered.recovery_point);
        flush.recovery_point_on_disk = recovered.recovery_point_on_disk;
        flush.recovered_from = recovered.unsynced_from;
        flush.creation = recovered.creation;
        let mut log = Self {
            config: recovered.config,
            log_start: recovered.log_start,
            high_watermark: recovered.segments.end_position(),
            first_unstable: None,
            flush,
            producers: recovered.producers,
            leader_epochs: recovered.leader_epochs,
            epoch_file: recovered.epoch_file,
            last_snapshot: (Offset(0), 0),
            compaction: recovered.compaction,
            segments: recovered.segments,
        };
        log.set_high_watermark(recovered.high_watermark.unwrap_or(end))?;
        Ok(log)
    }

    /// The directory that holds the partition's files.
    pub fn path(&self) -> &Path {
        &self.place().path
    }

    /// Ends the log of a deleted partition. A running checkpoint writes nothing into its directory from now on, because
    /// a new partition may soon have that name.
    pub fn retire(self) {
        self.epoch_file.retire();
        self.place().directory.forget(self.path());
    }

    pub fn directory(&self) -> &Arc<LogDirectory<F>> {
        self.segments.directory()
    }

    fn place(&self) -> &Place<F> {
        self.segments.place()
    }

    fn active(&self) -> &Segment<F> {
        self.segments.active()
    }

    #[cfg(test)]
    pub(crate) fn segments(&self) -> &Segments<F> {
        &self.segments
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    pub fn log_start_offset(&self) -> Offset {
        self.log_start
    }

    pub fn log_end_offset(&self) -> Offset {
        self.segments.end()
    }

    /// The end of the log and its position.
    pub fn log_end(&self) -> LogPosition {
        self.segments.end_position()
    }

    /// The offset below which consumers may read.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.offset
    }

    /// The offset below which every transaction is committed or aborted.
    pub fn last_stable_offset(&self) -> Offset {
        self.last_stable().offset
    }

    fn last_stable(&self) -> LogPosition {
        match self.first_unstable {
            Some(unstable) if unstable.offset < self.high_watermark.offset => unstable,
            _ => self.high_watermark,
        }
    }

    /// Moves the high watermark to `offset`, limited to the start and the end of the log.
    pub fn set_high_watermark(&mut self, offset: Offset) -> Result<(), StorageError> {
        let offset = offset.clamp(self.log_start, self.segments.end());
        let position = self.segments.position_of(offset)?;
        self.move_high_watermark(position)
    }

    /// As [`PartitionLog::set_high_watermark`], for the end of a flush, whose position is known.
    pub fn set_high_watermark_to(&mut self, flushed: LogPosition) -> Result<(), StorageError> {
        let is_in_log = (self.log_start..=self.segments.end()).contains(&flushed.offset)
            && self.segments.contains(flushed.segment);
        if !is_in_log {
            return self.set_high_watermark(flushed.offset);
        }
        self.move_high_watermark(flushed)
    }

    fn move_high_watermark(&mut self, to: LogPosition) -> Result<(), StorageError> {
        self.high_watermark = to;
        self.producers.on_high_watermark(to.offset);
        self.update_first_unstable()?;
        self.assert_invariants();
        Ok(())
    }

    /// The bytes between the high watermark and the end of the log.
    pub fn bytes_beyond_high_watermark(&self) -> u64 {
        let from = self.high_watermark;
        if from.offset == self.segments.end() {
            return 0;
        }
        let segments = self.segments.from(from.segment);
        let bytes: u64 = segments.map(|segment| segment.size).sum();
        bytes.saturating_sub(from.position)
    }

    pub fn size(&self) -> u64 {
        self.segments.bytes()
    }

    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    pub fn has_segment(&self, base: Offset) -> bool {
        self.segments.contains(base)
    }

    /// The offset below which all offsets of the segment at `base` are.
    pub fn bound_of(&self, base: Offset) -> Offset {
        self.segments.bound_of(base)
    }

    /// The aborted transactions with records from `from` on and before `to`.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        let aborted = self
            .segments
            .aborted_transactions(&Look::Waiting, from..to)?;
        Ok(aborted.unwrap_or_default())
    }

    /// The known damage, in the order of offsets.
    pub fn known_damage(&self) -> impl Iterator<Item = &Damage> {
        self.segments.damage().iter()
    }

    /// Records damage, if its segment is still there.
    pub fn note_damage(&mut self, damage: Damage) {
        self.segments.note_damage(damage);
    }

    fn damaged(&self, damage: Damage) -> StorageError {
        StorageError::Damaged {
            path: self.place().path_of(FileKind::Log, damage.segment),
            damage,
        }
    }

    pub fn producers(&self) -> &ProducerState {
        &self.producers
    }

    /// The newest leader epoch: of the last append, or of [`PartitionLog::begin_epoch`].
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.leader_epochs.latest()
    }

    /// The leader epochs and their start offsets.
    pub fn leader_epochs(&self) -> &LeaderEpochs {
        &self.leader_epochs
    }

    /// The end of `epoch`, or, if it has no records, of the epoch before it.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        self.leader_epochs.end_of(epoch, self.segments.end())
    }

    /// Records that `epoch` appends from the end of the log on.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        self.leader_epochs.assign(epoch, self.segments.end());
    }

    /// Drops producers that were idle for `producer.id.expiration.ms`.
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

    /// Writes the leader epochs to disk after a truncation.
    fn write_leader_epochs(&self) -> Result<(), StorageError> {
        let Place {
            directory, path, ..
        } = self.place();
        let written = self
            .epoch_file
            .truncate(directory.files(), path, &self.leader_epochs);
        directory.judge(written)
    }

    fn update_first_unstable(&mut self) -> Result<(), StorageError> {
        let Some(first) = self.producers.first_unstable() else {
            self.first_unstable = None;
            return Ok(());
        };
        let offset = first.offset.max(self.log_start);
        if self
            .first_unstable
            .is_none_or(|known| known.offset != offset)
        {
            let position = match first.position {
                Some(position) if position.offset >= self.log_start => position,
                _ => self.segments.position_of(offset)?,
            };
            self.first_unstable = Some(position);
        }
        Ok(())
    }

    fn assert_invariants(&self) {
        if self.directory().failure().is_some() {
            return;
        }
        let end = self.segments.end();
        let (last_stable, high_watermark) = (self.last_stable().offset, self.high_watermark);
        assert!(
            self.log_start <= last_stable
                && last_stable <= high_watermark.offset
                && high_watermark.offset <= end,
            "log start {} <= last stable {last_stable} <= high watermark {} <= log end {end}",
            self.log_start,
            high_watermark.offset
        );
        let segment = self.segments.get(high_watermark.segment);
        assert!(
            segment.map_or(high_watermark.offset == self.log_start, |segment| {
                high_watermark.position <= segment.size
            }),
            "the high watermark is in a segment of the log, or where its removed part ends"
        );
        assert_eq!(
            self.producers.end(),
            end,
            "the producer state covers the log up to its end"
        );
        assert!(
            self.compaction.to.is_none_or(|to| to <= end),
            "the log is compacted at most up to its end"
        );
        self.flush.assert_invariants(end);
    }
}
