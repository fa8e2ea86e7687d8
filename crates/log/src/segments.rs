//! The segments of one log, with their indexes of aborted transactions and the producer snapshots.
//!
//! [`crate::PartitionLog`] and recovery use it. It knows offsets and files, but neither the high watermark nor what is
//! on stable storage.

mod aborted;
mod known_damage;

use self::aborted::AbortedIndex;
use self::known_damage::KnownDamage;
use crate::damage::Damage;
use crate::directory::{LogDirectory, StorageError, unless_full};
use crate::files::{FileError, Files, copy};
use crate::format::FileKind;
use crate::look::Look;
use crate::place::Place;
use crate::position::LogPosition;
use crate::segment::{NewIndexes, Segment, Sought};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The segments of one log.
///
/// Invariants:
///
/// - The key of a segment is its base offset. Only an empty segment begins after `end`.
/// - The segment with the highest base offset is the active one. Only recovery sees a log without segments.
/// - Entries of a segment in `aborted`, `snapshots` and `damage` are removed with it.
#[derive(Debug)]
pub(crate) struct Segments<F: Files> {
    place: Place<F>,
    by_base: BTreeMap<Offset, Segment<F>>,
    /// The offset after the last batch.
    end: Offset,
    aborted: AbortedIndex,
    /// The offsets of the producer snapshots on disk.
    snapshots: BTreeSet<Offset>,
    damage: KnownDamage,
}

impl<F: Files> Segments<F> {
    /// No segments yet, in a partition with these producer snapshots.
    pub(crate) fn none(place: Place<F>, snapshots: BTreeSet<Offset>) -> Self {
        Self {
            place,
            by_base: BTreeMap::new(),
            end: Offset(0),
            aborted: AbortedIndex::default(),
            snapshots,
            damage: KnownDamage::default(),
        }
    }

    pub(crate) fn place(&self) -> &Place<F> {
        &self.place
    }

    pub(crate) fn directory(&self) -> &Arc<LogDirectory<F>> {
        &self.place.directory
    }

    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    pub(crate) fn set_end(&mut self, end: Offset) {
        self.end = end;
    }

    pub(crate) fn len(&self) -> usize {
        self.by_base.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.by_base.values().map(|segment| segment.size).sum()
    }

    pub(crate) fn get(&self, base: Offset) -> Option<&Segment<F>> {
        self.by_base.get(&base)
    }

    /// The segment at `base`, and the place of its files.
    pub(crate) fn get_mut(&mut self, base: Offset) -> Option<(&mut Segment<F>, &Place<F>)> {
        let segment = self.by_base.get_mut(&base)?;
        Some((segment, &self.place))
    }

    pub(crate) fn contains(&self, base: Offset) -> bool {
        self.by_base.contains_key(&base)
    }

    pub(crate) fn first_base(&self) -> Option<Offset> {
        self.by_base.first_key_value().map(|(base, _)| *base)
    }

    /// The base offsets, rising.
    pub(crate) fn bases(&self) -> impl DoubleEndedIterator<Item = Offset> {
        self.by_base.keys().copied()
    }

    /// The base offset of the first segment at `from` or later.
    pub(crate) fn next_base(&self, from: Offset) -> Option<Offset> {
        self.from(from).next().map(|segment| segment.base)
    }

    /// The segments, rising.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Segment<F>> {
        self.by_base.values()
    }

    /// The segments with base offsets of `base` or higher.
    pub(crate) fn from(&self, base: Offset) -> impl DoubleEndedIterator<Item = &Segment<F>> {
        self.by_base.range(base..).map(|(_, segment)| segment)
    }

    /// The base offset of the segment that holds `offset`; `offset` itself where it lies before the first segment.
    pub(crate) fn base_of(&self, offset: Offset) -> Offset {
        let holding = self.by_base.range(..=offset).next_back();
        holding.map_or(offset, |(base, _)| *base)
    }

    /// The base offset of the segment with the record before `offset`, which may have been closed since.
    pub(crate) fn base_before(&self, offset: Offset) -> Offset {
        let before = self.by_base.range(..offset).next_back();
        before.map_or(offset, |(base, _)| *base)
    }

    /// The offset below which all offsets of the segment at `base` are: the base of the next segment, or the end of the
    /// log.
    pub(crate) fn bound_of(&self, base: Offset) -> Offset {
        self.next_base(base.plus(1)).unwrap_or(self.end)
    }

    pub(crate) fn active(&self) -> &Segment<F> {
        let last = self.by_base.last_key_value();
        last.expect("a log always has an active segment").1
    }

    /// The segment with the highest base offset, and the place of its files.
    pub(crate) fn last_mut(&mut self) -> Option<(&mut Segment<F>, &Place<F>)> {
        let segment = self.by_base.last_entry()?.into_mut();
        Some((segment, &self.place))
    }

    /// As [`Segments::last_mut`], for a log in use.
    pub(crate) fn active_mut(&mut self) -> (&mut Segment<F>, &Place<F>) {
        self.last_mut().expect("a log always has an active segment")
    }

    /// The largest timestamp in the segment at `base`; -1 for none.
    pub(crate) fn largest_timestamp(&mut self, base: Offset) -> Result<Timestamp, StorageError> {
        let Some((segment, place)) = self.get_mut(base) else {
            return Ok(Timestamp::NONE);
        };
        let largest = place.directory.judge(segment.largest(place))?;
        Ok(largest.timestamp)
    }

    /// The end of the log and its position.
    pub(crate) fn end_position(&self) -> LogPosition {
        self.active().end_position(self.end)
    }

    /// The position of `offset`: the start of the first batch whose last offset is `offset` or higher, or of damage
    /// that may hold it.
    pub(crate) fn position_of(&self, offset: Offset) -> Result<LogPosition, StorageError> {
        if offset >= self.end {
            return Ok(self.end_position());
        }
        for segment in self.from(self.base_of(offset)) {
            let found = segment.find(
                &self.place,
                &Look::Waiting,
                offset,
                self.bound_of(segment.base),
            );
            let position = match self.place.directory.judge(found)? {
                Sought::Batch(located) => located.position,
                Sought::Damage(damage) => damage.position,
                Sought::Beyond => continue,
            };
            return Ok(LogPosition {
                offset,
                segment: segment.base,
                position,
            });
        }
        Ok(self.end_position())
    }
}

