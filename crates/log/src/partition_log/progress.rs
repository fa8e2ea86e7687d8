//! How far a log is durable, and the flushes and checkpoints that move that.
//!
//! What is to be synced is taken under the lock (`begin_…`), synced outside of it ([`Flush::run`]), and recorded under it
//! (`complete_…`). At most one flush and one checkpoint of a log are under way at a time.

use super::PartitionLog;
use super::creation::Creation;
use super::flush::{Extent, Flush, run_together};
use crate::directory::{StorageError, unless_full};
use crate::epoch_file::EpochWrite;
use crate::files::Files;
use crate::format::FileKind;
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::segment::Segment;
use ottla_protocol::ids::Offset;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far a log has come in becoming durable.
///
/// Invariants: `recovery_point_on_disk` <= `recovery_point` <= `flushed` <= the end of the log.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) flushed: Offset,
    recovery_point: Offset,
    /// The recovery point that a start after a crash would find in the checkpoint.
    pub(super) recovery_point_on_disk: Offset,
    /// Closed segments whose batches are not all synced.
    pub(super) unsynced: BTreeSet<Offset>,
    /// The offset from which on what recovery has made of the log is not synced yet.
    pub(super) recovered_from: Option<Offset>,
    /// What is to make a new log known on disk, once that is synced.
    pub(super) creation: Creation,
    /// Whether files were made since the directory was last synced.
    pub(super) has_new_names: bool,
    is_flushing: bool,
    is_checkpointing: bool,
    /// How often the log was truncated. A flush that began before does not cover what was appended since.
    pub(super) cuts: u64,
}

impl Progress {
    pub(super) fn at(flushed: Offset, recovery_point: Offset) -> Self {
        Self {
            flushed,
            recovery_point,
            recovery_point_on_disk: recovery_point,
            unsynced: BTreeSet::new(),
            recovered_from: None,
            creation: Creation::default(),
            has_new_names: false,
            is_flushing: false,
            is_checkpointing: false,
            cuts: 0,
        }
    }

    /// The log now ends at `end`, durably.
    pub(super) fn cut_to(&mut self, end: Offset) {
        self.flushed = self.flushed.min(end);
        self.recovery_point = self.recovery_point.min(end);
        self.recovery_point_on_disk = self.recovery_point_on_disk.min(end);
        self.cuts += 1;
    }

    /// The log is empty and begins at `offset`.
    pub(super) fn restart_at(&mut self, offset: Offset) {
        self.flushed = offset;
        self.recovery_point = offset;
        self.recovery_point_on_disk = self.recovery_point_on_disk.min(offset);
        self.unsynced.clear();
        self.cuts += 1;
    }

    pub(super) fn assert_invariants(&self, end: Offset) {
        let (on_disk, recovery_point) = (self.recovery_point_on_disk, self.recovery_point);
        let flushed = self.flushed;
        let is_ordered = on_disk <= recovery_point && recovery_point <= flushed && flushed <= end;
        assert!(
            is_ordered || is_planted(Bug::RecoveryPointAheadOfData),
            "recovery point on disk {on_disk} <= recovery point {recovery_point} <= flushed {flushed} <= log end {end}"
        );
    }
}

/// What a flush of a log covers.
struct Scope<H> {
    extent: Extent<H>,
    has_new_names: bool,
    epochs: Option<EpochWrite>,
    end: LogPosition,
}

impl<F: Files> PartitionLog<F> {
    /// The offset below which everything is on stable storage.
    pub fn flushed_offset(&self) -> Offset {
        self.flush.flushed
    }

    /// The offset from which a start after a crash reads: what `recovery-point-offset-checkpoint` is to say.
    pub fn recovery_point(&self) -> Offset {
        self.flush.recovery_point
    }

    /// Records that the checkpoint file now names `recovery_point`, durably.
    pub fn recovery_point_written(&mut self, recovery_point: Offset) {
        self.flush.recovery_point_on_disk = recovery_point.min(self.flush.recovery_point);
    }

    /// What must be synced to make the log durable up to its present end; `None` when it is, or while a flush is
    /// under way.
    pub fn begin_flush(&mut self) -> Result<Option<Flush<F>>, StorageError> {
        self.begin_flush_among(1)
    }

