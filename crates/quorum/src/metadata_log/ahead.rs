//! Batches at the end of the log that are not known to be committed: the entries that Raft's log has and that are not
//! applied yet.
//!
//! Apache Kafka finds out itself which batches at the end of a log are committed. So that nothing is lost if it goes on with
//! the directories, the log has every entry before this controller answers for it. Readers see nothing of these batches.
//!
//! - They follow the end of the log without a gap, one item for each entry that has a payload.
//! - An entry that Raft replaces goes with all after it, before another is written.

use std::collections::VecDeque;
use std::io::IoSlice;

use ottla_log::files::{File, FileError, Files, Open};
use ottla_protocol::ids::Offset;

use super::MetadataLog;
use crate::raft::payload::Placed;
use crate::segment;

/// What the log has ahead of its end.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    entries: VecDeque<AheadEntry>,
    /// The base offsets of the segments after the active one.
    later: VecDeque<Offset>,
    /// The indexes of the first and the last entry that a full disk did not take.
    skipped: Option<(u64, u64)>,
}

/// The batches of one entry of Raft's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AheadEntry {
    /// Its index in Raft's log.
    pub(crate) index: u64,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// The base offset of its segment.
    pub(crate) segment: Offset,
    pub(crate) position: u64,
    pub(crate) length: usize,
}

impl AheadEntry {
    pub(super) const fn end_position(&self) -> u64 {
        self.position + self.length as u64
    }
}