/// Creating and removing segments.
impl<F: Files> Segments<F> {
    /// Adds the segments that recovery found.
    pub(crate) fn load(&mut self, segments: Vec<Segment<F>>) {
        let with_aborted = segments.iter().filter(|segment| segment.aborted > 0);
        self.aborted.add(with_aborted.map(|segment| segment.base));
        let by_base = segments.into_iter().map(|segment| (segment.base, segment));
        self.by_base = by_base.collect();
    }

    /// Adds a segment whose files have their final names.
    pub(crate) fn insert(&mut self, segment: Segment<F>) {
        if segment.aborted > 0 {
            self.aborted.add([segment.base]);
        }
        self.by_base.insert(segment.base, segment);
    }

    /// Creates the files of the segment at `base`. Their names are not synced.
    pub(crate) fn create(
        &self,
        base: Offset,
        now: Timestamp,
        max_jitter: Duration,
    ) -> Result<Segment<F>, StorageError> {
        let jitter = jitter(max_jitter, &self.place.path, base);
        let created = Segment::create(&self.place, base, now, jitter);
        self.place.directory.judge(created)
    }

    /// Closes the active segment, and makes `segment` the active one.
    pub(crate) fn push(&mut self, segment: Segment<F>) -> Result<(), StorageError> {
        let (active, place) = self.active_mut();
        let closed = active.close(place);
        place.directory.judge(closed)?;
        self.by_base.insert(segment.base, segment);
        self.pack();
        Ok(())
    }

    /// Opens the last segment, if there is any, for appending.
    pub(crate) fn activate_last(
        &mut self,
        now: Timestamp,
        max_jitter: Duration,
    ) -> Result<(), StorageError> {
        let Some((last, place)) = self.last_mut() else {
            return Ok(());
        };
        let jitter = jitter(max_jitter, &place.path, last.base);
        let activated = last.activate(place, now, jitter);
        place.directory.judge(activated)
    }

    /// Rebuilds the map: its nodes are half empty if it has only grown at its end.
    fn pack(&mut self) {
        let count = self.by_base.len();
        if count.is_multiple_of(count.next_power_of_two() / 4) {
            self.by_base = std::mem::take(&mut self.by_base).into_iter().collect();
        }
    }

    /// Removes all segments and creates an empty one at `offset`.
    pub(crate) fn restart_at(
        &mut self,
        offset: Offset,
        now: Timestamp,
        max_jitter: Duration,
    ) -> Result<(), StorageError> {
        let bases: Vec<Offset> = self.bases().collect();
        for base in bases.into_iter().chain(self.snapshots.clone()) {
            self.remove(base)?;
        }
        let segment = self.create(offset, now, max_jitter)?;
        self.insert(segment);
        self.end = offset;
        Ok(())
    }

    /// Removes the segment at `base` and all its files. The `.log` file is removed first. After a crash in between, the
    /// next start removes the rest; if batches came back without their index of aborted transactions, readers would see
    /// aborted records.
    pub(crate) fn remove(&mut self, base: Offset) -> Result<(), StorageError> {
        self.by_base.remove(&base);
        self.aborted.forget(base);
        self.snapshots.remove(&base);
        self.damage.forget(base);
        for kind in FileKind::ALL {
            self.remove_file(kind, base)?;
        }
        Ok(())
    }

    fn remove_file(&self, kind: FileKind, offset: Offset) -> Result<(), StorageError> {
        let path = self.place.path_of(kind, offset);
        let directory = &self.place.directory;
        directory.forget(&path);
        match directory.files().remove(&path) {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => directory.judge(outcome),
        }
    }
}

