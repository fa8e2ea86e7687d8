//! Making a log durable: what is to be synced is taken under the lock, synced outside of it, and noted under it.
//!
//! Two depths. A flush syncs batches and the names of new files, so that acknowledged records survive: that is what
//! group commit does all the time. A checkpoint also syncs indexes and snapshots, and so moves the recovery point,
//! below which the next start after a crash looks at nothing. One of each may be under way at a time.

use super::PartitionLog;
use super::creation::Creation;
use crate::directory::{LogDirectory, StorageError, unless_full};
use crate::epoch_file::EpochWrite;
use crate::files::{File, FileError, Files, Open, Operation};
use crate::format::{FileKind, encode_producer_snapshot};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::segment::Segment;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

/// The bytes after which a checkpoint writes the producers' state down too.
const SNAPSHOT_INTERVAL: u64 = 16 << 20;
/// From so many dirty files on, one sync of the file system was faster when measured. It also needs none of them open,
/// which would take descriptors that others need.
const MANY: usize = 8;

/// How far a log has come in becoming durable.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) flushed: Offset,
    pub(crate) recovery_point: Offset,
    /// The recovery point that a start after a crash would find in the checkpoint.
    pub(crate) recovery_point_on_disk: Offset,
    /// Closed segments whose batches are not all synced.
    pub(crate) unsynced: BTreeSet<Offset>,
    /// From where on what recovery has made of the log is not synced yet.
    pub(crate) recovered_from: Option<Offset>,
    /// What is to make a new log known then.
    pub(crate) creation: Creation,
    /// Whether files were made since the directory was last synced.
    pub(crate) has_new_names: bool,
    is_flushing: bool,
    is_checkpointing: bool,
    /// How often the log was truncated: a flush that began before does not cover what was appended since.
    pub(crate) cuts: u64,
}

impl Progress {
    pub(crate) fn at(flushed: Offset, recovery_point: Offset) -> Self {
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
    pub(crate) fn cut_to(&mut self, end: Offset) {
        self.flushed = self.flushed.min(end);
        self.recovery_point = self.recovery_point.min(end);
        self.recovery_point_on_disk = self.recovery_point_on_disk.min(end);
        self.cuts += 1;
    }

    /// The log is empty and begins at `offset`.
    pub(crate) fn restart_at(&mut self, offset: Offset) {
        self.flushed = offset;
        self.recovery_point = offset;
        self.recovery_point_on_disk = self.recovery_point_on_disk.min(offset);
        self.unsynced.clear();
        self.cuts += 1;
    }
}

/// How far a sync reaches.
#[derive(Debug)]
enum Extent<H> {
    /// To these files.
    Files(Vec<Arc<H>>),
    /// To everything on the file system.
    FileSystem,
}

impl<H> Extent<H> {
    /// That of `count` files of each of `logs` logs; `open` opens those of one.
    fn of(
        (count, logs): (usize, usize),
        open: impl FnOnce() -> Result<Vec<Arc<H>>, FileError>,
    ) -> Result<Self, FileError> {
        if count.saturating_mul(logs) >= MANY {
            Ok(Self::FileSystem)
        } else {
            open().map(Self::Files)
        }
    }

    fn files(&self) -> usize {
        match self {
            Self::Files(files) => files.len(),
            Self::FileSystem => MANY,
        }
    }
}

/// What is to be synced to make a log durable up to its end. Belongs outside of the partition's lock.
#[derive(Debug)]
#[must_use = "what was taken to be synced must be synced"]
pub struct Flush<F: Files> {
    directory: Arc<LogDirectory<F>>,
    path: PathBuf,
    extent: Extent<F::File>,
    /// The segments that it covers.
    segments: Vec<Offset>,
    has_new_names: bool,
    /// The leader epochs, where the file that holds them must know them before the recovery point passes them.
    epochs: Option<EpochWrite>,
    /// What is to be written once all else is durable.
    creation: Creation,
    end: LogPosition,
    cuts: u64,
}

impl<F: Files> Flush<F> {
    /// The log is durable up to here once the flush has run.
    pub fn end(&self) -> LogPosition {
        self.end
    }

    /// Syncs. A failed sync takes the log directory offline; it is never tried again.
    pub fn run(&self) -> Result<(), StorageError> {
        self.directory.ensure_online()?;
        match &self.extent {
            Extent::FileSystem => self.directory.sync_file_system()?,
            Extent::Files(open) => self.sync_files(open)?,
        }
        self.write_epochs()?;
        self.creation.write(&self.directory, &self.path)
    }

