//! Closes the active segment and opens the next one, with a producer snapshot at its start.

use super::PartitionLog;
use crate::directory::StorageError;
use crate::files::{File, Files, Open};
use crate::format::FileKind;
use crate::producer_snapshot;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::io::IoSlice;

/// Bytes of batches after which a checkpoint takes a producer snapshot within a segment.
const SNAPSHOT_INTERVAL: u64 = 16 << 20;

impl<F: Files> PartitionLog<F> {
    /// Closes the active segment and opens the next one at the end of the log.
    pub fn roll(&mut self, now: Timestamp) -> Result<(), StorageError> {
        if self.active().size == 0 {
            return Ok(());
        }
        self.roll_at(self.segments.end(), now)
    }

    /// As [`PartitionLog::roll`], with the next segment at `base`, which may be after the end of the log.
    pub(super) fn roll_at(&mut self, base: Offset, now: Timestamp) -> Result<(), StorageError> {
        self.directory().ensure_online()?;
        if self.active().base == base {
            return Ok(());
        }
        let segment = self
            .segments
            .create(base, now, self.config.segment_jitter)?;
        self.flush.has_new_names = true;
        self.flush.unsynced.insert(self.segments.active().base);
        self.segments.push(segment)?;
        self.producers.advance_to(base);
        if self.high_watermark.offset == self.segments.end() {
            self.high_watermark = self.log_end();
        }
        self.take_snapshot()
    }

    /// Takes a producer snapshot after [`SNAPSHOT_INTERVAL`] bytes, so that a start after a crash need not replay the
    /// whole segment. Two of them are kept, because the newest lies after the recovery point, where it is not trusted
    /// yet.
    pub(super) fn take_snapshot_within_segment(&mut self) -> Result<(), StorageError> {
        let active = self.active();
        let (segment, size) = self.last_snapshot;
        let since = if segment == active.base { size } else { 0 };
        if active.size.saturating_sub(since) < SNAPSHOT_INTERVAL {
            return Ok(());
        }
        self.take_snapshot()?;
        self.segments.remove_surplus_snapshots()
    }

    /// Writes a producer snapshot, unsynced. A checkpoint syncs it, and a torn snapshot is detected by its CRC.
    pub(super) fn take_snapshot(&mut self) -> Result<(), StorageError> {
        let offset = self.producers.end();
        let newest = self.segments.snapshots().last();
        if newest.is_some_and(|newest| *newest >= offset) || offset == Offset(0) {
            return Ok(());
        }
        let content = producer_snapshot::encode(self.producers.producers());
        let path = self.place().path_of(FileKind::ProducerSnapshot, offset);
        let directory = self.directory();
        directory.forget(&path);
        let written = directory
            .open_anew(&path, Open::Replace)
            .and_then(|file| file.write_at(&[IoSlice::new(&content)], 0));
        match written {
            // A snapshot only saves work at the next start.
            Err(error) if error.is_full() => return Ok(()),
            outcome => directory.judge(outcome)?,
        }
        self.segments.add_snapshot(offset);
        self.last_snapshot = (self.active().base, self.active().size);
        self.flush.has_new_names = true;
        Ok(())
    }
}
