//! What followers read of the metadata log: its committed batches, and its snapshots.
//!
//! The owner of the log publishes a [`LogView`] after each commit. A view is read on any thread, while the log goes on.
//! Nothing above the high watermark leaves, so an observer never has to truncate what it read here. The rules are those of
//! Kafka's leader (`KafkaRaftClient`, `RaftLog` of 4.3.1): an empty follower gets a snapshot if there is one, and so does a
//! follower whose offset the log no longer has.

use super::MetadataLog;
use super::replay::Snapshots;
use crate::batches::{BatchReader, Next};
use crate::checkpoint::SnapshotId;
use crate::epoch_checkpoint::EpochStarts;
use crate::segment;
use ottla_log::files::{File, FileError, Files, Open};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bound of the remembered ends of reads.
const MAX_REMEMBERED: usize = 64;

/// A position in the segment with a base offset.
type Position = (Offset, u64);

/// Where reads ended: a follower goes on there, and no batch has to be searched.
type Ends = Arc<Mutex<BTreeMap<Offset, Position>>>;

/// The committed part of a metadata log.
#[derive(Debug, Clone)]
pub struct LogView<F> {
    files: F,
    directory: PathBuf,
    /// The base offsets, in order.
    segments: Vec<Offset>,
    /// Without the checkpoint of formatting, which is not replicated, and without older ones than the log. They are left
    /// when the log goes on after a snapshot of its leader, or when a crash comes before their removal.
    snapshots: Snapshots,
    epoch_starts: EpochStarts,
    log_start: Offset,
    high_watermark: Offset,
    ends: Ends,
}

/// Where a follower stands: the end of its log, and the epoch of its last batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FollowerEnd {
    pub offset: Offset,
    pub last_epoch: LeaderEpoch,
}

/// The answer to a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// Whole batches from its end on; none if it has everything.
    Batches(Vec<u8>),
    /// Its log diverges: the largest epoch of the log that is not above its own, and where that epoch ends.
    Diverging(FollowerEnd),
    /// It must load this snapshot, and go on after it.
    Snapshot(SnapshotId),
}

/// Why a piece of a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotUnreadable {
    #[error("there is no such snapshot")]
    NotFound,
    #[error("the position lies outside of the snapshot")]
    OutOfRange,
    #[error(transparent)]
    File(#[from] FileError),
}

/// A piece of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// The size of the whole snapshot, in bytes.
    pub size: u64,
    /// Not aligned to batches.
    pub bytes: Vec<u8>,
}

impl<F: Files> MetadataLog<F> {
    /// The view of a log that nobody has read yet.
    pub fn view(&self) -> LogView<F> {
        self.view_with(Ends::default())
    }

    /// The view after `earlier`, which is a view of the same log.
    pub fn view_after(&self, earlier: &LogView<F>) -> LogView<F> {
        self.view_with(Arc::clone(&earlier.ends))
    }

    fn view_with(&self, ends: Ends) -> LogView<F> {
        let log_start = self.log_start();
        let mut snapshots = self.snapshots.clone();
        snapshots.retain(|id, _| *id != SnapshotId::BOOTSTRAP && id.end_offset >= log_start);
        LogView {
            files: self.files.clone(),
            directory: self.directory.clone(),
            segments: self.segments.clone(),
            snapshots,
            epoch_starts: self.epoch_starts.clone(),
            log_start,
            high_watermark: self.end,
            ends,
        }
    }
}

impl<F: Files> LogView<F> {
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub const fn log_start(&self) -> Offset {
        self.log_start
    }

