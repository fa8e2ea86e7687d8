//! The segment that compaction writes: beside its sources, under the suffix `.cleaned`, and synced before it is
//! renamed.

use super::error::CompactionError;
use crate::files::{File, Files};
use crate::format::{AbortedTransaction, FileKind};
use crate::place::Place;
use crate::scan::Located;
use crate::segment::Segment;
use ottla_protocol::ids::Offset;
use ottla_protocol::records::BatchHeader;
use ottla_protocol::time::Timestamp;
use std::io::IoSlice;
use std::time::Duration;

/// Bytes of one write.
const WRITE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Output<F: Files> {
    place: Place<F>,
    segment: Segment<F>,
    interval: u32,
    waiting: Vec<u8>,
    located: Vec<Located>,
    position: u64,
}

impl<F: Files> Output<F> {
    pub(crate) fn create(
        place: Place<F>,
        base: Offset,
        interval: u32,
        now: Timestamp,
    ) -> Result<Self, CompactionError> {
        let segment = Segment::create(&place, base, now, Duration::ZERO)
            .map_err(|error| CompactionError::of(&place.directory, error))?;
        Ok(Self {
            place,
            segment,
            interval,
            waiting: Vec::new(),
            located: Vec::new(),
            position: 0,
        })
    }

    pub(crate) fn base(&self) -> Offset {
        self.segment.base
    }

    /// The position of the next batch.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn push(
        &mut self,
        header: BatchHeader,
        bytes: &[u8],
    ) -> Result<(), CompactionError> {
        let located = Located {
            header,
            position: self.position,
            size: bytes.len(),
        };
        self.position = located.end();
        self.located.push(located);
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    pub(crate) fn push_aborted(
        &mut self,
        entry: &AbortedTransaction,
    ) -> Result<(), CompactionError> {
        let appended = self.segment.append_aborted(&self.place, entry);
        appended.map_err(|error| CompactionError::of(&self.place.directory, error))
    }

    fn write(&mut self) -> Result<(), CompactionError> {
        if self.located.is_empty() {
            return Ok(());
        }
        let slices = [IoSlice::new(&self.waiting)];
        let written = self
            .segment
            .append(&self.place, &slices, &self.located, self.interval);
        written.map_err(|error| CompactionError::of(&self.place.directory, error))?;
        self.waiting.clear();
        self.located.clear();
        Ok(())
    }

    /// Syncs all its files, still under the suffix.
    pub(crate) fn finish(&mut self) -> Result<(), CompactionError> {
        self.write()?;
        let place = &self.place;
        let directory = &place.directory;
        let closed = self.segment.close(place);
        // On a full disk, closing keeps index entries in memory. A compacted segment needs all of them on disk, so
        // write them again.
        let closed = closed.and_then(|()| self.segment.write_indexes(place));
        closed.map_err(|error| CompactionError::of(directory, error))?;
        for kind in self.kinds() {
            let file = place.open(kind, self.segment.base);
            let synced = file.and_then(|file| file.sync_data());
            synced.map_err(|error| CompactionError::of(directory, error))?;
        }
        self.forget();
        let names = directory.files().sync_directory(&place.path);
        names.map_err(|error| CompactionError::of(directory, error))
    }

    pub(crate) fn kinds(&self) -> Vec<FileKind> {
        let mut kinds = vec![FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex];
        if self.segment.aborted > 0 {
            kinds.push(FileKind::TransactionIndex);
        }
        kinds
    }

    pub(crate) fn into_segment(self) -> Segment<F> {
        self.segment
    }

    /// Removes its files. If that fails the pass must end: a start would take the remaining files for an incomplete
    /// replacement. The next pass, or the next start, removes them.
    pub(crate) fn discard(self) -> Result<(), CompactionError> {
        self.forget();
        let directory = &self.place.directory;
        let removed = FileKind::ALL.map(|kind| {
            let path = self.place.path_of(kind, self.segment.base);
            match directory.files().remove(&path) {
                Err(error) if error.is_not_found() => Ok(()),
                outcome => directory.judge(outcome),
            }
        });
        Ok(removed.into_iter().collect::<Result<(), _>>()?)
    }

    fn forget(&self) {
        for kind in FileKind::ALL {
            let path = self.place.path_of(kind, self.segment.base);
            self.place.directory.forget(&path);
        }
    }
}
