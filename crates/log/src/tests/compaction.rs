//! Compaction of whole logs: what consumers see of them before and after, against records kept in a list.

mod crashes;
mod cut_short;
mod damage;
mod kafka;
mod left_alone;
mod transactions;

use super::fixture::*;
use crate::compaction::{CompactionError, MapLimits, OffsetMap, Outcome, Tools};
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open};
use crate::format::FileKind;
use crate::{Left, LogConfig, PartitionLog, StorageError, TimeQuery};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{
    BatchBuilder, BatchOptions, BatchView, Compression, Decompressor, split_batches,
};
use ottla_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::io::IoSlice;
use std::ops::ControlFlow;
use std::path::Path;

const PARTITION: &str = "/data/topic-0";

const AMPLE: usize = 1 << 20;

const DAY: i64 = 24 * 3600 * 1000;

pub(super) fn compacted() -> LogConfig {
    LogConfig {
        segment_bytes: 1500,
        index_interval_bytes: 200,
        compact: true,
        delete: false,
        retention: None,
        min_cleanable_dirty_ratio: 0.0,
        ..LogConfig::default()
    }
}

pub(super) type Written<'a> = (&'a str, Option<&'a str>);

pub(super) fn keyed(options: BatchOptions, records: &[Written<'_>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for (index, (key, value)) in (0..).zip(records) {
        let value = value.map(str::as_bytes);
        builder.append(NOW.0 + index, Some(key.as_bytes()), value, &[]);
    }
    builder.build().unwrap()
}

pub(super) fn put<F: Files>(log: &mut PartitionLog<F>, records: &[Written<'_>]) -> i64 {
    let bytes = keyed(BatchOptions::default(), records);
    append(log, &bytes).first_offset.0
}

/// Rolls and makes all durable, so that all may be compacted.
pub(super) fn settle<F: Files>(log: &mut PartitionLog<F>) -> Result<(), StorageError> {
    log.roll(NOW)?;
    log.flush()?;
    let end = log.log_end_offset();
    log.set_high_watermark(end)?;
    if let Some(checkpoint) = log.begin_checkpoint()? {
        checkpoint.run()?;
        let point = log.complete_checkpoint(&checkpoint);
        log.recovery_point_written(point);
    }
    Ok(())
}

pub(super) fn tools(bytes: usize) -> Tools {
    let limits = MapLimits {
        bytes,
        load_factor: 0.9,
    };
    Tools::new(OffsetMap::new(
        limits,
        [RandomState::new(), RandomState::new()],
    ))
}

/// One pass with so much memory for keys, if the log is due.
pub(super) fn try_pass<F: Files>(
    log: &mut PartitionLog<F>,
    memory: usize,
    now: Timestamp,
) -> Result<Option<Outcome>, CompactionError> {
    let plan = log.plan_compaction(now)?;
    if !plan.is_due() {
        return Ok(None);
    }
    let mut tools = tools(memory);
    let mut pace = |_| ControlFlow::Continue(());
    let mut pass = log.begin_compaction(now)?;
    pass.index(&mut tools, &mut pace)?;
    while let Some(rewritten) = pass.rewrite_next(&mut tools, &mut pace)? {
        log.replace_segments(rewritten)?;
        pass.sync_names()?;
    }
    let outcome = pass.finish()?;
    log.complete_compaction(&outcome);
    Ok(Some(outcome))
}

fn pass<F: Files>(log: &mut PartitionLog<F>, now: Timestamp) -> Outcome {
    try_pass(log, AMPLE, now)
        .unwrap()
        .expect("a log that is due")
}

/// What a consumer of committed records sees: offset, key and value.
pub(super) type Seen = (i64, String, Option<String>);

pub(super) fn visible<F: Files>(log: &PartitionLog<F>) -> Vec<Seen> {
    let bytes = read_all(log, log.log_start_offset());
    let mut aborted = log
        .aborted_transactions(Offset(0), log.log_end_offset())
        .unwrap();
    aborted.sort_by_key(|entry| entry.first_offset);
    let mut cut_off = BTreeSet::new();
    let mut seen = Vec::new();
    for batch in split_batches(&bytes).map(Result::unwrap) {
        let header = batch.header();
        let producer = header.producer_id;
        while aborted
            .first()
            .is_some_and(|entry| entry.first_offset <= header.last_offset())
        {
            cut_off.insert(aborted.remove(0).producer_id.0);
        }
        if header.is_control() {
            let record = records_of(&batch).pop();
            if record.is_some_and(|(_, key, _)| key.as_bytes() == [0, 0, 0, 0]) {
                cut_off.remove(&producer);
            }
        } else if !(header.is_transactional() && cut_off.contains(&producer)) {
            seen.extend(records_of(&batch));
        }
    }
    seen
}

pub(super) fn records_of(batch: &BatchView<'_>) -> Vec<Seen> {
    let mut decompressor = Decompressor::default();
    let records = batch.records(&mut decompressor, 1 << 20).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seen = |record: ottla_protocol::records::Record<'_>| {
        let key = record.key.map(text).unwrap_or_default();
        (record.offset, key, record.value.map(text))
    };
    records.map(|record| seen(record.unwrap())).collect()
}

