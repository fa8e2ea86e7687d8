//! How far a log is durable, and the flushes and checkpoints that advance it.
//!
//! Each has three steps: `begin_…` under the lock lists what to sync, [`Flush::run`] syncs without the lock,
//! `complete_…` under the lock records it. At most one flush and one checkpoint of a log run at a time.

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

/// How far a log is durable.
///
/// Invariants: `recovery_point_on_disk` <= `recovery_point` <= `flushed` <= the end of the log.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) flushed: Offset,
    recovery_point: Offset,
    /// The recovery point in the checkpoint file, from which a start after a crash reads.
    pub(super) recovery_point_on_disk: Offset,
    /// Closed segments whose batches are not all synced.
    pub(super) unsynced: BTreeSet<Offset>,
    /// The offset from which recovery has changed the log and not synced it yet.
    pub(super) recovered_from: Option<Offset>,
    /// What to write for a new log after its first sync.
    pub(super) creation: Creation,
    /// Whether files were created or removed since the directory was last synced.
    pub(super) has_new_names: bool,
    is_flushing: bool,
    is_checkpointing: bool,
    /// How often the log was truncated. A flush that began before a truncation says nothing about later appends.
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

    /// The log was truncated to `end`, durably.
    pub(super) fn cut_to(&mut self, end: Offset) {
        self.flushed = self.flushed.min(end);
        self.recovery_point = self.recovery_point.min(end);
        self.recovery_point_on_disk = self.recovery_point_on_disk.min(end);
        self.cuts += 1;
    }

    /// The log was emptied and begins at `offset`.
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

    /// The recovery point for the checkpoint file: a start after a crash reads from here.
    pub fn recovery_point(&self) -> Offset {
        self.flush.recovery_point
    }

    /// The recovery point in the checkpoint file.
    pub fn recovery_point_on_disk(&self) -> Offset {
        self.flush.recovery_point_on_disk
    }

    /// Records that the checkpoint file has `recovery_point` now, durably.
    pub fn recovery_point_written(&mut self, recovery_point: Offset) {
        self.flush.recovery_point_on_disk = recovery_point.min(self.flush.recovery_point);
    }

    /// Begins a flush up to the end of the log; `None` if there is nothing to flush, or while another flush runs.
    pub fn begin_flush(&mut self) -> Result<Option<Flush<F>>, StorageError> {
        self.begin_flush_among(1)
    }

    /// As [`PartitionLog::begin_flush`], for one of `logs` logs that [`run_together`] syncs.
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
        // Cleared only after all files are open: if descriptors are lacking, the next flush must find the segments
        // again.
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

    /// Records that a flush could not run for lack of descriptors. The next flush covers the same segments.
    pub fn abandon_flush(&mut self, flush: &Flush<F>) {
        self.flush.is_flushing = false;
        self.flush.has_new_names |= flush.has_new_names;
        self.flush.unsynced.extend(&flush.segments);
    }

    /// Begins, runs and completes a flush: for closing, and if nobody else uses the log.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        if let Some(flush) = self.begin_flush()? {
            flush.run().inspect_err(|_| self.abandon_flush(&flush))?;
            self.complete_flush(&flush);
        }
        Ok(())
    }

    /// Begins a checkpoint, which moves the recovery point to the flushed offset; `None` if it is there already.
    pub fn begin_checkpoint(&mut self) -> Result<Option<Flush<F>>, StorageError> {
        self.begin_checkpoint_among(1)
    }

    /// As [`PartitionLog::begin_checkpoint`], for one of `logs` logs that [`run_together`] syncs.
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

    /// Begins a checkpoint of what recovery has changed, for one of `logs` logs; `None` if it has changed nothing.
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
        // On a full disk only the batches become durable, and the recovery point stays.
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
        // The name of a segment that was created just before the crash may not be durable, and no later flush knows of
        // it.
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

    /// Records that a checkpoint has run; returns the new recovery point.
    pub fn complete_checkpoint(&mut self, checkpoint: &Flush<F>) -> Offset {
        self.flush.is_checkpointing = false;
        if checkpoint.cuts == self.flush.cuts {
            let durable = checkpoint.end.offset.min(self.segments.end());
            self.flush.recovery_point = self.flush.recovery_point.max(durable);
            self.assert_invariants();
        }
        self.flush.recovery_point
    }

    /// Records that a checkpoint has failed. Another may begin if the directory is still online.
    pub fn abandon_checkpoint(&mut self) {
        self.flush.is_checkpointing = false;
    }

    /// Makes everything durable, with indexes and producer snapshot, so that the next start reads nothing; returns the
    /// recovery point for the checkpoint file.
    pub fn close(self) -> Result<Offset, StorageError> {
        let flush = self.begin_close()?;
        flush.run()?;
        Ok(flush.end.offset)
    }

    /// Begins to close the log. It is closed after the returned flush has run; its end is then the recovery point.
    pub fn begin_close(self) -> Result<Flush<F>, StorageError> {
        self.begin_close_among(1)
    }

    /// As [`PartitionLog::begin_close`], for one of `logs` logs that [`run_together`] syncs.
    pub fn begin_close_among(mut self, logs: usize) -> Result<Flush<F>, StorageError> {
        self.directory().ensure_online()?;
        let (active, place) = self.segments.active_mut();
        let closed = active.close(place);
        place.directory.judge(closed)?;
        self.take_snapshot()?;
        // Even if the recovery point is at the end, the last index entries were only just written.
        let since = self
            .segments
            .base_before(self.flush.recovery_point.min(self.active().base));
        self.segments.write_indexes_since(since)?;
        let mut files = self.segments.index_files_since(since);
        // A flush that runs now may end later than the close, so the close syncs its segments too.
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

/// Syncs what recovery has changed in the logs of one directory, with few syncs.
pub fn sync_recovered<F: Files>(logs: &mut [PartitionLog<F>]) -> Result<(), StorageError> {
    let is_recovered = |log: &&PartitionLog<F>| log.flush.recovered_from.is_some();
    let count = logs.iter().filter(is_recovered).count();
    // On a full disk these writes may be skipped, because they only save work at the next start; not so for a new log,
    // which does not exist without them.
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
