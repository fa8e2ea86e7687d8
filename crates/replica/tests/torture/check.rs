//! Compares a log with its model: everything after a start, a few reads in between.

use super::batches::{Kept, Written, cut, data, records_of};
use super::model::Model;
use super::node::Log;
use ottla_log::files::simulated::Random;
use ottla_log::{
    AppendError, Batch, Bound, FirstBatch, LeaderAppend, Origin, ProducerError, ReadRequest,
    TimeQuery,
};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchOptions, BatchView, split_batches};
use ottla_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What must have survived until a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survives {
    /// All appended records: only the process was killed.
    Everything,
    /// All acknowledged records: the power was cut.
    Acknowledged,
}

/// The time and the settings at a comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) now: i64,
    pub(super) delete_retention: i64,
}

/// Compares a log after a start with its model, and then sets the model to what the log has.
pub(super) fn after_start(model: &mut Model, log: &mut Log, survives: Survives, at: At) {
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    // A log that was truncated to before its log start offset, which is not in the checkpoint yet, is empty.
    let highest = if start == end {
        model.highest_start.max(model.start)
    } else {
        model.start
    };
    assert!(
        (model.acknowledged_start..=highest).contains(&start),
        "the log starts at {start}, not between {} and {highest}",
        model.acknowledged_start,
    );
    let required = match survives {
        Survives::Everything => model.end(),
        Survives::Acknowledged => model.acknowledged,
    };
    assert!(end >= required, "the log ends at {end}, before {required}");
    let bytes = read(log, start, Bound::LogEnd).0;
    let kept_from = model.touched_to.max(start);
    let mut batches: Vec<Written> = model.batches.clone();
    batches.retain(|batch| batch.last < kept_from);
    let mut cursor = kept_from;
    for (base, last, batch) in cut(&bytes) {
        if last < kept_from {
            compare_compacted(model, (base, last), batch.bytes(), &records_of(&batch));
            continue;
        }
        assert!(
            base <= cursor && (base == cursor || cursor == kept_from),
            "a batch at {base} where {cursor} must follow"
        );
        batches.push(known(model, base, batch.bytes()));
        cursor = last + 1;
    }
    assert_eq!(
        cursor.max(start),
        end,
        "the log ends where its batches do not"
    );
    model.restarted(batches, start, end);
    compare_epochs(model, log);
    compare_producers(model, log, at.now);
    compare_views(model, log, at);
}

