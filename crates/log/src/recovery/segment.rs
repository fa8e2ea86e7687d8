//! Recovering one segment: which of its index entries to trust, what its batches say, and where it must end.

use super::OpenError;
use crate::batch::BatchError;
use crate::files::{File, FileError, Files};
use crate::format::{AbortedTransaction, FileKind, IndexEntry, OffsetEntry, TimeEntry};
use crate::index_file::{IndexFile, read_entries};
use crate::partition_log::PartitionLog;
use crate::scan::{Scan, ScanError};
use crate::segment::{Place, Segment};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::time::Timestamp;
use std::sync::Arc;

/// What was found in a segment.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The offset after its last sound batch.
    end: Offset,
    /// The position of that end.
    position: u64,
    /// Where and why it must be cut off, if it must.
    pub(super) cut: Option<Cut>,
}

/// A place to cut a segment, and the reason.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) position: u64,
    pub(super) cause: ScanError,
}

impl Scanned {
    /// A segment that ends before the next one begins has lost its last batches, when they were not on stable storage
    /// yet; what follows the gap must not be read as if nothing were missing. Gaps before `gaps_to`
    /// are compaction's.
    pub(super) fn compare_with_next(&mut self, next: Offset, gaps_to: Offset) {
        if self.cut.is_none() && self.end < next && self.end >= gaps_to {
            let cause = out_of_order(self.position, next, self.end);
            self.cut = Some(Cut {
                position: self.position,
                cause,
            });
        }
    }
}

impl<F: Files> PartitionLog<F> {
    /// Reads a segment from the recovery point on, and makes its indexes anew from there.
    pub(super) fn recover_segment(
        &mut self,
        base: Offset,
        recovery_point: Offset,
        now: Timestamp,
        mut read: impl FnMut(u64),
    ) -> Result<Scanned, OpenError> {
        let Self {
            segments,
            place,
            config,
            leader_epochs,
            with_aborted,
            ..
        } = self;
        let segment = segments
            .get_mut(&base)
            .expect("a segment that was just listed");
        let size = segment.size;
        let start = place
            .directory
            .judge(segment.trust_indexes(place, recovery_point))?;
        place
            .directory
            .judge(segment.begin_scan(place, start, now))?;
        if segment.aborted == 0 {
            with_aborted.remove(&base);
        }
        let file = place.directory.judge(segment.file(place))?;
        let mut scan = Scan::new(&*file, start, size);
        let mut end = base;
        let cause = loop {
            let located = match scan.next_batch() {
                Ok(Some((located, _))) => located,
                Ok(None) => break None,
                Err(ScanError::Disk(error)) => return Err(place.directory.failed(error).into()),
                Err(error) => break Some(error),
            };
            let header = located.header;
            let offset = header.base_offset();
            if offset < end || header.last_offset().0 - base.0 > i64::from(i32::MAX) {
                break Some(out_of_order(located.position, offset, end));
            }
            end = header.next_offset();
            leader_epochs.observe(LeaderEpoch(header.partition_leader_epoch), offset);
            segment.note(&located, u64::from(config.index_interval_bytes));
            read(located.size as u64);
        };
        let position = segment.size;
        place.directory.judge(segment.close(place))?;
        if let Some(cause) = &cause
            && place.directory.judge(is_legacy(cause, &*file, position))?
        {
            return Err(OpenError::Legacy {
                path: place.path_of(FileKind::Log, base),
                position,
            });
        }
        Ok(Scanned {
            end,
            position,
            cut: cause.map(|cause| Cut { position, cause }),
        })
    }
}

fn out_of_order(position: u64, found: Offset, expected: Offset) -> ScanError {
    let cause = BatchError::OutOfOrder {
        base_offset: found.0,
        expected: expected.0,
    };
    ScanError::Invalid { position, cause }
}

