//! The producers' state when a log is opened or cut: from the newest sound snapshot, and the batches since.

use crate::batch::Batch;
use crate::damage::{Met, Survey};
use crate::directory::StorageError;
use crate::files::{File, Files, read_whole};
use crate::format::{AbortedTransaction, FileKind, decode_producer_snapshot};
use crate::partition_log::PartitionLog;
use crate::position::LogPosition;
use crate::producer_state::{Origin, ProducerState};
use crate::scan::Located;
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BATCH_OVERHEAD, BatchView};
use ottla_protocol::time::Timestamp;
use std::sync::Arc;

/// A snapshot holds 46 bytes a producer; more than this is no snapshot.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// Drops the snapshots that are of no use: outside of the log, or neither of a segment nor among the newest.
pub(super) fn drop_snapshots<F: Files>(log: &mut PartitionLog<F>) -> Result<(), StorageError> {
    let is_outside = |offset: &&Offset| **offset > log.next || **offset <= log.log_start;
    let outside: Vec<Offset> = log.snapshots.iter().filter(is_outside).copied().collect();
    outside
        .into_iter()
        .try_for_each(|offset| log.remove_snapshot(offset))?;
    let surplus = log.surplus_snapshots();
    surplus
        .into_iter()
        .try_for_each(|offset| log.remove_snapshot(offset))
}

/// Loads the producers' state at the end of the log.
pub(crate) fn load_producers<F: Files>(
    log: &mut PartitionLog<F>,
    now: Timestamp,
) -> Result<(), StorageError> {
    load(log, Offset(i64::MAX), now)
}

/// Loads the producers' state at the end of the log, from a snapshot no later than `recovery_point`; the aborted
/// transactions that ended after that point are indexed on the way.
pub(super) fn load<F: Files>(
    log: &mut PartitionLog<F>,
    recovery_point: Offset,
    now: Timestamp,
) -> Result<(), StorageError> {
    log.producers = newest_snapshot(log, recovery_point, now)?;
    let from = log.producers.end();
    let floor = log
        .segments
        .range(..=from)
        .next_back()
        .map_or(from, |(base, _)| *base);
    let bases: Vec<Offset> = log.segments.range(floor..).map(|(base, _)| *base).collect();
    for base in bases {
        let segment = log
            .segments
            .get(&base)
            .expect("a segment that was just listed");
        let directory = Arc::clone(&log.place.directory);
        let (start, next) = directory.judge(segment.start_before(&log.place, from))?;
        let file = directory.judge(segment.file(&log.place))?;
        let places = (start, segment.size);
        let mut survey = Survey::new(&*file, base, places, (next, log.bound_of(base)));
        while let Some(met) = directory.judge(survey.advance())? {
            let located = match met {
                Met::Batch(located) => located,
                Met::Damage(damage) => {
                    log.note_damage(damage);
                    continue;
                }
            };
            // The log may start in the middle of a batch.
            if located.header.next_offset() > from && located.header.has_producer_id() {
                replay(log, base, (&located, &file), recovery_point)?;
            }
        }
    }
    log.producers.advance_to(log.next);
    log.first_unstable = None;
    Ok(())
}

fn newest_snapshot<F: Files>(
    log: &mut PartitionLog<F>,
    limit: Offset,
    now: Timestamp,
) -> Result<ProducerState, StorageError> {
    let usable: Vec<Offset> = log
        .snapshots
        .range(..=limit.min(log.next))
        .rev()
        .copied()
        .collect();
    for offset in usable {
        let path = log.place.path_of(FileKind::ProducerSnapshot, offset);
        let content = read_whole(log.place.directory.files(), &path, MAX_SNAPSHOT_BYTES);
        let content = log.place.directory.judge(content)?.unwrap_or_default();
        if let Some(producers) = decode_producer_snapshot(&content) {
            let mut state = ProducerState::from_snapshot(producers, offset);
            state.expire(now, log.config.producer_id_expiration);
            return Ok(state);
        }
        log.remove_snapshot(offset)?;
    }
    Ok(ProducerState::empty(log.log_start))
}

fn replay<F: Files>(
    log: &mut PartitionLog<F>,
    segment: Offset,
    (located, file): (&Located, &Arc<F::File>),
    recovery_point: Offset,
) -> Result<(), StorageError> {
    let header = located.header;
    let mut bytes = Vec::new();
    if header.is_control() {
        bytes.resize(located.size, 0);
        log.place
            .directory
            .judge(file.read_at(&mut bytes, located.position))?;
    }
    let body = BatchView::first(&bytes).map_or(&[] as &[u8], |batch| batch.body());
    debug_assert!(
        body.is_empty() || body.len() == located.size - BATCH_OVERHEAD,
        "a batch is read whole"
    );
    let position = LogPosition {
        offset: header.base_offset(),
        segment,
        position: located.position,
    };
    let mut staged = log.producers.stage();
    let added = staged.add(&Batch { header, body }, Some(position), Origin::Replication);
    let changes = staged.finish();
    if added.is_err() {
        // What the leader once accepted stands; only the transaction state cannot be followed further.
        return Ok(());
    }
    let aborted = log.producers.apply(changes, header.next_offset());
    let later = |entry: &AbortedTransaction| entry.last_offset >= recovery_point;
    let entries: Vec<_> = aborted.into_iter().filter(later).collect();
    log.keep_aborted(segment, &entries)
}

impl<F: Files> PartitionLog<F> {
    pub(crate) fn remove_snapshot(&mut self, offset: Offset) -> Result<(), StorageError> {
        self.snapshots.remove(&offset);
        let path = self.place.path_of(FileKind::ProducerSnapshot, offset);
        self.place.directory.forget(&path);
        match self.place.directory.files().remove(&path) {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => self.place.directory.judge(outcome),
        }
    }
}
