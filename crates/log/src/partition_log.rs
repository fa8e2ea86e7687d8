//! The log of one partition: what is appended, read, flushed, truncated and removed, over its segments.
//!
//! Synchronous, and owned by one lock, which is held for work in memory and in the page cache only. Bytes are read by the
//! plan that [`PartitionLog::read`] gives, and synced by the [`Flush`] that [`PartitionLog::begin_flush`] gives, both
//! outside of the lock.

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
use crate::place::Place;
use crate::position::LogPosition;
use crate::producer_state::ProducerState;
use crate::segment::Segment;
use crate::segments::Segments;
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use std::path::Path;
use std::sync::Arc;

/// The log of one partition.
///
/// Invariants, of which the cheap ones are asserted after each change. A failure may leave a log half-way between two
/// states; it takes the directory offline, and nothing is read or appended any more:
///
/// - There is always a last segment, the active one. Only the active segment is appended to.
/// - Log start offset <= high watermark <= log end offset, and the last stable offset is at most the high watermark.
/// - Offsets rise through the log. They have gaps only where compaction, damage or a repair left them.
/// - Everything below `flushed` is on stable storage; below the recovery point, so are the indexes and snapshots.
///   Recovery point on disk <= recovery point <= flushed <= log end offset.
/// - The producers' state takes every batch below the log end offset into account, and none that a failed write lost.
/// - The high watermark names a segment that is in the log, unless all below it is removed.
/// - Segments below the recovery point on disk alone are compacted, so recovery never meets a gap of compaction.
#[derive(Debug)]
pub struct PartitionLog<F: Files> {
    config: LogConfig,
    segments: Segments<F>,
    log_start: Offset,
    high_watermark: LogPosition,
    /// The start of the earliest transaction that holds the last stable offset back.
    first_unstable: Option<LogPosition>,
    flush: Progress,
    producers: ProducerState,
    leader_epochs: LeaderEpochs,
    epoch_file: Arc<EpochFile>,
    /// The active segment and its size when the last producer snapshot was taken.
    last_snapshot: (Offset, u64),
    compaction: Compacted,
}

/// A log as recovery has found it, or made it.
#[derive(Debug)]
pub(crate) struct Recovered<F: Files> {
    pub(crate) config: LogConfig,
    /// At least one.
    pub(crate) segments: Segments<F>,
    pub(crate) log_start: Offset,
    /// `None` for the end of the log.
    pub(crate) high_watermark: Option<Offset>,
    pub(crate) producers: ProducerState,
    pub(crate) leader_epochs: LeaderEpochs,
    pub(crate) epoch_file: Arc<EpochFile>,
    pub(crate) compaction: Compacted,
    /// The offset below which indexes and snapshots were on stable storage when the log was opened.
    pub(crate) recovery_point: Offset,
    /// The recovery point that the checkpoint names.
    pub(crate) recovery_point_on_disk: Offset,
    /// The offset from which what recovery has done must be synced; `None` where it has done nothing.
    pub(crate) unsynced_from: Option<Offset>,
    pub(crate) creation: Creation,
}

impl<F: Files> PartitionLog<F> {
    /// The log that recovery has made ready. [`sync_recovered`] must follow before it is used.
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

    /// Ends the log of a partition that is deleted. A checkpoint that is under way writes nothing into its directory from
    /// now on: the directory's name may soon be another partition's.
    pub fn retire(self) {
        self.epoch_file.retire();
        self.place().directory.forget(self.path());
    }

    /// The log directory that the partition lies in.
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

    /// The offset of the first record that may be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start
    }

    /// The offset that the next record will have.
    pub fn log_end_offset(&self) -> Offset {
        self.segments.end()
    }

    /// The end of the log, and where that is.
    pub fn log_end(&self) -> LogPosition {
        self.segments.end_position()
    }

    /// The offset below which consumers may read.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.offset
    }

    /// The offset below which every transaction is decided.
    pub fn last_stable_offset(&self) -> Offset {
        self.last_stable().offset
    }

    fn last_stable(&self) -> LogPosition {
        match self.first_unstable {
            Some(unstable) if unstable.offset < self.high_watermark.offset => unstable,
            _ => self.high_watermark,
        }
    }

    /// Moves the high watermark; never beyond the end of the log or before its start.
    pub fn set_high_watermark(&mut self, offset: Offset) -> Result<(), StorageError> {
        let offset = offset.clamp(self.log_start, self.segments.end());
        let position = self.segments.position_of(offset)?;
        self.move_high_watermark(position)
    }

    /// Moves the high watermark to the end of a flush, whose place is known and need not be looked up.
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

    /// The bytes from the high watermark to the end.
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

    /// Whether a segment begins at `base`.
    pub fn has_segment(&self, base: Offset) -> bool {
        self.segments.contains(base)
    }

    /// The offset that the offsets of the segment at `base` stay below.
    pub fn bound_of(&self, base: Offset) -> Offset {
        self.segments.bound_of(base)
    }

    /// The aborted transactions with records from `from` on and before `to`.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        self.segments.aborted_transactions(from, to)
    }

    /// The damage that is known, in the order of offsets.
    pub fn known_damage(&self) -> impl Iterator<Item = &Damage> {
        self.segments.damage().iter()
    }

    /// Remembers damage that was met.
    pub fn note_damage(&mut self, damage: Damage) {
        self.segments.note_damage(damage);
    }

    fn damaged(&self, damage: Damage) -> StorageError {
        StorageError::Damaged {
            path: self.place().path_of(FileKind::Log, damage.segment),
            damage,
        }
    }

    /// The state of the producers that the log remembers.
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
        self.leader_epochs.end_of(epoch, self.segments.end())
    }

    /// Records that `epoch` appends from the end of the log on.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        self.leader_epochs.assign(epoch, self.segments.end());
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
        let high_watermark = self.high_watermark;
        assert!(
            self.log_start <= high_watermark.offset && high_watermark.offset <= end,
            "log start {} <= high watermark {} <= log end {end}",
            self.log_start,
            high_watermark.offset
        );
        assert!(
            self.segments.contains(high_watermark.segment)
                || high_watermark.offset == self.log_start,
            "the high watermark lies in a segment of the log, or where its removed part ends"
        );
        self.flush.assert_invariants(end);
    }
}
