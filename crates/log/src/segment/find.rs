//! Finding batches in a segment: by offset, by time, the last one.
//!
//! Heads are read from the nearest index entry on; checksums are not compared, for that is the reader's business. Where
//! an entry lies or a head makes no sense, batches are compared one by one: the index is a hint, never the truth, and
//! what is found before or behind damage is found all the same.

use super::Segment;
use super::largest_timestamp::TimestampOffset;
use crate::damage::{Damage, Met, Salvage, Survey, UNBOUNDED};
use crate::files::{FileError, Files};
use crate::format::{FileKind, OffsetEntry, TimeEntry};
use crate::place::Place;
use crate::scan::{Located, Scan, ScanError};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::ops::Range;

/// What is found where something is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sought {
    Batch(Located),
    /// Damage that may hold it.
    Damage(Damage),
    /// It is not in this segment.
    Beyond,
}

/// The end of a segment's batches, and the damage met on the way from its last index entry.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) next: Offset,
    pub(crate) damage: Vec<Damage>,
}

impl<F: Files> Segment<F> {
    /// The first batch whose last offset is `offset` or higher; all offsets of the segment are below `bound`.
    pub(crate) fn find(
        &self,
        place: &Place<F>,
        offset: Offset,
        bound: Offset,
    ) -> Result<Sought, FileError> {
        match self.find_by_heads(place, offset) {
            Ok(Some(located)) if located.header.last_offset() < bound => Ok(Sought::Batch(located)),
            Ok(None) => Ok(Sought::Beyond),
            Err(ScanError::Disk(error)) => Err(error),
            Ok(Some(_)) | Err(ScanError::Invalid { .. }) => {
                self.find_by_checksums(place, offset, bound)
            }
        }
    }

