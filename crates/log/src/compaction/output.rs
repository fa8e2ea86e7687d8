//! The segment that compaction writes: beside its sources, under the suffix `.cleaned`, durable before it is named.

use super::CompactionError;
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

/// Bytes that are written at a time.
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

    /// Where the next batch will lie.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Adds a batch.
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

    /// Adds an entry to its transaction index.
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

    /// Makes all of it durable, still under its suffix.
    pub(crate) fn finish(&mut self) -> Result<(), CompactionError> {
        self.write()?;
        let place = &self.place;
        let directory = &place.directory;
        let closed = self.segment.close(place);
        // Closing leaves entries waiting when the disk is full; a compacted segment is complete or not at all.
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

    /// Its files.
    pub(crate) fn kinds(&self) -> Vec<FileKind> {
        let mut kinds = vec![FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex];
        if self.segment.aborted > 0 {
            kinds.push(FileKind::TransactionIndex);
        }
        kinds
    }

    /// The segment, which lies under its suffix.
    pub(crate) fn into_segment(self) -> Segment<F> {
        self.segment
    }

    /// Removes what was written. Where that fails the pass must end: a start would take what is left for a sign that
    /// later replacements are incomplete. It goes with the next pass, or the next start.
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
