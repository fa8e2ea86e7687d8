//! One segment of a log: its batches from the base offset on, its indexes, and the decision when to roll.
//!
//! A closed segment takes a small constant in memory (a test says how much), and its files are opened when they are
//! read. The active segment also keeps its newest index entries, and its `.log` file while that is open. Invariants:
//!
//! - `size` is the length of the whole batches in the `.log` file.
//! - An index entry has the last offset of its batch, so a lookup never lands after the offset.

mod detached;
mod find;
mod largest_timestamp;

pub(crate) use self::detached::NewIndexes;
pub(crate) use self::find::Sought;
use self::largest_timestamp::{Largest, TimestampOffset, largest_timestamp};
use crate::batch::{Batch, end_marker};
use crate::config::LogConfig;
use crate::damage::{Met, Salvage, UNBOUNDED};
use crate::files::{File, FileError, Files, Open};
use crate::format::{AbortedTransaction, FileKind, IndexEntry, OffsetEntry, TimeEntry};
use crate::index_file::IndexFile;
use crate::look::{Look, Reading as _};
use crate::place::Place;
use crate::position::LogPosition;
use crate::reservation::Reservation;
use crate::scan::{Located, Scan, ScanError};
use crate::transaction_index::{self, Below};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::BatchView;
use ottla_protocol::time::Timestamp;
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Segment<F: Files> {
    pub(crate) base: Offset,
    pub(crate) size: u64,
    pub(crate) offset_index: IndexFile<OffsetEntry>,
    pub(crate) time_index: IndexFile<TimeEntry>,
    pub(crate) aborted: u32,
    largest: Largest,
    active: Option<Box<Active<F>>>,
}

/// The state of the active segment.
#[derive(Debug)]
struct Active<F: Files> {
    file: Weak<F::File>,
    created: Timestamp,
    jitter: Duration,
    first_timestamp: Option<Timestamp>,
    last_indexed: Timestamp,
    bytes_since_entry: u64,
    reservation: Reservation,
}

/// Which index files of a segment exist.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PresentIndexes {
    pub(crate) offset: bool,
    pub(crate) time: bool,
    pub(crate) transaction: bool,
}

impl PresentIndexes {
    pub(crate) fn add(&mut self, kind: FileKind) {
        match kind {
            FileKind::OffsetIndex => self.offset = true,
            FileKind::TimeIndex => self.time = true,
            FileKind::TransactionIndex => self.transaction = true,
            FileKind::Log | FileKind::ProducerSnapshot => {}
        }
    }
}

/// The facts of an append that decide whether to roll.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming {
    pub(crate) bytes: u64,
    pub(crate) last_offset: Offset,
    pub(crate) max_timestamp: Timestamp,
}