    fn find_by_heads(
        &self,
        place: &Place<F>,
        offset: Offset,
    ) -> Result<Option<Located>, ScanError> {
        let entry = self.entry_before(place, offset)?;
        let start = entry.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0));
        let file = self.file(place)?;
        let mut scan = Scan::new(&*file, start, self.size);
        // An index entry names a batch by its last offset.
        let named = entry.map(|entry| self.base.plus(i64::from(entry.relative_offset)));
        let mut highest = named.unwrap_or(UNBOUNDED);
        let mut next = self.base;
        while let Some(located) = scan.next_header()? {
            let header = &located.header;
            let base = header.base_offset();
            if base < next || base > highest {
                return Err(ScanError::out_of_order(located.position, base, next));
            }
            let is_plain = base == offset && (base == next || located.position == start);
            (next, highest) = (header.next_offset(), UNBOUNDED);
            if header.last_offset() < offset {
                continue;
            }
            // Compaction leaves gaps; so does a wrong offset, which no checksum covers. A last offset may be wrong too.
            if !is_plain
                && let Some(behind) = scan.next_header()?
                && behind.header.base_offset() < next
            {
                return Err(ScanError::out_of_order(located.position, base, offset));
            }
            return Ok(Some(located));
        }
        if start > 0 && next == self.base {
            // An index entry names a batch.
            return Err(ScanError::out_of_order(start, self.base, offset));
        }
        Ok(None)
    }

    /// The same, passing over all that is damaged.
    pub(crate) fn find_by_checksums(
        &self,
        place: &Place<F>,
        offset: Offset,
        bound: Offset,
    ) -> Result<Sought, FileError> {
        let (start, next) = self.start_before(place, offset)?;
        let file = self.file(place)?;
        let mut salvage = Salvage::new(&*file, self.base, start..self.size, next..bound);
        while let Some(met) = salvage.advance()? {
            match met {
                Met::Batch(located) if located.header.last_offset() >= offset => {
                    return Ok(Sought::Batch(located));
                }
                Met::Damage(damage) if damage.next_offset > offset => {
                    return Ok(Sought::Damage(damage));
                }
                Met::Batch(_) | Met::Damage(_) => {}
            }
        }
        Ok(Sought::Beyond)
    }

    /// A position where a batch begins that is not behind the one with `offset`, as the index says.
    pub(crate) fn position_before(
        &self,
        place: &Place<F>,
        offset: Offset,
    ) -> Result<u64, FileError> {
        let entry = self.entry_before(place, offset)?;
        Ok(entry.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0)))
    }

    fn entry_before(
        &self,
        place: &Place<F>,
        offset: Offset,
    ) -> Result<Option<OffsetEntry>, FileError> {
        let source = || place.open(FileKind::OffsetIndex, self.base);
        let target = offset.0.saturating_sub(self.base.0);
        self.offset_index
            .last_where(&source, |entry| i64::from(entry.relative_offset) <= target)
    }

    /// The same, and the lowest offset that a batch there may begin with; entries that lie are passed over.
    pub(crate) fn start_before(
        &self,
        place: &Place<F>,
        offset: Offset,
    ) -> Result<(u64, Offset), FileError> {
        let source = || place.open(FileKind::OffsetIndex, self.base);
        let target = offset.0.saturating_sub(self.base.0);
        let mut count = self
            .offset_index
            .partition_point(&source, |entry| i64::from(entry.relative_offset) <= target)?;
        let mut step = 1;
        let file = self.file(place)?;
        while let Some(index) = count.checked_sub(1) {
            let entry = self.offset_index.entry(index, &source)?;
            let entry = entry.filter(|entry| i64::from(entry.relative_offset) <= target);
            if let Some(entry) = entry
                && let Ok(position) = u64::try_from(entry.position)
            {
                let named = self.base.plus(i64::from(entry.relative_offset));
                match Scan::new(&*file, position, self.size).next_header() {
                    Ok(Some(located)) if located.header.base_offset() <= named => {
                        return Ok((position, located.header.base_offset().max(self.base)));
                    }
                    Err(ScanError::Disk(error)) => return Err(error),
                    Ok(_) | Err(ScanError::Invalid { .. }) => {}
                }
            }
            count = count.saturating_sub(step);
            step = step.saturating_mul(2);
        }
        Ok((0, self.base))
    }

    /// The offset behind the last batch, and the damage since the last index entry.
    pub(crate) fn end(&self, place: &Place<F>) -> Result<End, FileError> {
        let (start, next) = self.start_before(place, UNBOUNDED)?;
        let file = self.file(place)?;
        let mut survey = Survey::new(&*file, self.base, start..self.size, next..UNBOUNDED);
        let mut end = End {
            next: self.base,
            damage: Vec::new(),
        };
        while let Some(met) = survey.advance()? {
            match met {
                Met::Batch(located) => end.next = located.header.next_offset(),
                Met::Damage(damage) => end.damage.push(damage),
            }
        }
        Ok(end)
    }

    /// The first batch with a timestamp of `timestamp` or later that ends in `offsets`, or the damage before it.
    pub(crate) fn find_time(
        &self,
        place: &Place<F>,
        timestamp: Timestamp,
        offsets: Range<Offset>,
    ) -> Result<Sought, FileError> {
        let Range {
            start: from,
            end: bound,
        } = offsets;
        let source = || place.open(FileKind::TimeIndex, self.base);
        let entry = self
            .time_index
            .last_where(&source, |entry| entry.timestamp <= timestamp.0)?;
        let after = entry.map_or(self.base, |entry| self.absolute(entry).offset);
        let (start, next) = self.start_before(place, after.max(from))?;
        // Nothing up to the entry is as late, unless it is itself.
        let is_earlier = entry.is_some_and(|entry| entry.timestamp < timestamp.0);
        let possible = if is_earlier { after.plus(1) } else { after }.max(from);
        let file = self.file(place)?;
        let mut survey = Survey::new(&*file, self.base, start..self.size, next..bound);
        while let Some(met) = survey.advance()? {
            match met {
                Met::Batch(located)
                    if located.header.max_timestamp >= timestamp.0
                        && located.header.last_offset() >= from =>
                {
                    return Ok(Sought::Batch(located));
                }
                // Where the time index says that nothing before an offset is as late, no damage before it is either.
                Met::Damage(damage)
                    if damage.first_offset < damage.next_offset
                        && damage.next_offset > possible =>
                {
                    return Ok(Sought::Damage(damage));
                }
                Met::Batch(_) | Met::Damage(_) => {}
            }
        }
        Ok(Sought::Beyond)
    }

    pub(super) fn absolute(&self, entry: TimeEntry) -> TimestampOffset {
        let offset = self.base.plus(i64::from(entry.relative_offset));
        TimestampOffset {
            timestamp: Timestamp(entry.timestamp),
            offset,
        }
    }
}
