//! Finds batches in a segment: by offset, by timestamp, the last one.
//!
//! Headers are read from the nearest index entry on. Checksums are not verified, because the reader does that. If an
//! index entry is wrong or a header is not plausible, the segment is walked with checksums instead. So the index is
//! only a hint, and batches before and after damage are found.

use super::Segment;
use super::largest_timestamp::TimestampOffset;
use crate::damage::{Damage, Met, Salvage, Survey, UNBOUNDED};
use crate::files::{FileError, Files};
use crate::format::{FileKind, OffsetEntry, TimeEntry};
use crate::look::Look;
use crate::place::Place;
use crate::scan::{Located, Scan, ScanError};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::ops::Range;

/// The outcome of a search in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sought {
    Batch(Located),
    /// Damage, which may hold the batch.
    Damage(Damage),
    /// The batch is not in this segment.
    Beyond,
}

/// The end of a segment's batches, and the damage between its last index entry and there.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) next: Offset,
    pub(crate) damage: Vec<Damage>,
}

impl<F: Files> Segment<F> {
    /// The first batch whose last offset is `offset` or higher; all offsets of the segment are below `bound`. A look that
    /// does not wait for the disk waits all the same where a head or the index is damaged.
    pub(crate) fn find(
        &self,
        place: &Place<F>,
        look: &Look<F::File>,
        offset: Offset,
        bound: Offset,
    ) -> Result<Sought, FileError> {
        match self.find_by_heads(place, look, offset) {
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
        look: &Look<F::File>,
        offset: Offset,
    ) -> Result<Option<Located>, ScanError> {
        let entry = self.entry_before(place, look, offset)?;
        let start = entry.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0));
        let file = look.at(self.file(place)?);
        let mut scan = Scan::new(&file, start, self.size);
        // An index entry has the last offset of its batch.
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
            // A gap may be compaction's, or the sign of a wrong base offset, which the checksum does not cover. The
            // last offset may be wrong too.
            if !is_plain
                && let Some(behind) = scan.next_header()?
                && behind.header.base_offset() < next
            {
                return Err(ScanError::out_of_order(located.position, base, offset));
            }
            return Ok(Some(located));
        }
        if start > 0 && next == self.base {
            // There must be a batch at the position of an index entry.
            return Err(ScanError::out_of_order(start, self.base, offset));
        }
        Ok(None)
    }

    /// The same search with checksums, passing over damage.
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

    /// The position, from the index, of a batch at or before the one with `offset`.
    pub(crate) fn position_before(
        &self,
        place: &Place<F>,
        offset: Offset,
    ) -> Result<u64, FileError> {
        let entry = self.entry_before(place, &Look::Waiting, offset)?;
        Ok(entry.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0)))
    }

    fn entry_before(
        &self,
        place: &Place<F>,
        look: &Look<F::File>,
        offset: Offset,
    ) -> Result<Option<OffsetEntry>, FileError> {
        let source = || Ok(look.at(place.open(FileKind::OffsetIndex, self.base)?));
        let target = offset.0.saturating_sub(self.base.0);
        self.offset_index
            .last_where(&source, |entry| i64::from(entry.relative_offset) <= target)
    }

    /// The same, and the lowest base offset that the batch there may have. Wrong index entries are passed over.
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

    /// The end of the last batch, and the damage after the last index entry.
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

    /// The first batch with a timestamp of `timestamp` or later whose last offset is in `offsets`, or damage before it.
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
        // All batches up to the entry are earlier, except perhaps the entry's own.
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
                // The time index says that nothing before this offset is late enough, so damage there is not either.
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
