//! Loads the producer state when a log is opened or truncated: from the newest sound snapshot and the batches after it.

use crate::batch::Batch;
use crate::damage::{Met, Survey};
use crate::directory::StorageError;
use crate::files::{File, FileError, Files, read_whole};
use crate::format::{AbortedTransaction, FileKind};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::producer_snapshot;
use crate::producer_state::{Origin, ProducerState};
use crate::scan::{Located, Scan, ScanError};
use crate::segments::Segments;
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BATCH_OVERHEAD, BatchView};
use ottla_protocol::time::Timestamp;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Upper bound of a snapshot's size; it has 46 bytes for each producer.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// How far before a snapshot batches are looked for that a producer may send again, in records.
const RECALLED_RECORDS: i64 = 10_000;
/// The same in bytes. Only the headers of batches are read.
const RECALLED_BYTES: u64 = 8 << 20;
/// A log that was not written for longer has no batch that is sent again: `delivery.timeout.ms` of clients is two minutes by
/// default. The rest is for clocks that are moved. The timestamps of records say nothing: clients choose them.
const RECALLED_FOR: Duration = Duration::from_hours(1);

/// Removes snapshots outside of the log, and those that neither begin a segment nor are among the newest.
pub(super) fn drop_snapshots<F: Files>(
    segments: &mut Segments<F>,
    log_start: Offset,
) -> Result<(), StorageError> {
    let end = segments.end();
    let is_outside = |offset: &Offset| *offset > end || *offset <= log_start;
    let snapshots = segments.snapshots().iter().copied();
    for offset in snapshots.filter(is_outside).collect::<Vec<_>>() {
        segments.remove_snapshot(offset)?;
    }
    segments.remove_surplus_snapshots()
}

/// Where the producer state is loaded from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadProducers {
    pub(crate) log_start: Offset,
    /// Snapshots after this offset are not trusted. Transactions aborted after it are added to the index again.
    pub(crate) recovery_point: Offset,
    /// Producers that were idle for this long are dropped.
    pub(crate) expiration: Duration,
    pub(crate) now: Timestamp,
}

impl LoadProducers {
    /// Loads the state at the end of `segments` into `producers`.
    pub(crate) fn load<F: Files>(
        &self,
        segments: &mut Segments<F>,
        producers: &mut ProducerState,
    ) -> Result<(), StorageError> {
        *producers = self.newest_snapshot(segments)?;
        let from = producers.end();
        self.recall(segments, producers)?;
        let first = segments.base_of(from);
        let bases = segments.bases().filter(|base| *base >= first);
        for base in bases.collect::<Vec<_>>() {
            let segment = segments.get(base).expect("a segment that was just listed");
            let place = segments.place();
            let directory = Arc::clone(segments.directory());
            let (start, next) = directory.judge(segment.start_before(place, from))?;
            let file = directory.judge(segment.file(place))?;
            let positions = start..segment.size;
            let mut survey = Survey::new(&*file, base, positions, next..segments.bound_of(base));
            while let Some(met) = directory.judge(survey.advance())? {
                let located = match met {
                    Met::Batch(located) => located,
                    Met::Damage(damage) => {
                        segments.note_damage(damage);
                        continue;
                    }
                };
                // The log may start in the middle of a batch.
                let is_later = located.header.next_offset() > from;
                if !is_later || !located.header.has_producer_id() {
                    continue;
                }
                let control = directory.judge(control_batch(&located, &*file))?;
                let aborted = replay(producers, base, &located, &control);
                let is_unindexed =
                    |entry: &AbortedTransaction| entry.last_offset >= self.recovery_point;
                let entries: Vec<_> = aborted.into_iter().filter(is_unindexed).collect();
                segments.keep_aborted(base, &entries)?;
            }
        }
        producers.advance_to(segments.end());
        if is_planted(Bug::ProducersForgotten) {
            *producers = ProducerState::empty(segments.end());
        }
        Ok(())
    }