    /// As [`PartitionLog::begin_flush`], for as many as `logs` logs that [`run_together`] is to sync.
    pub fn begin_flush_among(&mut self, logs: usize) -> Result<Option<Flush<F>>, StorageError> {
        if self.flush.is_flushing || self.flush.flushed == self.segments.end() {
            return Ok(None);
        }
        let unsynced = &self.flush.unsynced;
        let dirty: Vec<&Segment<F>> = unsynced
            .iter()
            .filter_map(|base| self.segments.get(*base))
            .chain([self.active()])
            .collect();
        let bases = dirty.iter().map(|segment| segment.base).collect();
        let extent = Extent::of(dirty.len(), logs, || {
            dirty.iter().map(|dirty| dirty.file(self.place())).collect()
        });
        let extent = self.directory().judge(extent)?;
        // Only once all are open: where descriptors are lacking, the next flush must find them again.
        self.flush.unsynced.clear();
        self.flush.is_flushing = true;
        let has_new_names =
            std::mem::take(&mut self.flush.has_new_names) && !is_planted(Bug::NewNamesNotSynced);
        let mut flush = self.flush_of(Scope {
            extent,
            has_new_names,
            epochs: None,
            end: self.log_end(),
        });
        flush.segments = bases;
        Ok(Some(flush))
    }

    fn flush_of(&self, scope: Scope<F::File>) -> Flush<F> {
        Flush {
            directory: Arc::clone(self.directory()),
            path: self.place().path.clone(),
            extent: scope.extent,
            segments: Vec::new(),
            has_new_names: scope.has_new_names,
            epochs: scope.epochs,
            creation: Creation::default(),
            end: scope.end,
            cuts: self.flush.cuts,
        }
    }

    /// Records that a flush has run.
    pub fn complete_flush(&mut self, flush: &Flush<F>) {
        self.flush.is_flushing = false;
        if flush.cuts != self.flush.cuts {
            return;
        }
        let durable = flush.end.offset.min(self.segments.end());
        self.flush.flushed = self.flush.flushed.max(durable);
        self.assert_invariants();
    }

    /// Records that a flush could not run because the process lacks descriptors. The next flush covers what it did.
    pub fn abandon_flush(&mut self, flush: &Flush<F>) {
        self.flush.is_flushing = false;
        self.flush.has_new_names |= flush.has_new_names;
        self.flush.unsynced.extend(&flush.segments);
    }

