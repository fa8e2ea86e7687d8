//! The largest timestamp of a segment and its offset. It is known for the active segment, and searched on demand for a
//! loaded one.

use super::Segment;
use crate::damage::{Met, Survey, UNBOUNDED};
use crate::files::{FileError, Files};
use crate::format::FileKind;
use crate::place::Place;
use ottla_protocol::ids::Offset;
use ottla_protocol::records::BatchHeader;
use ottla_protocol::time::Timestamp;
use std::num::NonZeroU32;

/// A timestamp and the last offset of the batch that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampOffset {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: Offset,
}

/// A segment's largest timestamp, if it is known. Small, because every segment has one.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
pub(super) struct Largest {
    timestamp: Timestamp,
    /// Its offset relative to the segment's base, plus one; `None` while it is unknown.
    behind_base: Option<NonZeroU32>,
}

impl Largest {
    pub(super) const UNKNOWN: Self = Self {
        timestamp: Timestamp::NONE,
        behind_base: None,
    };
}

impl<F: Files> Segment<F> {
    pub(super) fn known_largest(&self) -> Option<TimestampOffset> {
        let behind_base = self.largest.behind_base?;
        Some(TimestampOffset {
            timestamp: self.largest.timestamp,
            offset: self.base.plus(i64::from(behind_base.get() - 1)),
        })
    }

    pub(super) fn set_largest(&mut self, largest: TimestampOffset) {
        let behind_base = u32::try_from(largest.offset.0 - self.base.0);
        let behind_base = behind_base.ok().and_then(|behind| behind.checked_add(1));
        self.largest = Largest {
            timestamp: largest.timestamp,
            // An offset that does not fit, in a damaged segment, is searched each time.
            behind_base: behind_base.and_then(NonZeroU32::new),
        };
    }

    /// The largest timestamp and the last offset of its batch; -1 if there is none. Damaged batches do not count.
    pub(crate) fn largest(&mut self, place: &Place<F>) -> Result<TimestampOffset, FileError> {
        if let Some(largest) = self.known_largest() {
            return Ok(largest);
        }
        let largest = self.find_largest(place)?;
        self.set_largest(largest);
        Ok(largest)
    }

    pub(super) fn find_largest(&self, place: &Place<F>) -> Result<TimestampOffset, FileError> {
        let last = self
            .time_index
            .last(&|| place.open(FileKind::TimeIndex, self.base))?;
        let mut largest = last.map_or_else(|| self.nothing(), |entry| self.absolute(entry));
        // With each entry of the offset index, the time index got the largest timestamp up to that batch.
        let (start, next) = self.start_before(place, UNBOUNDED)?;
        let file = self.file(place)?;
        let mut survey = Survey::new(&*file, self.base, start..self.size, next..UNBOUNDED);
        while let Some(met) = survey.advance()? {
            let Met::Batch(located) = met else { continue };
            let timestamp = largest_timestamp(&located.header);
            if timestamp > largest.timestamp {
                largest = TimestampOffset {
                    timestamp,
                    offset: located.header.last_offset(),
                };
            }
        }
        Ok(largest)
    }
}

/// The largest timestamp of a batch's records. None for a batch that compaction left without records: its header still
/// has the old timestamp, but no record has it.
pub(super) fn largest_timestamp(header: &BatchHeader) -> Timestamp {
    if header.record_count == 0 {
        Timestamp::NONE
    } else {
        Timestamp(header.max_timestamp)
    }
}