impl Ahead {
    /// The entries that a start has found in the log, and the segments after the one of `active`.
    pub(super) fn found(entries: &[AheadEntry], active: Offset) -> Self {
        let mut later: Vec<Offset> = entries.iter().map(|entry| entry.segment).collect();
        later.retain(|segment| *segment > active);
        later.dedup();
        Self {
            entries: entries.iter().copied().collect(),
            later: later.into(),
            skipped: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Its bytes are now in `segment`, nearer to the start by `skipped`.
    fn move_to(&mut self, segment: Offset, skipped: u64) {
        for entry in &mut self.entries {
            entry.segment = segment;
            entry.position -= skipped;
        }
    }

    /// What is ahead is no longer in the log.
    fn skip_all(&mut self) {
        if let (Some(first), Some(last)) = (self.entries.front(), self.entries.back()) {
            let last = self.skipped.map_or(last.index, |(_, last)| last);
            self.skipped = Some((first.index, last));
        }
        self.entries.clear();
    }

    pub(super) fn later_segments(&self) -> impl Iterator<Item = Offset> {
        self.later.iter().copied()
    }
}

impl<F: Files> MetadataLog<F> {
    /// Where the log ends after all that is written ahead.
    pub(crate) fn ahead_end(&self) -> Offset {
        self.ahead.entries.back().map_or(self.end, |last| last.end)
    }

    /// Writes the batches of the entry at `index` ahead, unsynced. What a full disk does not take is written when the
    /// entry is committed.
    pub(crate) fn write_ahead(&mut self, index: u64, batches: &[Placed]) -> Result<(), FileError> {
        if let Some((_, last)) = &mut self.ahead.skipped {
            *last = index;
            return Ok(());
        }
        let start = self.ahead_end();
        let bytes: Vec<u8> = batches.iter().flat_map(|one| one.bytes.clone()).collect();
        let records: i64 = batches.iter().map(|one| one.records).sum();
        let (segment, position) = match self.ahead.entries.back() {
            Some(last) => (last.segment, last.end_position()),
            None => (self.active_base(), self.active_size),
        };
        match self.write_in(segment, position, &bytes) {
            Err(error) if error.is_full() => {
                self.ahead.skipped = Some((index, index));
                return self.truncate_in(segment, position);
            }
            written => written?,
        }
        self.ahead.entries.push_back(AheadEntry {
            index,
            start,
            end: start.plus(records),
            segment,
            position,
            length: bytes.len(),
        });
        Ok(())
    }

    /// Removes the entries from the one at `index` on, which Raft replaces.
    pub(crate) fn cut_ahead(&mut self, index: u64) -> Result<(), FileError> {
        if self.ahead.skipped.is_some_and(|(first, _)| first >= index) {
            self.ahead.skipped = None;
        }
        self.truncate_ahead(index)
    }

    fn truncate_ahead(&mut self, index: u64) -> Result<(), FileError> {
        let mut first = None;
        while let Some(last) = self.ahead.entries.pop_back_if(|last| last.index >= index) {
            first = Some(last);
        }
        let Some(first) = first else {
            return Ok(());
        };
        self.truncate_in(first.segment, first.position)?;
        self.remove_segments_after(first.segment)
    }

    /// Whether the entry at `index`, which is committed, is in the log already. If so, it is not ahead any more.
    pub(super) fn take_ahead(&mut self, index: u64) -> Result<bool, FileError> {
        let found = self.ahead.entries.front().copied();
        let Some(next) = found.filter(|next| next.index == index) else {
            self.truncate_ahead(0)?;
            return Ok(false);
        };
        if next.segment != self.active_base() {
            self.active.sync_data()?;
            let path = segment::path(&self.directory, next.segment);
            self.active = self.files.open(&path, Open::Write)?;
            self.ahead.later.retain(|base| *base > next.segment);
            self.segments.push(next.segment);
            (self.active_size, self.reserved_to) = (0, 0);
        }
        self.ahead.entries.pop_front();
        Ok(true)
    }

    /// The entry at `index` is applied, and with it what a full disk did not take before.
    pub(crate) fn note_applied(&mut self, index: u64) {
        if self.ahead.skipped.is_some_and(|(_, last)| last <= index) {
            self.ahead.skipped = None;
        }
    }

    /// Forgets what is ahead, and removes its segments. The caller removes the active one.
    pub(super) fn drop_ahead(&mut self) -> Result<(), FileError> {
        self.remove_segments_after(self.active_base())?;
        self.ahead = Ahead::default();
        Ok(())
    }

    /// The bytes of what is ahead in the active segment, the only one that has any.
    pub(super) fn read_ahead(&self) -> Result<Vec<u8>, FileError> {
        let length = self.ahead.entries.iter().map(|entry| entry.length).sum();
        let mut bytes = vec![0; length];
        let read = self.active.read_at(&mut bytes, self.active_size)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Moves what is ahead to the start of the segment at the end of the log. Without it, or on a full disk, it is written
    /// when it is committed.
    pub(super) fn move_ahead(
        &mut self,
        bytes: &[u8],
        next: Option<&F::File>,
    ) -> Result<(), FileError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = next.map(|next| (next, next.write_at(&[IoSlice::new(bytes)], 0)));
        match written {
            Some((_, Ok(()))) => self.ahead.move_to(self.end, self.active_size),
            Some((next, Err(error))) if error.is_full() => {
                self.ahead.skip_all();
                next.truncate(0)?;
            }
            Some((_, Err(error))) => return Err(error),
            None => self.ahead.skip_all(),
        }
        Ok(())
    }

    fn active_base(&self) -> Offset {
        *self
            .segments
            .last()
            .expect("the log has a segment to write to")
    }

    fn write_in(&self, segment: Offset, position: u64, bytes: &[u8]) -> Result<(), FileError> {
        if segment == self.active_base() {
            return self.active.write_at(&[IoSlice::new(bytes)], position);
        }
        let path = segment::path(&self.directory, segment);
        let file = self.files.open(&path, Open::Write)?;
        file.write_at(&[IoSlice::new(bytes)], position)
    }

    fn truncate_in(&mut self, segment: Offset, position: u64) -> Result<(), FileError> {
        if segment == self.active_base() {
            self.reserved_to = 0;
            return self.active.truncate(position);
        }
        let path = segment::path(&self.directory, segment);
        self.files.open(&path, Open::Write)?.truncate(position)
    }

    fn remove_segments_after(&mut self, segment: Offset) -> Result<(), FileError> {
        while let Some(last) = self.ahead.later.pop_back_if(|last| *last > segment) {
            segment::remove(&self.files, &self.directory, last)?;
        }
        Ok(())
    }
}