/// Compares a log in use with its model.
pub(super) fn in_use(model: &Model, log: &mut Log, random: &mut Random) {
    let start = log.log_start_offset().0;
    let bytes = read(log, start, Bound::LogEnd).0;
    let kept_from = model.touched_to.max(start);
    let kept = |(_, last, _): &&(i64, i64, BatchView<'_>)| *last >= kept_from;
    let batches = cut(&bytes);
    let found = batches.iter().filter(kept).map(|(.., batch)| batch.bytes());
    let expected = model.batches.iter().filter(|batch| batch.last >= kept_from);
    assert!(
        found.eq(expected.map(|batch| batch.bytes.as_slice())),
        "the batches of a log in use"
    );
    search(log, &bytes, random);
}

/// The batch with these bytes, which was once appended at this offset.
fn known(model: &Model, base: i64, bytes: &[u8]) -> Written {
    let is_it = |batch: &&Written| batch.base == base && batch.bytes == bytes;
    let refused = model.refused.iter().filter(|_| base >= model.acknowledged);
    let mut candidates = model.batches.iter().chain(refused);
    let found = candidates.find(is_it);
    found
        .unwrap_or_else(|| panic!("the batch at {base} was never appended like this"))
        .clone()
}

/// A batch that compaction may have rewritten: its records are some of those that it had.
fn compare_compacted(model: &Model, (base, last): (i64, i64), bytes: &[u8], records: &[Kept]) {
    let is_it = |batch: &&Written| batch.base == base && batch.last == last;
    let original = model.batches.iter().find(is_it);
    let original =
        original.unwrap_or_else(|| panic!("no batch from {base} to {last} was appended"));
    // Producer id, epoch and base sequence, and the leader's epoch.
    assert_eq!(
        bytes[43..57],
        original.bytes[43..57],
        "the producer at {base}"
    );
    assert_eq!(bytes[12..16], original.bytes[12..16], "the epoch at {base}");
    for record in records {
        assert!(
            original.records.contains(record),
            "a record at {base}: {record:?}"
        );
    }
}

/// If the log start offset went back, epochs before it may be missing.
fn compare_epochs(model: &Model, log: &Log) {
    let (start, known_start) = (log.log_start_offset().0, model.highest_start);
    let epochs: Vec<(i32, i64)> = log
        .leader_epochs()
        .entries()
        .map(|(epoch, start)| (epoch.0, start.0))
        .filter(|(_, from)| *from > known_start || start == known_start)
        .collect();
    let mut expected = model.leader_epochs(start);
    expected.retain(|(_, from)| *from > known_start || start == known_start);
    // An empty log may know the epoch of the last record that it had.
    let is_empty = expected.is_empty() && epochs.iter().all(|(_, from)| *from == start);
    assert!(
        is_empty || epochs == expected,
        "leader epochs {epochs:?}, not {expected:?}"
    );
}

fn compare_producers(model: &Model, log: &mut Log, now: i64) {
    let start = log.log_start_offset().0;
    for producer in &model.producers {
        let last = model.last_batch_of(producer.id);
        if let Some(last) = last.filter(|last| last.base >= start) {
            compare_producer(log, last, now);
        }
    }
}

/// The last batch of a producer is found to be a duplicate, and a batch after a gap is refused.
fn compare_producer(log: &mut Log, last: &Written, now: i64) {
    let id = last.producer;
    let again = try_append(log, &last.bytes, (Origin::Client, last.leader_epoch, now));
    match again {
        Ok(appended) if appended.duplicate_of.is_some() => {
            assert_eq!(
                appended.first_offset.0, last.base,
                "a duplicate of producer {id}"
            );
        }
        outcome => panic!(
            "the last batch of producer {id} at {} sent again: {outcome:?}",
            last.base
        ),
    }
    let options = BatchOptions {
        producer_id: id,
        producer_epoch: last.producer_epoch,
        base_sequence: last.sequence + 1000,
        is_transactional: last.is_transactional,
        ..BatchOptions::default()
    };
    let beyond = data(&mut Random::new(1), options, Some(1), last.appended_at);
    let refused = try_append(log, &beyond.bytes, (Origin::Client, last.leader_epoch, now));
    assert!(
        matches!(
            refused,
            Err(AppendError::Producer(
                ProducerError::OutOfOrderSequence { .. }
            ))
        ),
        "a gap of producer {id}: {refused:?}"
    );
}

pub(super) fn try_append(
    log: &mut Log,
    bytes: &[u8],
    (origin, leader_epoch, now): (Origin, i32, i64),
) -> Result<ottla_log::Appended, AppendError> {
    let batches: Vec<Batch<'_>> = split_batches(bytes)
        .map(|batch| Batch::from(batch.unwrap()))
        .collect();
    let append = LeaderAppend {
        origin,
        leader_epoch: LeaderEpoch(leader_epoch),
        now: Timestamp(now),
    };
    log.append(&batches, append)
}

/// Compares what consumers see: committed records, the newest of each key, searches by offset and by time.
fn compare_views(model: &Model, log: &mut Log, at: At) {
    let end = log.log_end_offset();
    log.set_high_watermark(end).unwrap();
    let start = log.log_start_offset().0;
    let stable = log.last_stable_offset().0;
    let (lowest, highest) = model.last_stable(start);
    assert!(
        (lowest..=highest).contains(&stable),
        "the last stable offset is {stable}, not between {lowest} and {highest}"
    );
    let seen = committed(log, start);
    if model.touched_to > start {
        compare_keys(model, &seen, (start, stable), at);
    } else {
        let expected = model.committed(start, stable);
        let expected: Vec<&Kept> = expected.into_iter().map(|(record, _)| record).collect();
        assert!(
            seen.iter().eq(expected.iter().copied()),
            "committed records: {:?} seen, {:?} expected",
            seen.iter().map(|record| record.offset).collect::<Vec<_>>(),
            expected
                .iter()
                .map(|record| record.offset)
                .collect::<Vec<_>>()
        );
    }
    let bytes = read(log, start, Bound::LogEnd).0;
    let mut random = Random::new(end.0.unsigned_abs());
    for _ in 0..4 {
        search(log, &bytes, &mut random);
    }
}

/// The newest record of each compacted key is there, older ones may be, and removed ones do not come back.
fn compare_keys(model: &Model, seen: &[Kept], (start, stable): (i64, i64), at: At) {
    let committed = model.committed(start, stable);
    let known: BTreeMap<i64, &Kept> = committed
        .iter()
        .map(|(record, _)| (record.offset, *record))
        .collect();
    for record in seen {
        assert_eq!(
            known.get(&record.offset),
            Some(&record),
            "a committed record"
        );
    }
    let offsets: BTreeSet<i64> = seen.iter().map(|record| record.offset).collect();
    let mut newest: BTreeMap<&[u8], (&Kept, i64)> = BTreeMap::new();
    let mut newest_compacted: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (record, appended_at) in &committed {
        let key = record.key.as_deref().unwrap();
        newest.insert(key, (record, *appended_at));
        if record.offset < model.compacted_to {
            newest_compacted.insert(key, record.offset);
        }
    }
    for record in seen
        .iter()
        .filter(|record| record.offset < model.compacted_to)
    {
        let key = record.key.as_deref().unwrap();
        let newest = newest_compacted.get(key);
        assert_eq!(
            newest,
            Some(&record.offset),
            "an old record of a compacted key"
        );
    }
    for (key, (record, appended_at)) in newest {
        if offsets.contains(&record.offset) {
            continue;
        }
        let name = String::from_utf8_lossy(key);
        let offset = record.offset;
        assert_eq!(
            record.value, None,
            "the newest record of {name:?}, {offset}, is gone"
        );
        assert!(
            at.now >= appended_at + at.delete_retention,
            "the tombstone of {name:?} at {offset} went too early"
        );
        let mut of_key = seen.iter().filter(|seen| seen.key.as_deref() == Some(key));
        assert!(
            of_key.next().is_none(),
            "{name:?} came back after its tombstone at {offset} went"
        );
    }
}

/// Reads as a consumer does, in several fetches; also gives the aborted transactions of each.
fn read(log: &Log, from: i64, bound: Bound) -> (Vec<u8>, Vec<Fetched>) {
    let mut bytes = Vec::new();
    let mut fetches = Vec::new();
    let mut offset = from;
    loop {
        let request = ReadRequest {
            offset: Offset(offset),
            max_bytes: 700,
            first_batch: FirstBatch::MayExceed,
            bound,
        };
        let plan = log
            .read(&request)
            .unwrap_or_else(|error| panic!("cannot read {offset}: {error}"));
        let start = bytes.len();
        let read = plan.read(&mut bytes);
        if read.unwrap_or_else(|error| panic!("cannot read {offset}: {error}")) == 0 {
            return (bytes, fetches);
        }
        let aborted = plan.aborted.unwrap_or_default();
        let aborted = aborted
            .iter()
            .map(|entry| (entry.first_offset.0, entry.producer_id.0));
        fetches.push(Fetched {
            bytes: start..bytes.len(),
            aborted: aborted.collect(),
        });
        offset = cut(&bytes[start..])
            .last()
            .map_or(offset, |(_, last, _)| last + 1);
    }
}

/// The outcome of one fetch.
struct Fetched {
    bytes: std::ops::Range<usize>,
    aborted: Vec<(i64, i64)>,
}

/// The records that a reader of committed records gets from `start` on.
fn committed(log: &Log, start: i64) -> Vec<Kept> {
    let (bytes, fetches) = read(log, start, Bound::LastStableOffset);
    let mut seen = Vec::new();
    for fetched in fetches {
        let mut aborted = fetched.aborted;
        aborted.sort_unstable();
        let mut skipped = BTreeSet::new();
        for (_, last, batch) in cut(&bytes[fetched.bytes]) {
            let reached = aborted.partition_point(|(first, _)| *first <= last);
            skipped.extend(aborted.drain(..reached).map(|(_, producer)| producer));
            let header = batch.header();
            let records = records_of(&batch);
            if header.is_control() {
                let is_abort = records
                    .first()
                    .is_some_and(|record| record.key.as_deref() == Some(&[0; 4]));
                if is_abort {
                    skipped.remove(&header.producer_id);
                }
            } else if !(header.is_transactional() && skipped.contains(&header.producer_id)) {
                seen.extend(records);
            }
        }
    }
    seen.retain(|record| record.offset >= start && record.offset < log.last_stable_offset().0);
    seen
}

/// A search by offset and one by time find the same as a scan of all `bytes`.
fn search(log: &mut Log, bytes: &[u8], random: &mut Random) {
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    let batches = cut(bytes);
    if end > start {
        let offset = start + random.signed(end - start);
        let holding = batches.iter().find(|(_, last, _)| *last >= offset);
        let found = read_once(log, offset);
        assert_eq!(
            found,
            holding.map(|(base, ..)| *base),
            "a search for offset {offset}"
        );
    }
    let records: Vec<Kept> = batches
        .iter()
        .flat_map(|(_, _, batch)| records_of(batch))
        .filter(|record| record.offset >= start)
        .collect();
    let Some(near) = random.pick(&records) else {
        return;
    };
    let wanted = near.timestamp + random.signed(3) - 1;
    let expected = records.iter().find(|record| record.timestamp >= wanted);
    let found = log.offset_at(TimeQuery::At(Timestamp(wanted))).unwrap();
    assert_eq!(
        found.map(|found| (found.offset.0, found.timestamp.0)),
        expected.map(|record| (record.offset, record.timestamp)),
        "a search for time {wanted}"
    );
}

/// The base offset of the first batch of a read at `offset`.
fn read_once(log: &Log, offset: i64) -> Option<i64> {
    let request = ReadRequest {
        offset: Offset(offset),
        max_bytes: 1,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::LogEnd,
    };
    let mut bytes = Vec::new();
    log.read(&request).unwrap().read(&mut bytes).unwrap();
    cut(&bytes).first().map(|(base, ..)| *base)
}