    /// What a follower that ends at `end` gets: batches of at most `max_bytes`, or one larger batch. Blocks on the disk.
    ///
    /// If the log was cut off at its start meanwhile, there are no batches, and the next view has a snapshot.
    pub fn fetch(&self, end: FollowerEnd, max_bytes: usize) -> Result<Fetched, FileError> {
        let newest = self.snapshots.keys().next_back().copied();
        if let Some(newest) = newest
            && (end.offset == Offset(0) || self.is_before_log(end))
        {
            return Ok(Fetched::Snapshot(newest));
        }
        if end.offset > Offset(0) {
            let known = self.end_of_epoch(end.last_epoch);
            if known.last_epoch != end.last_epoch || known.offset < end.offset {
                return Ok(Fetched::Diverging(known));
            }
        }
        match self.read(end.offset, max_bytes) {
            Err(error) if error.is_not_found() => Ok(Fetched::Batches(Vec::new())),
            read => Ok(Fetched::Batches(read?)),
        }
    }

    fn is_before_log(&self, end: FollowerEnd) -> bool {
        self.snapshots.keys().next().is_some_and(|oldest| {
            end.offset < self.log_start
                || (end.offset == self.log_start && end.last_epoch != oldest.epoch)
                || end.last_epoch < oldest.epoch
        })
    }

    /// The largest epoch that is not above `epoch`, and where it ends.
    fn end_of_epoch(&self, epoch: LeaderEpoch) -> FollowerEnd {
        let found = self.epoch_starts.end_of(epoch, self.high_watermark);
        let found = found.map(|(last_epoch, offset)| FollowerEnd { offset, last_epoch });
        let of_snapshot = |id: &SnapshotId| FollowerEnd {
            offset: id.end_offset,
            last_epoch: id.epoch,
        };
        let oldest = self.snapshots.keys().next().map(of_snapshot);
        found.or(oldest).unwrap_or(FollowerEnd {
            offset: Offset(0),
            last_epoch: LeaderEpoch(0),
        })
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<u8>, FileError> {
        let mut out = Vec::new();
        let mut next = from;
        while next < self.high_watermark && out.len() < max_bytes {
            let (base, position) = self.position_of(next);
            let file = self
                .files
                .open(&segment::path(&self.directory, base), Open::Read)?;
            let mut reader = BatchReader::new(&file)?;
            reader.skip(position);
            let before = next;
            let mut position = position;
            while next < self.high_watermark
                && let Next::Batch(batch) = reader.next()?
            {
                let end = batch.header().next_offset();
                if !out.is_empty() && out.len() + batch.size() > max_bytes {
                    self.remember(next, (base, position));
                    return Ok(out);
                }
                if end > from {
                    out.extend_from_slice(batch.bytes());
                    next = end;
                }
                position = reader.position();
            }
            if next == before {
                // The rest of the segment is damaged. The next start of the controller refuses it.
                break;
            }
            self.remember(next, (base, position));
        }
        Ok(out)
    }

    /// Where to look for the batch at `offset`: behind the last read that ended there, or from the start of its segment.
    fn position_of(&self, offset: Offset) -> Position {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let base = self.segments.iter().rev().find(|base| **base <= offset);
        let base = base.copied().unwrap_or(Offset(0));
        match ends.get(&offset) {
            Some((segment, position)) if *segment == base => (base, *position),
            _ => (base, 0),
        }
    }

    fn remember(&self, offset: Offset, position: Position) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.insert(offset, position);
        if ends.len() > MAX_REMEMBERED {
            ends.pop_first();
        }
    }

    /// At most `max_bytes` of a snapshot from `position` on. Blocks on the disk.
    pub fn snapshot_piece(
        &self,
        id: SnapshotId,
        position: u64,
        max_bytes: usize,
    ) -> Result<SnapshotPiece, SnapshotUnreadable> {
        let size = self
            .snapshots
            .get(&id)
            .ok_or(SnapshotUnreadable::NotFound)?;
        if position >= *size {
            return Err(SnapshotUnreadable::OutOfRange);
        }
        let file = match self
            .files
            .open(&self.directory.join(id.file_name()), Open::Read)
        {
            Err(error) if error.is_not_found() => return Err(SnapshotUnreadable::NotFound),
            file => file?,
        };
        let left = usize::try_from(size - position).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(max_bytes)];
        let read = file.read_at(&mut bytes, position)?;
        bytes.truncate(read);
        Ok(SnapshotPiece { size: *size, bytes })
    }
}