fn headers<F: Files>(log: &PartitionLog<F>) -> Vec<ottla_protocol::records::BatchHeader> {
    let bytes = read_all(log, log.log_start_offset());
    let batches = split_batches(&bytes).map(Result::unwrap);
    batches.map(|batch| *batch.header()).collect()
}

/// What must be left of `written` when all before `end` is compacted: the newest of each key, and all from `end` on.
pub(super) fn newest(written: &[Seen], end: i64) -> Vec<Seen> {
    let mut last = BTreeMap::new();
    for (offset, key, _) in written.iter().filter(|(offset, ..)| *offset < end) {
        last.insert(key.clone(), *offset);
    }
    let stays = |(offset, key, _): &&Seen| *offset >= end || last.get(key) == Some(offset);
    written.iter().filter(stays).cloned().collect()
}

fn segment_bytes(files: &Simulated, base: i64) -> Vec<u8> {
    let path = FileKind::Log.path(Path::new(PARTITION), Offset(base));
    crate::files::read_whole(files, &path, 1 << 20)
        .unwrap()
        .unwrap()
}

#[test]
fn the_newest_record_of_each_key_stays_at_its_offset() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..40 {
        let value = format!("value {round}");
        let key = format!("key {}", round % 7);
        put(&mut log, &[(&key, Some(&value)), ("all", Some(&value))]);
    }
    settle(&mut log).unwrap();
    let before = visible(&log);
    let size = log.size();
    assert!(log.segment_count() > 3);
    let outcome = pass(&mut log, NOW);
    assert!(outcome.is_whole);
    assert_eq!(outcome.end, Offset(80));
    let after = visible(&log);
    assert_eq!(after, newest(&before, 80));
    assert_eq!(after.len(), 8);
    assert!(log.size() < size / 2, "{} of {size}", log.size());
    assert_eq!(log.log_end_offset(), Offset(80));
    assert_eq!(outcome.stats.records_kept, 8);
    // Nothing is dirty now.
    assert_eq!(try_pass(&mut log, AMPLE, NOW).unwrap(), None);

    let point = log.recovery_point();
    for left in [true, false] {
        let files = files.process_killed();
        let left = Left {
            is_clean: left,
            recovery_point: point,
            compacted_to: Some(Offset(80)),
            ..Left::default()
        };
        let (log, recovery) = open_as(&files, compacted(), left);
        assert_eq!(recovery.indexes_rebuilt, 0);
        assert_eq!(visible(&log), after);
        for offset in 0..80 {
            let first = after.iter().find(|(at, ..)| *at >= offset).unwrap();
            let bytes = read_all(&log, Offset(offset));
            let mut seen = split_batches(&bytes).flat_map(|batch| records_of(&batch.unwrap()));
            assert_eq!(seen.find(|(at, ..)| *at >= offset).as_ref(), Some(first));
        }
    }
}