    /// Flushes at once: for closing, and where nobody shares the log.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        if let Some(flush) = self.begin_flush()? {
            flush.run().inspect_err(|_| self.abandon_flush(&flush))?;
            self.complete_flush(&flush);
        }
        Ok(())
    }

    /// What must be synced to move the recovery point up to what is flushed; `None` when it is there already.
    pub fn begin_checkpoint(&mut self) -> Result<Option<Flush<F>>, StorageError> {
        self.begin_checkpoint_among(1)
    }

    /// As [`PartitionLog::begin_checkpoint`], for as many as `logs` logs that [`run_together`] is to sync.
    pub fn begin_checkpoint_among(
        &mut self,
        logs: usize,
    ) -> Result<Option<Flush<F>>, StorageError> {
        let flushed = if is_planted(Bug::RecoveryPointAheadOfData) {
            self.segments.end()
        } else {
            self.flush.flushed
        };
        if self.flush.is_checkpointing || self.flush.recovery_point >= flushed {
            return Ok(None);
        }
        self.take_snapshot_within_segment()?;
        let since = self.segments.base_before(self.flush.recovery_point);
        self.segments.write_indexes_since(since)?;
        let indexes = self.segments.index_files_since(since);
        let extent = Extent::of(indexes.len(), logs, || self.segments.open_all(&indexes));
        let extent = self.directory().judge(extent)?;
        self.flush.is_checkpointing = true;
        let end = LogPosition {
            offset: flushed,
            segment: self.active().base,
            position: 0,
        };
        Ok(Some(self.flush_of(Scope {
            extent,
            has_new_names: true,
            epochs: self.epochs_to_write(),
            end,
        })))
    }

    /// What must be synced to make durable what recovery has done to one of `logs` logs, as a checkpoint; `None` when
    /// there is nothing.
    pub(crate) fn begin_sync_of_recovered(
        &mut self,
        logs: usize,
    ) -> Result<Option<Flush<F>>, StorageError> {
        let Some(from) = self.flush.recovered_from.take() else {
            return Ok(None);
        };
        let since = self.segments.base_before(from);
        self.segments.rewrite_tail(since, from)?;
        let written = self
            .take_snapshot_within_segment()
            .and_then(|()| self.segments.write_indexes_since(since));
        let has_room = written.is_ok();
        // On a full disk the batches become durable, and the recovery point stays where it is.
        unless_full(written)?;
        let mut files = self.segments.index_files_since(since);
        let segments = self.segments.from(since);
        files.extend(segments.map(|segment| (FileKind::Log, segment.base)));
        let extent = Extent::of(files.len(), logs, || self.segments.open_all(&files));
        let extent = self.directory().judge(extent)?;
        self.flush.is_checkpointing = true;
        let mut end = self.log_end();
        let mut epochs = self.epochs_to_write();
        if !has_room {
            end.offset = self.flush.recovery_point;
            epochs = None;
        }
        // A segment that was made just before the crash may be there by name only until its directory is synced, and no
        // later flush knows of it.
        let mut flush = self.flush_of(Scope {
            extent,
            has_new_names: true,
            epochs,
            end,
        });
        flush.creation = std::mem::take(&mut self.flush.creation);
        Ok(Some(flush))
    }

    fn epochs_to_write(&self) -> Option<EpochWrite> {
        self.epoch_file
            .catch_up(&self.leader_epochs, self.segments.end())
    }

    /// Records that a checkpoint has run; returns the recovery point.
    pub fn complete_checkpoint(&mut self, checkpoint: &Flush<F>) -> Offset {
        self.flush.is_checkpointing = false;
        if checkpoint.cuts == self.flush.cuts {
            let durable = checkpoint.end.offset.min(self.segments.end());
            self.flush.recovery_point = self.flush.recovery_point.max(durable);
            self.assert_invariants();
        }
        self.flush.recovery_point
    }

    /// Records that a checkpoint has failed; another may begin, if the directory is still online.
    pub fn abandon_checkpoint(&mut self) {
        self.flush.is_checkpointing = false;
    }

    /// Makes everything durable, indexes and producers' state included, so that the next start reads nothing; returns
    /// the recovery point to write down.
    pub fn close(self) -> Result<Offset, StorageError> {
        let flush = self.begin_close()?;
        flush.run()?;
        Ok(flush.end.offset)
    }

    /// Ends the log: it is closed, and its end the recovery point to write down, once what this returns has run.
    pub fn begin_close(self) -> Result<Flush<F>, StorageError> {
        self.begin_close_among(1)
    }

    /// As [`PartitionLog::begin_close`], for as many as `logs` logs that [`run_together`] is to sync.
    pub fn begin_close_among(mut self, logs: usize) -> Result<Flush<F>, StorageError> {
        self.directory().ensure_online()?;
        let (active, place) = self.segments.active_mut();
        let closed = active.close(place);
        place.directory.judge(closed)?;
        self.take_snapshot()?;
        // Even where the recovery point is not behind, the last index entries have only just been written.
        let since = self
            .segments
            .base_before(self.flush.recovery_point.min(self.active().base));
        self.segments.write_indexes_since(since)?;
        let mut files = self.segments.index_files_since(since);
        // A flush that is under way may end later than this, so what it covers is synced here too.
        let unflushed = self.segments.base_before(self.flush.flushed);
        let unflushed = self.segments.from(unflushed);
        files.extend(unflushed.map(|segment| (FileKind::Log, segment.base)));
        let extent = Extent::of(files.len(), logs, || self.segments.open_all(&files));
        let extent = self.directory().judge(extent)?;
        self.directory().forget(self.path());
        Ok(self.flush_of(Scope {
            extent,
            has_new_names: true,
            epochs: self.epochs_to_write(),
            end: self.log_end(),
        }))
    }
}

/// Makes durable what recovery did to logs of one directory, with as few syncs as that takes.
pub fn sync_recovered<F: Files>(logs: &mut [PartitionLog<F>]) -> Result<(), StorageError> {
    let is_recovered = |log: &&PartitionLog<F>| log.flush.recovered_from.is_some();
    let count = logs.iter().filter(is_recovered).count();
    // What is not written on a full disk only saves a later start work, unless it makes a log known at all.
    let must_succeed = logs.iter().any(|log| log.flush.creation.is_due());
    let mut recovered = Vec::with_capacity(count);
    let mut flushes = Vec::with_capacity(count);
    for log in logs {
        if let Some(flush) = log.begin_sync_of_recovered(count)? {
            recovered.push(log);
            flushes.push(flush);
        }
    }
    let synced = run_together(&flushes);
    for (log, flush) in recovered.into_iter().zip(&flushes) {
        if synced.is_ok() {
            log.complete_checkpoint(flush);
        } else {
            log.abandon_checkpoint();
        }
    }
    if must_succeed {
        return synced;
    }
    unless_full(synced)
}