/// Whether a message of Kafka 0.10 or older lies at `position`, whole and with the right checksum. Zeros and torn
/// bytes, which may look like the head of one, are not.
fn is_legacy<H: File>(error: &ScanError, file: &H, position: u64) -> Result<bool, FileError> {
    const MAX_BYTES: usize = 64 << 20;
    if !matches!(error, ScanError::Invalid { cause, .. } if cause.is_legacy()) {
        return Ok(false);
    }
    let mut head = [0; 16];
    file.read_at(&mut head, position)?;
    let [.., l0, l1, l2, l3, c0, c1, c2, c3] = head;
    let length = usize::try_from(i32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(0);
    if !(5..=MAX_BYTES).contains(&length) {
        return Ok(false);
    }
    let mut content = vec![0; length - 4];
    let read = file.read_at(&mut content, position + head.len() as u64)?;
    let is_whole = read == content.len();
    Ok(is_whole && crc_fast::crc32_iso_hdlc(&content) == u32::from_be_bytes([c0, c1, c2, c3]))
}

impl<F: Files> Segment<F> {
    /// Keeps the index entries that are sound and name what lies before `recovery_point`; returns the position of the
    /// last batch they name, from which to read on.
    fn trust_indexes(
        &mut self,
        place: &Place<F>,
        recovery_point: Offset,
    ) -> Result<u64, FileError> {
        let limit = recovery_point.0.saturating_sub(self.base.0);
        let file = place.open(FileKind::OffsetIndex, self.base)?;
        let entries = read_entries::<OffsetEntry, _>(&*file, 0, self.offset_index.count())?;
        let mut before = OffsetEntry {
            relative_offset: -1,
            position: -1,
        };
        let sound = entries.iter().take_while(|entry| {
            let follows =
                entry.relative_offset > before.relative_offset && entry.position > before.position;
            before = **entry;
            follows && i64::from(entry.relative_offset) < limit
        });
        let last = (1..).zip(sound).last();
        let kept = last.filter(|(_, entry)| self.is_named_rightly(place, **entry));
        let (count, position) = kept.map_or((0, 0), |(count, entry)| (count, entry.position));
        self.offset_index
            .truncate(count, &|| Ok(Arc::clone(&file)))?;
        // From the segment's start on, all is made anew but for the aborted transactions: they are as durable as the
        // recovery point says, and only those that ended later are found again.
        self.trust_time_index(place, if count > 0 { limit } else { 0 })?;
        self.trust_transaction_index(place, limit)?;
        let position = u64::try_from(position).unwrap_or(0);
        Ok(position)
    }

    fn is_named_rightly(&self, place: &Place<F>, entry: OffsetEntry) -> bool {
        let position = u64::try_from(entry.position).unwrap_or(u64::MAX);
        let Ok(file) = self.file(place) else {
            return false;
        };
        let found = Scan::new(&*file, position, self.size).next_header();
        let named = self.base.plus(i64::from(entry.relative_offset));
        found.is_ok_and(|found| found.is_some_and(|located| located.header.last_offset() == named))
    }

    fn trust_time_index(&mut self, place: &Place<F>, limit: i64) -> Result<(), FileError> {
        let file = place.open(FileKind::TimeIndex, self.base)?;
        let entries = read_entries::<TimeEntry, _>(&*file, 0, self.time_index.count())?;
        let mut before = TimeEntry {
            timestamp: -1,
            relative_offset: -1,
        };
        let sound = entries.iter().take_while(|entry| {
            let follows = entry.timestamp > before.timestamp
                && entry.relative_offset >= before.relative_offset;
            before = **entry;
            follows && i64::from(entry.relative_offset) < limit
        });
        let count = u32::try_from(sound.count()).unwrap_or(u32::MAX);
        self.time_index = IndexFile::of_length(u64::from(count) * TimeEntry::SIZE as u64);
        self.time_index.truncate(count, &|| Ok(Arc::clone(&file)))
    }

    fn trust_transaction_index(&mut self, place: &Place<F>, limit: i64) -> Result<(), FileError> {
        if place
            .length(FileKind::TransactionIndex, self.base)?
            .is_none()
        {
            return Ok(());
        }
        let base = self.base.0;
        let entries = self.aborted_transactions(place)?;
        let sound = entries
            .iter()
            .take_while(|entry| (base..base.saturating_add(limit)).contains(&entry.last_offset.0));
        let count = sound.count();
        self.aborted = u32::try_from(count).unwrap_or(u32::MAX);
        let length = (count * AbortedTransaction::SIZE) as u64;
        place
            .open(FileKind::TransactionIndex, self.base)?
            .truncate(length)
    }
}