#[test]
fn small_segments_become_one() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..10 {
        let value = format!("value {round}");
        put(
            &mut log,
            &[(&format!("key {round}"), Some("x")), ("all", Some(&value))],
        );
        settle(&mut log).unwrap();
    }
    let before = visible(&log);
    let outcome = pass(&mut log, NOW);
    assert_eq!(
        (outcome.stats.segments_before, outcome.stats.segments_after),
        (10, 1)
    );
    assert_eq!(log.segment_count(), 2);
    assert_eq!(visible(&log), newest(&before, 20));
    let names = files.list(Path::new(PARTITION)).unwrap();
    let logs = names
        .iter()
        .filter(|entry| matches!(FileKind::of_name(&entry.name), Some((FileKind::Log, _))));
    assert_eq!(logs.count(), 2);
    // A high watermark and a log end that lay in what is gone are found again.
    assert_eq!(log.high_watermark(), Offset(20));
    put(&mut log, &[("all", Some("more"))]);
    assert_eq!(visible(&log).len(), 12);
}

#[test]
fn fewer_slots_than_keys_mean_more_passes_with_the_same_end() {
    let files = new_disk();
    let config = LogConfig {
        segment_bytes: 20_000,
        ..compacted()
    };
    let mut log = new_log(&files, config);
    let keys: Vec<String> = (0..500).map(|key| format!("key {key}")).collect();
    for round in 0..3 {
        let value = format!("value {round}");
        for several in keys.chunks(25) {
            let records: Vec<Written<'_>> = several
                .iter()
                .map(|key| (key.as_str(), Some(value.as_str())))
                .collect();
            put(&mut log, &records);
        }
    }
    settle(&mut log).unwrap();
    let before = visible(&log);
    // Room for 1 % of the keys: a pass takes part of a segment.
    let memory = 5 * 24;
    let mut passes = 0;
    while let Some(outcome) = try_pass(&mut log, memory, NOW).unwrap() {
        passes += 1;
        assert_eq!(visible(&log), newest(&before, outcome.end.0));
        assert_eq!(outcome.is_whole, outcome.end == Offset(1500));
    }
    assert!(passes > 100, "{passes} passes");
    assert_eq!(visible(&log), newest(&before, 1500));
    assert_eq!(visible(&log).len(), 500);
}

#[test]
fn a_tombstone_stays_for_the_delete_retention_after_it_was_first_met() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("1")), ("b", Some("1"))]);
    put(&mut log, &[("a", None), ("b", Some("2"))]);
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    let b = (3, "b".to_owned(), Some("2".to_owned()));
    assert_eq!(visible(&log), [(2, "a".to_owned(), None), b.clone()]);
    let stamped: Vec<_> = headers(&log)
        .iter()
        .filter_map(ottla_protocol::records::BatchHeader::delete_horizon_ms)
        .collect();
    assert_eq!(stamped, [NOW.0 + DAY]);
    // The timestamps of the records are what they were.
    let bytes = read_all(&log, Offset(2));
    let batch = split_batches(&bytes).next().unwrap().unwrap();
    let mut decompressor = Decompressor::default();
    let mut records = batch.records(&mut decompressor, 1000).unwrap();
    assert_eq!(records.next().unwrap().unwrap().timestamp, NOW.0);

    let more = |log: &mut Log, now| {
        put(log, &[("c", Some("1"))]);
        settle(log).unwrap();
        pass(log, Timestamp(now));
        visible(log)
    };
    let early = more(&mut log, NOW.0 + DAY - 1);
    assert_eq!(early[0], (2, "a".to_owned(), None));
    let late = more(&mut log, NOW.0 + DAY);
    assert_eq!(late[0], b);
    assert!(late.iter().all(|(_, key, _)| key != "a"));
}