    fn sync_files(&self, open: &[Arc<F::File>]) -> Result<(), StorageError> {
        for file in open {
            let synced = match file.sync_data() {
                Err(_) if is_planted(Bug::FailedSyncRetried) => file.sync_data(),
                outcome => outcome,
            };
            self.directory.judge_sync(synced)?;
        }
        if self.has_new_names {
            let files = self.directory.files();
            let synced = unless_gone(files.sync_directory(&self.path));
            self.directory.judge_sync(synced)?;
        }
        Ok(())
    }

    /// Writes small files beside their places, unsynced; says whether there are any to be renamed.
    fn write_aside(&self) -> Result<bool, StorageError> {
        let is_created = self.creation.write_aside(&self.directory, &self.path)?;
        let Some(epochs) = &self.epochs else {
            return Ok(is_created);
        };
        let written = unless_gone(epochs.write_aside(self.directory.files(), &self.path));
        self.directory.judge(written).map(|()| true)
    }

    /// Gives those files, which are synced now, their names. The names are not synced.
    fn rename(&self) -> Result<(), StorageError> {
        if let Some(epochs) = &self.epochs {
            let renamed = unless_gone(epochs.rename(self.directory.files(), &self.path));
            self.directory.judge(renamed)?;
        }
        self.creation.rename(&self.directory, &self.path)
    }

    fn write_epochs(&self) -> Result<(), StorageError> {
        let Some(epochs) = &self.epochs else {
            return Ok(());
        };
        let written = unless_gone(epochs.run(self.directory.files(), &self.path));
        self.directory.judge(written)
    }
}

/// The directory of a partition that was deleted meanwhile has another name: nobody waits for its own any more.
fn unless_gone(outcome: Result<(), FileError>) -> Result<(), FileError> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

/// Runs many flushes of one log directory: one by one, or by one sync of the whole file system when that is faster.
pub fn run_together<F: Files>(flushes: &[Flush<F>]) -> Result<(), StorageError> {
    let files: usize = flushes
        .iter()
        .map(|flush| flush.extent.files() + usize::from(flush.has_new_names))
        .sum();
    match flushes {
        [first, ..] if files >= MANY => {
            first.directory.ensure_online()?;
            let mut flushes_left = flushes.iter();
            let aside = flushes_left.try_fold(false, |have, flush| {
                Ok::<_, StorageError>(flush.write_aside()? || have)
            });
            // Whatever became of small files: the batches are synced.
            first.directory.sync_file_system()?;
            if aside? {
                flushes.iter().try_for_each(Flush::rename)?;
                first.directory.sync_file_system()?;
            }
            Ok(())
        }
        _ => flushes.iter().try_for_each(Flush::run),
    }
}

impl<F: Files> LogDirectory<F> {
    /// A failed sync is always a failed disk, a full one included: nobody knows what it has kept. Only one that could
    /// not begin, because its directory could not be opened, is none.
    pub(crate) fn judge_sync(&self, outcome: Result<(), FileError>) -> Result<(), StorageError> {
        outcome.map_err(|error| match error.operation {
            Operation::Open => self.failed(error),
            _ => self.take_offline(error),
        })
    }

    fn sync_file_system(&self) -> Result<(), StorageError> {
        self.judge_sync(self.files().sync_file_system(self.path()))
    }
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

    /// Says that the checkpoint file now names `recovery_point`, durably.
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
        if self.flush.is_flushing || self.flush.flushed == self.next {
            return Ok(None);
        }
        let unsynced = &self.flush.unsynced;
        let dirty: Vec<&Segment<F>> = unsynced
            .iter()
            .filter_map(|base| self.segments.get(base))
            .chain([self.active()])
            .collect();
        let bases = dirty.iter().map(|segment| segment.base).collect();
        let extent = Extent::of((dirty.len(), logs), || {
            dirty.iter().map(|dirty| dirty.file(&self.place)).collect()
        });
        let extent = self.place.directory.judge(extent)?;
        // Not before all are open: where descriptors are lacking, the next flush must find them again.
        self.flush.unsynced.clear();
        self.flush.is_flushing = true;
        let has_new_names =
            std::mem::take(&mut self.flush.has_new_names) && !is_planted(Bug::NewNamesNotSynced);
        let mut flush = self.flush_of(extent, has_new_names, None, self.log_end());
        flush.segments = bases;
        Ok(Some(flush))
    }