    /// Adds the batches before the snapshot that a producer may still send again. A snapshot has the last one of each
    /// producer only, but a producer has up to five in flight: without the others, a retry would be out of order.
    fn recall<F: Files>(
        &self,
        segments: &Segments<F>,
        producers: &mut ProducerState,
    ) -> Result<(), StorageError> {
        let end = producers.end();
        let is_needed = end > self.log_start && !producers.producers().is_empty();
        if !is_needed || !self.was_written_lately(segments)? {
            return Ok(());
        }
        let mut records = RECALLED_RECORDS;
        let parts = loop {
            let from = end.plus(-records).max(self.log_start);
            let (parts, bytes) = parts_of(segments, from..end)?;
            if bytes <= RECALLED_BYTES {
                break parts;
            }
            records /= 8;
            if records == 0 {
                return Ok(());
            }
        };
        let directory = segments.directory();
        for (base, position) in parts {
            let segment = segments.get(base).expect("a segment that was just listed");
            let file = directory.judge(segment.file(segments.place()))?;
            let mut scan = Scan::new(&*file, position, segment.size);
            loop {
                match scan.next_header() {
                    Ok(Some(located)) if located.header.next_offset() <= end => {
                        producers.recall(&located.header);
                    }
                    Err(ScanError::Disk(error)) => return directory.judge(Err(error)),
                    // Damage is found by those that read the records.
                    Ok(_) | Err(ScanError::Invalid { .. }) => break,
                }
            }
        }
        Ok(())
    }

    fn was_written_lately<F: Files>(&self, segments: &Segments<F>) -> Result<bool, StorageError> {
        let Some(last) = segments.bases().next_back() else {
            return Ok(false);
        };
        let path = segments.place().path_of(FileKind::Log, last);
        let directory = segments.directory();
        let status = directory.judge(directory.files().status(&path))?;
        Ok(status.is_some_and(|status| {
            let idle = self.now.0.saturating_sub(status.modified_ms);
            u128::try_from(idle).unwrap_or(0) < RECALLED_FOR.as_millis()
        }))
    }

    fn newest_snapshot<F: Files>(
        &self,
        segments: &mut Segments<F>,
    ) -> Result<ProducerState, StorageError> {
        let limit = self.recovery_point.min(segments.end());
        let usable = segments.snapshots().range(..=limit).rev();
        for offset in usable.copied().collect::<Vec<_>>() {
            let path = segments.place().path_of(FileKind::ProducerSnapshot, offset);
            let directory = segments.directory();
            let content = read_whole(directory.files(), &path, MAX_SNAPSHOT_BYTES);
            let content = directory.judge(content)?.unwrap_or_default();
            if let Some(producers) = producer_snapshot::decode(&content) {
                let mut state = ProducerState::from_snapshot(producers, offset);
                state.expire(self.now, self.expiration);
                return Ok(state);
            }
            segments.remove_snapshot(offset)?;
        }
        Ok(ProducerState::empty(self.log_start))
    }
}

/// The segments with the offsets of `range`, with the position in each from which to read; and how many bytes these are.
fn parts_of<F: Files>(
    segments: &Segments<F>,
    range: Range<Offset>,
) -> Result<(Vec<(Offset, u64)>, u64), StorageError> {
    let first = segments.base_of(range.start);
    let bases = segments
        .bases()
        .filter(|base| (first..range.end).contains(base));
    let (mut parts, mut bytes) = (Vec::new(), 0);
    for base in bases {
        let segment = segments.get(base).expect("a segment that was just listed");
        let position = |offset| {
            let found = segment.start_before(segments.place(), offset);
            segments.directory().judge(found)
        };
        let (start, _) = position(range.start)?;
        let (end, _) = position(range.end)?;
        bytes += end.saturating_sub(start);
        parts.push((base, start));
    }
    Ok((parts, bytes))
}

/// The bytes of a control batch; empty for a batch of data, whose header is enough.
fn control_batch<H: File>(located: &Located, file: &H) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    if located.header.is_control() {
        bytes.resize(located.size, 0);
        file.read_at(&mut bytes, located.position)?;
    }
    Ok(bytes)
}

/// Applies a batch of the segment at `base`; returns the transactions that it aborted.
fn replay(
    producers: &mut ProducerState,
    base: Offset,
    located: &Located,
    control: &[u8],
) -> Vec<AbortedTransaction> {
    let header = located.header;
    let body = BatchView::first(control).map_or(&[] as &[u8], |batch| batch.body());
    debug_assert!(
        body.is_empty() || body.len() == located.size - BATCH_OVERHEAD,
        "a batch is read whole"
    );
    let position = LogPosition {
        offset: header.base_offset(),
        segment: base,
        position: located.position,
    };
    let mut staged = producers.stage();
    let added = staged.add(&Batch { header, body }, Some(position), Origin::Replication);
    let changes = staged.finish();
    if added.is_err() {
        // The leader accepted this batch, so it stays in the log. Only its effect on transactions is unknown.
        return Vec::new();
    }
    producers.apply(changes, header.next_offset())
}