#[test]
fn compressed_batches_stay_compressed_and_keep_their_place() {
    for compression in Compression::ALL {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        let options = BatchOptions {
            compression,
            level: compression.default_level(),
            ..BatchOptions::default()
        };
        let records = [("a", Some("1")), ("b", Some("1")), ("c", Some("1"))];
        append(&mut log, &keyed(options, &records));
        append(
            &mut log,
            &keyed(options, &[("a", Some("2")), ("c", Some("2"))]),
        );
        settle(&mut log).unwrap();
        let untouched = read_all(&log, Offset(3));
        pass(&mut log, NOW);
        let headers = headers(&log);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[0].compression(), Some(compression));
        assert_eq!(
            (headers[0].base_offset, headers[0].last_offset_delta),
            (0, 2)
        );
        assert_eq!(headers[0].record_count, 1);
        assert_eq!(read_all(&log, Offset(3)), untouched, "byte for byte");
        let keys: Vec<String> = visible(&log).into_iter().map(|(_, key, _)| key).collect();
        assert_eq!(keys, ["b", "a", "c"]);
    }
}

#[test]
fn a_producer_goes_on_where_it_was_after_its_records_are_gone() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    let of = |base_sequence, records: &[Written<'_>]| {
        let options = BatchOptions {
            producer_id: 7,
            producer_epoch: 1,
            base_sequence,
            ..BatchOptions::default()
        };
        keyed(options, records)
    };
    append(&mut log, &of(0, &[("a", Some("1"))]));
    let last = of(1, &[("a", Some("2")), ("b", Some("2"))]);
    append(&mut log, &last);
    put(&mut log, &[("a", Some("3")), ("b", Some("3"))]);
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    let counts: Vec<(i64, i32)> = headers(&log)
        .iter()
        .map(|header| (header.base_offset, header.record_count))
        .collect();
    assert_eq!(counts, [(1, 0), (3, 2)]);
    // Only the batches are left to tell of the producer.
    let files = files.process_killed();
    for entry in files.list(Path::new(PARTITION)).unwrap() {
        if entry.name.ends_with(".snapshot") {
            files
                .remove(&Path::new(PARTITION).join(entry.name))
                .unwrap();
        }
    }
    let left = Left {
        recovery_point: Offset(5),
        ..Left::default()
    };
    let (mut log, _) = open_as(&files, compacted(), left);
    let told = append(&mut log, &last).duplicate_of;
    assert_eq!(told, Some(Timestamp(NOW.0 + 1)), "the time that was stored");
    assert!(try_append(&mut log, &of(4, &[("a", Some("4"))])).is_err());
    assert_eq!(
        append(&mut log, &of(3, &[("a", Some("4"))])).first_offset,
        Offset(5)
    );
}

#[test]
fn a_search_by_time_passes_over_batches_whose_records_are_gone() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    let options = BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: 0,
        ..BatchOptions::default()
    };
    append(&mut log, &keyed(options, &[("a", Some("1"))]));
    put(&mut log, &[("a", Some("2"))]);
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    assert_eq!(headers(&log)[0].record_count, 0);
    let found = log.offset_at(TimeQuery::At(NOW)).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset(1), NOW));
}

fn spoil(files: &Simulated, base: i64, position: u64) {
    let path = FileKind::Log.path(Path::new(PARTITION), Offset(base));
    let file = files.open(&path, Open::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, position).unwrap();
    let damaged = [byte[0] ^ 0x55];
    file.write_at(&[IoSlice::new(&damaged)], position).unwrap();
}

#[test]
fn a_pass_goes_by_what_is_there_when_it_begins() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    let rounds = |log: &mut Log| {
        for round in 0..40 {
            let value = format!("value {round}");
            put(log, &[("a", Some(&value)), ("b", Some(&value))]);
        }
    };
    rounds(&mut log);
    settle(&mut log).unwrap();
    assert!(log.plan_compaction(NOW).unwrap().is_due());
    // All that was planned is cut, and what follows in its place is not on stable storage.
    log.truncate_to(Offset(0), NOW).unwrap();
    rounds(&mut log);
    let begun = log.begin_compaction(NOW).map(drop);
    assert!(matches!(begun, Err(CompactionError::NotDue)), "{begun:?}");
    settle(&mut log).unwrap();
    let before = visible(&log);
    pass(&mut log, NOW);
    assert_eq!(visible(&log), newest(&before, 80));
}