impl<F: Files> Segment<F> {
    /// Creates the files of a new active segment.
    pub(crate) fn create(
        place: &Place<F>,
        base: Offset,
        now: Timestamp,
        jitter: Duration,
    ) -> Result<Self, FileError> {
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
            let path = place.path_of(kind, base);
            place.directory.forget(&path);
            place.directory.open_anew(&path, Open::Replace)?;
        }
        let path = place.path_of(FileKind::Log, base);
        let file = place.directory.open_and_keep(&path, Open::Replace)?;
        let mut segment = Self::empty(base);
        segment.set_largest(segment.nothing());
        segment.active = Some(Box::new(Active {
            file: Arc::downgrade(&file),
            created: now,
            jitter,
            first_timestamp: None,
            last_indexed: Timestamp::NONE,
            bytes_since_entry: 0,
            reservation: Reservation::none(0, now),
        }));
        Ok(segment)
    }

    fn empty(base: Offset) -> Self {
        Self {
            base,
            size: 0,
            offset_index: IndexFile::of_length(0),
            time_index: IndexFile::of_length(0),
            aborted: 0,
            largest: Largest::UNKNOWN,
            active: None,
        }
    }

    /// Loads the segment at `base`, closed, from the lengths of its files. There may be hundreds of thousands of
    /// segments, so only existing `indexes` are looked up.
    pub(crate) fn load(
        place: &Place<F>,
        base: Offset,
        indexes: PresentIndexes,
    ) -> Result<Self, FileError> {
        let length = |kind, is_there: bool| {
            let length = is_there.then(|| place.length(kind, base)).transpose();
            Ok(length?.flatten().unwrap_or(0))
        };
        let mut segment = Self::empty(base);
        segment.size = length(FileKind::Log, true)?;
        let offset_index = length(FileKind::OffsetIndex, indexes.offset)?;
        segment.offset_index = IndexFile::of_length(offset_index);
        let time_index = length(FileKind::TimeIndex, indexes.time)?;
        segment.time_index = IndexFile::of_length(time_index);
        let aborted = length(FileKind::TransactionIndex, indexes.transaction)?;
        // A torn entry counts as an entry, so that it is found to be damaged.
        let aborted = aborted.div_ceil(AbortedTransaction::SIZE as u64);
        segment.aborted = u32::try_from(aborted).unwrap_or(u32::MAX);
        Ok(segment)
    }

    /// Opens a loaded segment for appending.
    pub(crate) fn activate(
        &mut self,
        place: &Place<F>,
        now: Timestamp,
        jitter: Duration,
    ) -> Result<(), FileError> {
        let file = place.open(FileKind::Log, self.base)?;
        // If the first batch is damaged, the age of the segment counts from now.
        let first = match Scan::new(&*file, 0, self.size).next_header() {
            Err(ScanError::Disk(error)) => return Err(error),
            Err(ScanError::Invalid { .. }) => None,
            Ok(first) => first,
        };
        let first_timestamp = first.map(|located| Timestamp(located.header.max_timestamp));
        let last_indexed = self
            .time_index
            .last(&|| place.open(FileKind::TimeIndex, self.base))?;
        let indexed_to = self.indexed_to(place)?;
        let largest = self.find_largest(place)?;
        self.set_largest(largest);
        self.active = Some(Box::new(Active {
            file: Arc::downgrade(&file),
            created: now,
            jitter,
            first_timestamp,
            last_indexed: last_indexed.map_or(Timestamp::NONE, |entry| Timestamp(entry.timestamp)),
            bytes_since_entry: self.size.saturating_sub(indexed_to),
            reservation: Reservation::none(self.size, now),
        }));
        Ok(())
    }

    fn nothing(&self) -> TimestampOffset {
        TimestampOffset {
            timestamp: Timestamp::NONE,
            offset: self.base,
        }
    }

    pub(crate) fn end_position(&self, next: Offset) -> LogPosition {
        LogPosition {
            offset: next,
            segment: self.base,
            position: self.size,
        }
    }

    /// The `.log` file.
    pub(crate) fn file(&self, place: &Place<F>) -> Result<Arc<F::File>, FileError> {
        let at_hand = self
            .active
            .as_ref()
            .and_then(|active| active.file.upgrade());
        at_hand.map_or_else(|| place.open(FileKind::Log, self.base), Ok)
    }

    /// The `.log` file; an active segment remembers it.
    fn take_in_hand(&mut self, place: &Place<F>) -> Result<Arc<F::File>, FileError> {
        let file = self.file(place)?;
        if let Some(active) = self
            .active
            .as_mut()
            .filter(|active| active.file.strong_count() == 0)
        {
            active.file = Arc::downgrade(&file);
        }
        Ok(file)
    }

    /// Reserves space for later appends, if the segment fills fast. Nothing depends on it.
    pub(crate) fn reserve(&mut self, place: &Place<F>, limit: u64, now: Timestamp) {
        let size = self.size;
        let Some(active) = self
            .active
            .as_mut()
            .filter(|active| active.reservation.is_due(size))
        else {
            return;
        };
        let space = place.directory.files().space(&place.path);
        let free = space.map_or(0, |space| space.free);
        if let Some(ahead) = active.reservation.advance(size, limit, free, now) {
            let file = self.file(place);
            // A failed reservation is ignored: a later write works, or reports the error.
            let _ = file.and_then(|file| file.reserve(size, ahead));
        }
    }

    /// Releases the reserved space of an idle segment.
    pub(crate) fn give_back_idle(
        &mut self,
        place: &Place<F>,
        now: Timestamp,
    ) -> Result<(), FileError> {
        let size = self.size;
        let is_idle = |active: &Active<F>| active.reservation.has_idle_surplus(size, now);
        if !self.active.as_deref().is_some_and(is_idle) {
            return Ok(());
        }
        self.file(place)?.truncate(size)?;
        if let Some(active) = &mut self.active {
            active.reservation = Reservation::none(size, now);
        }
        Ok(())
    }

    /// Writes `slices`, the bytes of the batches `located`, and adds their index entries.
    pub(crate) fn append(
        &mut self,
        place: &Place<F>,
        slices: &[IoSlice<'_>],
        located: &[Located],
        interval: u32,
    ) -> Result<(), FileError> {
        let file = self.take_in_hand(place)?;
        file.write_at(slices, self.size)?;
        for batch in located {
            self.note(batch, u64::from(interval));
        }
        if self.offset_index.needs_writing() {
            unless_lacking(self.write_indexes(place))?;
        }
        Ok(())
    }

    /// Updates size, largest timestamp and index entries for a batch that is in the file.
    pub(crate) fn note(&mut self, batch: &Located, interval: u64) {
        let header = &batch.header;
        let mut largest = self.known_largest().unwrap_or_else(|| self.nothing());
        let max_timestamp = largest_timestamp(header);
        if max_timestamp > largest.timestamp {
            largest = TimestampOffset {
                timestamp: max_timestamp,
                offset: header.last_offset(),
            };
        }
        self.set_largest(largest);
        self.size = batch.end();
        let Some(active) = self.active.as_mut() else {
            return;
        };
        active.first_timestamp.get_or_insert(max_timestamp);
        if active.bytes_since_entry > interval {
            let relative_offset = relative(header.last_offset(), self.base);
            let position = i32::try_from(batch.position).unwrap_or(i32::MAX);
            self.offset_index.push(OffsetEntry {
                relative_offset,
                position,
            });
            active.bytes_since_entry = 0;
            self.index_time();
        }
        if let Some(active) = self.active.as_mut() {
            active.bytes_since_entry += batch.size as u64;
        }
    }

    fn index_time(&mut self) {
        let largest = self.known_largest();
        let (Some(active), Some(largest)) = (self.active.as_mut(), largest) else {
            return;
        };
        if largest.timestamp > active.last_indexed {
            active.last_indexed = largest.timestamp;
            let relative_offset = relative(largest.offset, self.base);
            self.time_index.push(TimeEntry {
                timestamp: largest.timestamp.0,
                relative_offset,
            });
        }
    }

    pub(crate) fn write_indexes(&mut self, place: &Place<F>) -> Result<(), FileError> {
        self.offset_index
            .write(&|| place.open(FileKind::OffsetIndex, self.base))?;
        self.time_index
            .write(&|| place.open(FileKind::TimeIndex, self.base))
    }

    /// Ends a scan, and keeps its index entries in memory.
    pub(crate) fn end_scan(&mut self) {
        self.index_time();
        self.active = None;
    }

    /// Closes the active segment: adds the entry of the largest timestamp, and drops its state from memory.
    pub(crate) fn close(&mut self, place: &Place<F>) -> Result<(), FileError> {
        self.index_time();
        let source = || place.open(FileKind::OffsetIndex, self.base);
        unless_lacking(self.offset_index.write_and_release(&source))?;
        let source = || place.open(FileKind::TimeIndex, self.base);
        unless_lacking(self.time_index.write_and_release(&source))?;
        let has_surplus = |active: &Active<F>| active.reservation.has_surplus(self.size);
        if self.active.as_deref().is_some_and(has_surplus) {
            self.file(place)?.truncate(self.size)?;
        }
        self.active = None;
        Ok(())
    }

    pub(crate) fn append_aborted(
        &mut self,
        place: &Place<F>,
        entry: &AbortedTransaction,
    ) -> Result<(), FileError> {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let position = u64::from(self.aborted) * AbortedTransaction::SIZE as u64;
        place
            .open(FileKind::TransactionIndex, self.base)?
            .write_at(&[IoSlice::new(&bytes)], position)?;
        self.aborted += 1;
        Ok(())
    }

    /// The aborted transactions whose markers are in the segment, which ends at `bound`. A damaged entry is `None`.
    pub(crate) fn aborted_transactions(
        &self,
        place: &Place<F>,
        look: &Look<F::File>,
        bound: Offset,
    ) -> Result<Vec<Option<AbortedTransaction>>, FileError> {
        if self.aborted == 0 {
            return Ok(Vec::new());
        }
        let file = look.at(place.open(FileKind::TransactionIndex, self.base)?);
        let mut bytes = vec![0; self.aborted as usize * AbortedTransaction::SIZE];
        let read = file.bytes_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(transaction_index::entries(&bytes, &(self.base..bound)))
    }

    /// Truncates the index of aborted transactions after those that ended below `offset`.
    ///
    /// A damaged entry stays, so that it is reported, if it was one of these and has records after `log_start`. An
    /// index without entries is removed. Only names and indexes with entries are synced, so entries of an emptied file
    /// could come back (assumption 5 of `docs/formats.md`).
    pub(crate) fn truncate_aborted(
        &mut self,
        place: &Place<F>,
        offset: Offset,
        log_start: Offset,
    ) -> Result<(), FileError> {
        let below = Below::of(
            &self.aborted_transactions(place, &Look::Waiting, UNBOUNDED)?,
            offset,
        );
        let mut kept = below.entries;
        if below.damaged > 0 {
            let from = below.marker.map_or(self.base, |marker| marker.plus(1));
            if self.has_abort(place, from..offset, log_start)? {
                kept += below.damaged;
            }
        }
        let count = u32::try_from(kept).unwrap_or(u32::MAX);
        if count == self.aborted {
            return Ok(());
        }
        self.aborted = count;
        if kept == 0 {
            let path = place.path_of(FileKind::TransactionIndex, self.base);
            place.directory.forget(&path);
            return place.directory.files().remove(&path);
        }
        let length = (kept * AbortedTransaction::SIZE) as u64;
        place
            .open(FileKind::TransactionIndex, self.base)?
            .truncate(length)
    }

    /// Whether the batches have an abort marker at these offsets. A transaction whose records are all before
    /// `log_start` does not count, because a start that reads from there adds no entry for it.
    fn has_abort(
        &self,
        place: &Place<F>,
        offsets: Range<Offset>,
        log_start: Offset,
    ) -> Result<bool, FileError> {
        let from = offsets.start.min(log_start).max(self.base);
        let (start, next) = self.start_before(place, from)?;
        let file = self.file(place)?;
        let mut walk = Salvage::new(&*file, self.base, start..self.size, next..UNBOUNDED);
        // Records before the segment, and damaged ones, may belong to any producer.
        let mut is_any_open = log_start < self.base;
        let mut open = BTreeSet::new();
        while let Some(met) = walk.advance()? {
            let Met::Batch(located) = met else {
                is_any_open = true;
                continue;
            };
            let header = &located.header;
            if header.base_offset() >= offsets.end {
                break;
            }
            if !header.is_control() {
                if header.last_offset() >= log_start {
                    open.insert(header.producer_id);
                }
                continue;
            }
            let was_open = open.remove(&header.producer_id) || is_any_open;
            let batch = BatchView::first(walk.bytes_of(&located)).ok();
            let marker = batch.and_then(|batch| end_marker(&Batch::from(batch)));
            let is_abort = marker.is_some_and(|marker| marker.is_abort);
            if is_abort && was_open && header.base_offset() >= offsets.start {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `incoming` must go into a new segment.
    pub(crate) fn should_roll(
        &self,
        config: &LogConfig,
        incoming: &Incoming,
        now: Timestamp,
    ) -> bool {
        let Some(active) = &self.active else {
            return true;
        };
        let waited = match active.first_timestamp {
            Some(first) if first.0 >= 0 => incoming.max_timestamp.0.saturating_sub(first.0),
            _ => now.0.saturating_sub(active.created.0),
        };
        let limit = config.segment_age.saturating_sub(active.jitter).as_millis();
        let is_old = self.size > 0 && u128::try_from(waited).unwrap_or(0) > limit;
        let index_limit = u64::from(config.segment_index_bytes);
        let is_index_full = self.offset_index.bytes() + OffsetEntry::SIZE as u64 > index_limit
            || self.time_index.bytes() + 2 * TimeEntry::SIZE as u64 > index_limit;
        let overflows = incoming.last_offset.0 - self.base.0 > i64::from(i32::MAX);
        self.size + incoming.bytes > config.segment_bytes || is_old || is_index_full || overflows
    }

    /// The position of the batch of the last index entry.
    fn indexed_to(&self, place: &Place<F>) -> Result<u64, FileError> {
        let source = || place.open(FileKind::OffsetIndex, self.base);
        let last = self.offset_index.last(&source)?;
        Ok(last.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0)))
    }

    /// Truncates the segment at `position`, where the batch with `offset` begins. The caller must activate it again.
    /// The `.log` file is truncated and synced first (assumption 5 of `docs/formats.md`): if batches came back after a
    /// crash without their index of aborted transactions, readers would see aborted records.
    pub(crate) fn truncate(
        &mut self,
        place: &Place<F>,
        offset: Offset,
        position: u64,
        log_start: Offset,
    ) -> Result<(), FileError> {
        let file = self.file(place)?;
        file.truncate(position)?;
        file.sync_data()?;
        // Readers that keep bytes of an open file must not take them for those that come in their place.
        place
            .directory
            .forget(&place.path_of(FileKind::Log, self.base));
        let target = offset.0.saturating_sub(self.base.0);
        let source = || place.open(FileKind::OffsetIndex, self.base);
        let kept = self
            .offset_index
            .partition_point(&source, |entry| i64::from(entry.relative_offset) < target)?;
        self.offset_index.truncate(kept, &source)?;
        let source = || place.open(FileKind::TimeIndex, self.base);
        let kept = self
            .time_index
            .partition_point(&source, |entry| i64::from(entry.relative_offset) < target)?;
        self.time_index.truncate(kept, &source)?;
        self.truncate_aborted(place, offset, log_start)?;
        self.size = position;
        self.largest = Largest::UNKNOWN;
        self.active = None;
        Ok(())
    }

    /// Begins a scan at `position`, the batch of the last index entry: the caller calls [`Segment::note`] for each
    /// batch from there on. Afterwards it closes the segment, and activates it if it is the last one.
    pub(crate) fn begin_scan(
        &mut self,
        place: &Place<F>,
        position: u64,
        now: Timestamp,
    ) -> Result<(), FileError> {
        let file = place.open(FileKind::Log, self.base)?;
        let last = self
            .time_index
            .last(&|| place.open(FileKind::TimeIndex, self.base))?;
        let largest = last.map_or_else(|| self.nothing(), |entry| self.absolute(entry));
        self.set_largest(largest);
        self.size = position;
        self.active = Some(Box::new(Active {
            file: Arc::downgrade(&file),
            created: now,
            jitter: Duration::ZERO,
            first_timestamp: None,
            last_indexed: largest.timestamp,
            bytes_since_entry: 0,
            reservation: Reservation::none(position, now),
        }));
        Ok(())
    }
}

/// Ignores a lack of space or of file descriptors for index entries: they stay in memory, and a checkpoint tries again.
/// Their batches are written, so the append has succeeded.
fn unless_lacking(written: Result<(), FileError>) -> Result<(), FileError> {
    match written {
        Err(error) if error.is_full() || error.is_lack_of_descriptors() => Ok(()),
        outcome => outcome,
    }
}

fn relative(offset: Offset, base: Offset) -> i32 {
    i32::try_from(offset.0 - base.0)
        .expect("a segment is rolled before its offsets outgrow its indexes")
}

#[cfg(test)]
mod tests {
    use super::Segment;
    use crate::files::disk::Disk;
    use crate::index_file::IndexFile;
    use crate::place::Place;

    #[test]
    fn a_closed_segment_keeps_72_bytes_in_memory_and_no_more_beside_them() {
        // docs/limits.md has this number. A broker may have millions of segments.
        assert_eq!(size_of::<Segment<Disk>>(), 72);
        let directory = tempfile::tempdir().unwrap();
        let place = Place {
            directory: crate::LogDirectory::new(Disk, directory.path()),
            path: directory.path().to_path_buf(),
            suffix: "",
        };
        let now = ottla_protocol::time::Timestamp(1);
        let base = ottla_protocol::ids::Offset(0);
        let mut segment = Segment::create(&place, base, now, std::time::Duration::ZERO).unwrap();
        segment.offset_index.push(crate::format::OffsetEntry {
            relative_offset: 1,
            position: 1,
        });
        segment.close(&place).unwrap();
        assert!(segment.active.is_none());
        assert_eq!(IndexFile::memory(&segment.offset_index), 0);
        assert_eq!(IndexFile::memory(&segment.time_index), 0);
    }
}