    fn flush_of(
        &self,
        extent: Extent<F::File>,
        has_new_names: bool,
        epochs: Option<EpochWrite>,
        end: LogPosition,
    ) -> Flush<F> {
        let (directory, path) = (Arc::clone(&self.place.directory), self.place.path.clone());
        Flush {
            directory,
            path,
            extent,
            segments: Vec::new(),
            has_new_names,
            epochs,
            creation: Creation::default(),
            end,
            cuts: self.flush.cuts,
        }
    }

    /// Takes note that a flush has run.
    pub fn complete_flush(&mut self, flush: &Flush<F>) {
        self.flush.is_flushing = false;
        if flush.cuts != self.flush.cuts {
            return;
        }
        self.flush.flushed = self.flush.flushed.max(flush.end.offset.min(self.next));
    }

    /// Takes note that a flush could not run, for want of descriptors: the next one does what it was to do.
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
            self.next
        } else {
            self.flush.flushed
        };
        if self.flush.is_checkpointing || self.flush.recovery_point >= flushed {
            return Ok(None);
        }
        self.take_snapshot_within_segment()?;
        let since = self.segment_before(self.flush.recovery_point);
        self.write_indexes_since(since)?;
        let indexes = self.index_files_since(since);
        let extent = Extent::of((indexes.len(), logs), || self.open_all(&indexes));
        let extent = self.place.directory.judge(extent)?;
        self.flush.is_checkpointing = true;
        let end = LogPosition {
            offset: flushed,
            segment: self.active().base,
            position: 0,
        };
        let epochs = self.epoch_file.catch_up(&self.leader_epochs, self.next);
        Ok(Some(self.flush_of(extent, true, epochs, end)))
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
        let since = self.segment_before(from);
        self.rewrite_tail(since, from)?;
        let written = self
            .take_snapshot_within_segment()
            .and_then(|()| self.write_indexes_since(since));
        let has_room = written.is_ok();
        // On a full disk the batches become durable, and the recovery point stays where it is.
        unless_full(written)?;
        let mut files = self.index_files_since(since);
        let segments = self.segments.range(since..);
        files.extend(segments.map(|(base, _)| (FileKind::Log, *base)));
        let extent = Extent::of((files.len(), logs), || self.open_all(&files));
        let extent = self.place.directory.judge(extent)?;
        self.flush.is_checkpointing = true;
        let mut end = self.log_end();
        let mut epochs = self.epoch_file.catch_up(&self.leader_epochs, self.next);
        if !has_room {
            end.offset = self.flush.recovery_point;
            epochs = None;
        }
        // A segment that was made just before the crash may be there by name only until its directory is synced, and no
        // later flush knows of it.
        let mut flush = self.flush_of(extent, true, epochs, end);
        flush.creation = std::mem::take(&mut self.flush.creation);
        Ok(Some(flush))
    }

    /// The base of the segment that holds what comes before `offset`: where that ends with its segment, the segment may
    /// have been closed since.
    pub(crate) fn segment_before(&self, offset: Offset) -> Offset {
        let segment = self.segments.range(..offset).next_back();
        segment.map_or(offset, |(base, _)| *base)
    }

    fn write_indexes_since(&mut self, from: Offset) -> Result<(), StorageError> {
        let Self {
            segments, place, ..
        } = self;
        let mut segments = segments.range_mut(from..);
        let written = segments.try_for_each(|(_, segment)| segment.write_indexes(place));
        place.directory.judge(written)?;
        self.write_waiting_aborted()
    }

    /// What recovery would have to make anew of the segments from `from` on.
    fn index_files_since(&self, from: Offset) -> Vec<(FileKind, Offset)> {
        let mut files = Vec::new();
        for (base, segment) in self.segments.range(from..) {
            files.push((FileKind::OffsetIndex, *base));
            files.push((FileKind::TimeIndex, *base));
            if segment.aborted > 0 {
                files.push((FileKind::TransactionIndex, *base));
            }
        }
        let snapshots = self.snapshots.range(from..);
        files.extend(snapshots.map(|offset| (FileKind::ProducerSnapshot, *offset)));
        files
    }

    fn open_all(&self, files: &[(FileKind, Offset)]) -> Result<Vec<Arc<F::File>>, FileError> {
        let files = files.iter();
        files
            .map(|(kind, base)| self.place.open(*kind, *base))
            .collect()
    }

    /// Takes note that a checkpoint has run; returns the recovery point.
    pub fn complete_checkpoint(&mut self, checkpoint: &Flush<F>) -> Offset {
        self.flush.is_checkpointing = false;
        if checkpoint.cuts == self.flush.cuts {
            let durable = checkpoint.end.offset.min(self.next);
            self.flush.recovery_point = self.flush.recovery_point.max(durable);
        }
        self.flush.recovery_point
    }

    /// Takes note that a checkpoint has failed; another may begin, if the directory is still online.
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
        self.place.directory.ensure_online()?;
        let Self {
            segments, place, ..
        } = &mut self;
        let mut active = segments
            .last_entry()
            .expect("a log always has an active segment");
        place.directory.judge(active.get_mut().close(place))?;
        self.take_snapshot()?;
        // Even where the recovery point is not behind, the last index entries have only just been written.
        let since = self.segment_before(self.flush.recovery_point.min(self.active().base));
        self.write_indexes_since(since)?;
        let mut files = self.index_files_since(since);
        // A flush that is under way may end later than this, so what it covers is synced here too.
        let unflushed = self
            .segments
            .range(self.segment_before(self.flush.flushed)..);
        files.extend(unflushed.map(|(base, _)| (FileKind::Log, *base)));
        let extent = Extent::of((files.len(), logs), || self.open_all(&files));
        let extent = self.place.directory.judge(extent)?;
        let epochs = self.epoch_file.catch_up(&self.leader_epochs, self.next);
        self.place.directory.forget(&self.place.path);
        Ok(self.flush_of(extent, true, epochs, self.log_end()))
    }

    pub(crate) fn roll_at(&mut self, base: Offset, now: Timestamp) -> Result<(), StorageError> {
        self.place.directory.ensure_online()?;
        if self.active().base == base {
            return Ok(());
        }
        let jitter = super::jitter(self.config.segment_jitter, &self.place.path, base);
        let segment =
            self.place
                .directory
                .judge(Segment::create(&self.place, base, now, jitter))?;
        self.flush.has_new_names = true;
        let Self {
            segments, place, ..
        } = self;
        let mut active = segments
            .last_entry()
            .expect("a log always has an active segment");
        self.flush.unsynced.insert(*active.key());
        place.directory.judge(active.get_mut().close(place))?;
        self.segments.insert(base, segment);
        self.pack_segments();
        self.producers.advance_to(base);
        if self.high_watermark.offset == self.next {
            self.high_watermark = self.log_end();
        }
        self.take_snapshot()
    }

    /// A map that grows at its end alone keeps its nodes half empty; built anew they are full. Done now and then, it
    /// costs nothing that counts.
    fn pack_segments(&mut self) {
        let count = self.segments.len();
        if count.is_multiple_of(count.next_power_of_two() / 4) {
            self.segments = std::mem::take(&mut self.segments).into_iter().collect();
        }
    }

    /// Writes the producers' state down when much was appended since the last time, so that a start after a crash need
    /// not follow it through the whole segment. Two of these are kept: the newest lies beyond the recovery point, where
    /// it cannot be trusted yet.
    fn take_snapshot_within_segment(&mut self) -> Result<(), StorageError> {
        let active = self.active();
        let (segment, size) = self.last_snapshot;
        let since = if segment == active.base { size } else { 0 };
        if active.size.saturating_sub(since) < SNAPSHOT_INTERVAL {
            return Ok(());
        }
        self.take_snapshot()?;
        for offset in self.surplus_snapshots() {
            self.remove_snapshot(offset)?;
        }
        Ok(())
    }

    /// The snapshots that do not begin a segment, but for the newest two.
    pub(crate) fn surplus_snapshots(&self) -> Vec<Offset> {
        let within = self
            .snapshots
            .iter()
            .rev()
            .filter(|offset| !self.segments.contains_key(offset));
        within.skip(2).copied().collect()
    }

    /// Writes the producers' state down, not synced: a checkpoint does that, and a torn snapshot is known by its CRC.
    pub(crate) fn take_snapshot(&mut self) -> Result<(), StorageError> {
        let offset = self.producers.end();
        if self.snapshots.last().is_some_and(|last| *last >= offset) || offset == Offset(0) {
            return Ok(());
        }
        let content = encode_producer_snapshot(self.producers.producers());
        let path = self.place.path_of(FileKind::ProducerSnapshot, offset);
        let directory = &self.place.directory;
        directory.forget(&path);
        let written = directory
            .open_anew(&path, Open::Replace)
            .and_then(|file| file.write_at(&[IoSlice::new(&content)], 0));
        match written {
            // It only saves a later start work.
            Err(error) if error.is_full() => return Ok(()),
            outcome => directory.judge(outcome)?,
        }
        self.snapshots.insert(offset);
        self.last_snapshot = (self.active().base, self.active().size);
        self.flush.has_new_names = true;
        Ok(())
    }
}