/// Indexes and snapshots.
impl<F: Files> Segments<F> {
    /// Writes the index entries that are only in memory, of the segments from `base` on.
    pub(crate) fn write_indexes_since(&mut self, base: Offset) -> Result<(), StorageError> {
        let Self { by_base, place, .. } = self;
        let mut segments = by_base.range_mut(base..);
        let written = segments.try_for_each(|(_, segment)| segment.write_indexes(place));
        place.directory.judge(written)?;
        self.write_detached_indexes_since(base)?;
        self.write_waiting_aborted()
    }

    /// Writes detached indexes to files, which syncs. They exist only after a start on a full disk or with wrong
    /// indexes.
    fn write_detached_indexes_since(&mut self, base: Offset) -> Result<(), StorageError> {
        let Self { by_base, place, .. } = self;
        for segment in by_base.range_mut(base..).map(|(_, segment)| segment) {
            if segment.has_detached_indexes() {
                let mut new = NewIndexes::default();
                place
                    .directory
                    .judge(segment.write_aside(place, &mut new))?;
                new.put_in_place(place)?;
                segment.attach_indexes();
            }
        }
        Ok(())
    }

    /// The files of the segments from `base` on that recovery would have to rebuild. Detached indexes have no file.
    pub(crate) fn index_files_since(&self, base: Offset) -> Vec<(FileKind, Offset)> {
        let mut files = Vec::new();
        for segment in self.from(base) {
            if !segment.has_detached_indexes() {
                files.push((FileKind::OffsetIndex, segment.base));
                files.push((FileKind::TimeIndex, segment.base));
            }
            if segment.aborted > 0 {
                files.push((FileKind::TransactionIndex, segment.base));
            }
        }
        let snapshots = self.snapshots.range(base..);
        files.extend(snapshots.map(|offset| (FileKind::ProducerSnapshot, *offset)));
        files
    }

    pub(crate) fn open_all(
        &self,
        files: &[(FileKind, Offset)],
    ) -> Result<Vec<Arc<F::File>>, FileError> {
        let files = files.iter();
        files
            .map(|(kind, base)| self.place.open(*kind, *base))
            .collect()
    }

    /// Writes the batches from `offset` on, in the segments from `base` on, once more, so that the next sync writes
    /// them to disk.
    ///
    /// After a failed sync the kernel counts what it could not write as written: assumption 2 of `docs/formats.md`.
    /// Only a new write reaches the disk.
    pub(crate) fn rewrite_tail(&self, base: Offset, offset: Offset) -> Result<(), StorageError> {
        let directory = &self.place.directory;
        for segment in self.from(base) {
            let (start, _) = directory.judge(segment.start_before(&self.place, offset))?;
            let file = directory.judge(segment.file(&self.place))?;
            let written = copy(&*file, start..segment.size, &*file, start);
            unless_full(directory.judge(written))?;
        }
        Ok(())
    }

    /// The offsets of the producer snapshots on disk.
    pub(crate) fn snapshots(&self) -> &BTreeSet<Offset> {
        &self.snapshots
    }

    pub(crate) fn add_snapshot(&mut self, offset: Offset) {
        self.snapshots.insert(offset);
    }

    pub(crate) fn remove_snapshot(&mut self, offset: Offset) -> Result<(), StorageError> {
        self.snapshots.remove(&offset);
        self.remove_file(FileKind::ProducerSnapshot, offset)
    }

    /// Removes the snapshots that do not begin a segment, except the newest two.
    pub(crate) fn remove_surplus_snapshots(&mut self) -> Result<(), StorageError> {
        let newest_first = self.snapshots.iter().rev();
        let within = newest_first.filter(|offset| !self.contains(**offset));
        let surplus: Vec<Offset> = within.skip(2).copied().collect();
        surplus
            .into_iter()
            .try_for_each(|offset| self.remove_snapshot(offset))
    }
}

/// Damage.
impl<F: Files> Segments<F> {
    pub(crate) fn damage(&self) -> &KnownDamage {
        &self.damage
    }

    /// Records damage, if its segment is still there.
    pub(crate) fn note_damage(&mut self, damage: Damage) {
        if self.contains(damage.segment) {
            self.damage.note(damage);
        }
    }

    /// Drops the damage of the segment at `base`.
    pub(crate) fn forget_damage(&mut self, base: Offset) {
        self.damage.forget(base);
    }

    /// Drops damage and aborted transactions after the end of a truncated log.
    pub(crate) fn forget_beyond_end(&mut self) {
        self.damage.cut_to(self.end);
        self.cut_aborted();
    }
}

/// A duration below `limit` that is always the same for one segment and differs between segments.
fn jitter(limit: Duration, place: &Path, base: Offset) -> Duration {
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let mut hash = 0xCBF2_9CE4_8422_2325u64;
    for byte in place
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .chain(&base.0.to_be_bytes())
    {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    }
    Duration::from_millis(hash.checked_rem(limit).unwrap_or(0))
}
