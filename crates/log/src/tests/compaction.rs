//! Compaction of whole logs: what consumers see of them before and after, against records kept in a list.

use super::fixture::*;
use crate::compaction::{
    CompactionError, MapLimits, Obstacle, OffsetMap, Outcome, Plan, QUARANTINE, REPLACEMENT, Tools,
    Verdict,
};
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, Operation};
use crate::format::FileKind;
use crate::{
    Bound, FirstBatch, Left, LogConfig, PartitionLog, ReadRequest, StorageError, TimeQuery,
};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{
    BatchBuilder, BatchOptions, BatchView, Compression, Decompressor, split_batches,
};
use ottla_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::io::{ErrorKind, IoSlice};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

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

fn in_transaction(producer_id: i64, base_sequence: i32, records: &[Written<'_>]) -> Vec<u8> {
    let options = BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        is_transactional: true,
        ..BatchOptions::default()
    };
    keyed(options, records)
}

#[test]
fn aborted_records_go_and_markers_follow_when_nothing_is_left_of_their_transactions() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("old")), ("b", Some("old"))]);
    append(&mut log, &in_transaction(1, 0, &[("a", Some("aborted"))]));
    append(&mut log, &in_transaction(2, 0, &[("b", Some("committed"))]));
    append(&mut log, &marker(1, 0));
    append(&mut log, &marker(2, 1));
    append(&mut log, &in_transaction(1, 1, &[("c", Some("committed"))]));
    append(&mut log, &marker(1, 1));
    settle(&mut log).unwrap();
    let before = visible(&log);
    pass(&mut log, NOW);
    assert_eq!(visible(&log), newest(&before, 8));
    let kept = |log: &Log| -> Vec<(i64, bool, i32)> {
        let of = |header: &ottla_protocol::records::BatchHeader| {
            (header.base_offset, header.is_control(), header.record_count)
        };
        headers(log).iter().map(of).collect()
    };
    // Of the aborted transaction nothing is left but its marker, which the next pass finds alone.
    assert_eq!(
        kept(&log),
        [
            (0, false, 1),
            (3, false, 1),
            (4, true, 1),
            (5, true, 1),
            (6, false, 1),
            (7, true, 1)
        ]
    );
    assert_eq!(
        log.aborted_transactions(Offset(0), Offset(8))
            .unwrap()
            .len(),
        1
    );
    put(&mut log, &[("b", Some("new")), ("c", Some("new"))]);
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    assert_eq!(log.aborted_transactions(Offset(0), Offset(8)).unwrap(), []);
    let marker = headers(&log)[2];
    assert_eq!(
        (marker.base_offset, marker.delete_horizon_ms()),
        (4, Some(NOW.0 + DAY))
    );
    put(&mut log, &[("b", Some("newer"))]);
    settle(&mut log).unwrap();
    pass(&mut log, Timestamp(NOW.0 + DAY));
    // The last batches of the producers stay without their records, and with them what marks their end.
    assert_eq!(
        kept(&log),
        [
            (0, false, 1),
            (3, false, 0),
            (5, true, 1),
            (6, false, 0),
            (7, true, 1),
            (8, false, 1),
            (10, false, 1)
        ]
    );
    assert_eq!(visible(&log).len(), 3);
}

#[test]
fn an_aborted_transaction_keeps_its_index_entry_while_a_batch_of_it_is_there() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    append(&mut log, &transactional(1, 0, 2));
    append(&mut log, &marker(1, 0));
    put(&mut log, &[("a", Some("1"))]);
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    let first = headers(&log)[0];
    assert_eq!((first.base_offset, first.record_count), (0, 0));
    assert_eq!(first.last_sequence(), 1);
    let entries = log.aborted_transactions(Offset(0), Offset(4)).unwrap();
    assert_eq!(entries.len(), 1);
    let left = Left {
        is_clean: true,
        ..Left::default()
    };
    let (log, _) = open_as(&files.process_killed(), compacted(), left);
    assert_eq!(
        log.aborted_transactions(Offset(0), Offset(4)).unwrap(),
        entries
    );
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

fn segment_bytes(files: &Simulated, base: i64) -> Vec<u8> {
    let path = FileKind::Log.path(Path::new(PARTITION), Offset(base));
    crate::files::read_whole(files, &path, 1 << 20)
        .unwrap()
        .unwrap()
}

#[test]
fn a_batch_that_cannot_be_read_stays_as_it_is_and_the_rest_is_compacted() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..6 {
        let value = format!("value {round}");
        let only = format!("only {round}");
        put(&mut log, &[("a", Some(&value)), (&only, Some("x"))]);
    }
    settle(&mut log).unwrap();
    let bytes = segment_bytes(&files, 0);
    let starts: Vec<usize> = split_batches(&bytes)
        .scan(0, |at, batch| {
            let start = *at;
            *at += batch.unwrap().size();
            Some(start)
        })
        .collect();
    // The third batch has a wrong checksum.
    spoil(&files, 0, starts[2] as u64 + 70);
    let poisoned = segment_bytes(&files, 0)[starts[2]..starts[3]].to_vec();
    let outcome = pass(&mut log, NOW);
    assert!(outcome.is_whole);
    let [entry] = outcome.quarantine.as_slice() else {
        panic!("{:?}", outcome.quarantine)
    };
    assert_eq!(
        (entry.first_offset, entry.last_offset),
        (Offset(4), Offset(5))
    );
    assert_eq!(entry.bytes, poisoned.len() as u64);
    assert!(entry.reason.contains("checksum"), "{}", entry.reason);
    assert_eq!(log.quarantine(), outcome.quarantine);
    let after = segment_bytes(&files, 0);
    let at = usize::try_from(entry.position).unwrap();
    assert_eq!(after[at..at + poisoned.len()], poisoned);
    assert!(after.len() < bytes.len());
    // All around it is compacted.
    let mut counts = Vec::new();
    for batch in split_batches(&after).map(Result::unwrap) {
        counts.push((batch.header().base_offset, batch.header().record_count));
    }
    assert_eq!(counts, [(0, 1), (2, 1), (4, 2), (6, 1), (8, 1), (10, 2)]);
    // It is known after a start, and forgotten when it is gone.
    let file = Path::new(PARTITION).join(QUARANTINE);
    assert!(files.status(&file).unwrap().is_some());
    let reopened = reopen(&files.process_killed(), compacted(), Offset(12));
    assert_eq!(reopened.quarantine(), outcome.quarantine);
}

#[test]
fn records_that_cannot_be_decompressed_stay_with_all_older_ones_of_their_keys() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("1"))]);
    let mut broken = keyed(BatchOptions::default(), &[("a", Some("2"))]);
    // It says that it is compressed by zstd, and is not; the checksum is right.
    broken[22] |= 4;
    let crc = BatchView::first(&broken).unwrap().compute_crc();
    broken[17..21].copy_from_slice(&crc.to_be_bytes());
    append(&mut log, &broken);
    put(&mut log, &[("b", Some("1"))]);
    settle(&mut log).unwrap();
    let before = read_all(&log, Offset(0));
    let outcome = pass(&mut log, NOW);
    assert_eq!(outcome.quarantine.len(), 1);
    assert_eq!(read_all(&log, Offset(0)), before);
}

#[test]
fn a_segment_that_cannot_be_walked_is_left_as_it_is_and_the_others_are_compacted() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..3 {
        let value = format!("value {round}");
        put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        settle(&mut log).unwrap();
    }
    // The length of its second batch is nonsense.
    let second = split_batches(&segment_bytes(&files, 4))
        .next()
        .unwrap()
        .unwrap()
        .size();
    spoil(&files, 4, second as u64 + 8);
    let damaged = segment_bytes(&files, 4);
    let outcome = pass(&mut log, NOW);
    assert!(outcome.is_whole);
    assert_eq!(outcome.quarantine.len(), 1);
    assert_eq!(outcome.quarantine[0].segment, Offset(4));
    assert_eq!(outcome.quarantine[0].first_offset, Offset(6));
    assert_eq!(segment_bytes(&files, 4), damaged);
    assert_eq!(segment_bytes(&files, 0), []);
    assert_eq!(segment_bytes(&files, 8).len(), damaged.len() / 2);
}

#[test]
fn what_a_start_after_a_crash_would_read_again_is_not_compacted() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("1")), ("b", Some("1"))]);
    put(&mut log, &[("a", Some("2"))]);
    log.roll(NOW).unwrap();
    log.flush().unwrap();
    log.set_high_watermark(Offset(3)).unwrap();
    assert!(log.compaction_needs_checkpoint());
    let not_due = log.plan_compaction(NOW).unwrap().verdict;
    let why = Obstacle::NotDurable;
    let next_due = None;
    assert_eq!(not_due, Verdict::NotDue { why, next_due });
    settle(&mut log).unwrap();
    assert!(!log.compaction_needs_checkpoint());
    pass(&mut log, NOW);
    // The gap that it left is no loss to the start after a crash.
    let left = Left {
        recovery_point: Offset(3),
        ..Left::default()
    };
    let (log, recovery) = open_as(&files.process_killed(), compacted(), left);
    assert_eq!((log.log_end_offset(), recovery.cut_off), (Offset(3), None));
}

#[test]
fn a_reader_is_promised_no_more_bytes_than_compaction_left_below_the_high_watermark() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for _ in 0..5 {
        put(&mut log, &[("a", Some("1")), ("b", Some("1"))]);
    }
    // The flush ends at the end of a segment that is closed before it is complete.
    let flush = log.begin_flush().unwrap().unwrap();
    log.roll(NOW).unwrap();
    flush.run().unwrap();
    log.complete_flush(&flush);
    log.set_high_watermark_to(flush.end()).unwrap();
    let checkpoint = log.begin_checkpoint().unwrap().unwrap();
    checkpoint.run().unwrap();
    let point = log.complete_checkpoint(&checkpoint);
    log.recovery_point_written(point);
    pass(&mut log, NOW);
    let plan = log
        .read(&ReadRequest {
            offset: Offset(0),
            max_bytes: 1 << 20,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::HighWatermark,
        })
        .unwrap();
    assert_eq!(plan.length, segment_bytes(&files, 0).len());
    assert_eq!(plan.read(&mut Vec::new()).unwrap(), plan.length);
}

#[test]
fn open_transactions_and_young_records_are_not_compacted() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("1"))]);
    settle(&mut log).unwrap();
    append(&mut log, &transactional(1, 0, 1));
    put(&mut log, &[("a", Some("2"))]);
    settle(&mut log).unwrap();
    let plan = log.plan_compaction(NOW).unwrap();
    assert_eq!(plan.first_uncleanable, Offset(1));
    append(&mut log, &marker(1, 1));
    settle(&mut log).unwrap();
    assert_eq!(
        log.plan_compaction(NOW).unwrap().first_uncleanable,
        Offset(4)
    );
    log.set_config(LogConfig {
        min_compaction_lag: Duration::from_hours(1),
        ..compacted()
    });
    let plan = log.plan_compaction(NOW).unwrap();
    assert_eq!(plan.first_uncleanable, Offset(0));
    let later = Timestamp(NOW.0 + 3_600_000);
    assert_eq!(
        log.plan_compaction(later).unwrap().first_uncleanable,
        Offset(4)
    );
}

#[test]
fn a_pass_overtaken_by_retention_or_truncation_changes_nothing() {
    for truncates in [true, false] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        for round in 0..40 {
            let value = format!("value {round}");
            put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        }
        settle(&mut log).unwrap();
        let mut tools = tools(AMPLE);
        let mut pace = |_| ControlFlow::Continue(());
        let mut pass = log.begin_compaction(NOW).unwrap();
        pass.index(&mut tools, &mut pace).unwrap();
        let rewritten = pass.rewrite_next(&mut tools, &mut pace).unwrap().unwrap();
        if truncates {
            log.truncate_to(Offset(70), NOW).unwrap();
        } else {
            log.delete_records(Some(Offset(70)), NOW).unwrap();
        }
        let before = read_all(&log, log.log_start_offset());
        let replaced = log.replace_segments(rewritten);
        assert!(matches!(replaced, Err(CompactionError::Changed)));
        assert_eq!(read_all(&log, log.log_start_offset()), before);
        let names = files.list(Path::new(PARTITION)).unwrap();
        assert!(names.iter().all(|entry| !entry.name.ends_with(".cleaned")));
        log.directory().ensure_online().unwrap();
    }
}

#[test]
fn a_pass_can_be_stopped_at_any_byte_and_the_next_does_it_all() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..20 {
        let value = format!("value {round}");
        put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
    }
    settle(&mut log).unwrap();
    let before = visible(&log);
    for limit in 0..25 {
        let mut tools = tools(AMPLE);
        let mut left = limit;
        let mut pace = |_| {
            left -= 1;
            if left < 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let mut pass = log.begin_compaction(NOW).unwrap();
        let outcome = pass
            .index(&mut tools, &mut pace)
            .and_then(|()| pass.rewrite_next(&mut tools, &mut pace));
        assert!(matches!(outcome, Err(CompactionError::Stopped)), "{limit}");
        assert_eq!(visible(&log), before);
    }
    pass(&mut log, NOW);
    assert_eq!(visible(&log), newest(&before, 40));
}

#[test]
fn a_full_disk_ends_a_pass_and_nothing_else() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..20 {
        let value = format!("value {round}");
        put(
            &mut log,
            &[("a", Some(&value)), (&format!("key {round}"), Some("x"))],
        );
    }
    settle(&mut log).unwrap();
    let before = visible(&log);
    let used: u64 = {
        let entries = files.list(Path::new(PARTITION)).unwrap();
        let paths = entries
            .iter()
            .map(|entry| Path::new(PARTITION).join(&entry.name));
        let length = |path: std::path::PathBuf| files.status(&path).unwrap().unwrap().length;
        paths.map(length).sum()
    };
    let mut refused = 0;
    for free in (0..1500).step_by(50) {
        files.limit_space(Some(used + free));
        match try_pass(&mut log, AMPLE, NOW) {
            Err(CompactionError::Storage(StorageError::Full { .. })) => refused += 1,
            outcome => assert!(outcome.is_ok(), "{outcome:?}"),
        }
        log.directory().ensure_online().unwrap();
        let seen = visible(&log);
        assert!(
            newest(&before, 40)
                .iter()
                .all(|record| seen.contains(record))
        );
        let names = files.list(Path::new(PARTITION)).unwrap();
        assert!(names.iter().all(|entry| !entry.name.ends_with(".cleaned")));
    }
    assert!(refused > 2, "{refused}");
    files.limit_space(None);
    try_pass(&mut log, AMPLE, NOW).unwrap();
    assert_eq!(visible(&log), newest(&before, 40));
}

#[test]
fn retention_applies_to_a_log_that_is_compacted_and_deleted() {
    let config = LogConfig {
        delete: true,
        retention: Some(Duration::from_hours(1)),
        ..compacted()
    };
    let files = new_disk();
    let mut log = new_log(&files, config);
    for round in 0..40 {
        put(
            &mut log,
            &[(&format!("key {}", round % 30), Some("some value"))],
        );
    }
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    let segments = log.segment_count();
    let removed = log.apply_retention(Timestamp(NOW.0 + 3_700_000)).unwrap();
    assert_eq!(removed.segments, segments - 1);
    assert_eq!(log.log_start_offset(), Offset(40));
    // The checkpoint now lies before the log, which begins anew.
    assert!(matches!(
        log.plan_compaction(NOW).unwrap(),
        Plan {
            verdict: Verdict::NotDue { .. },
            ..
        }
    ));
}

#[test]
fn a_plan_passes_over_what_is_damaged_or_missing() {
    let files = new_disk();
    let config = LogConfig {
        min_compaction_lag: Duration::from_millis(1),
        max_compaction_lag: Some(Duration::from_hours(1)),
        ..compacted()
    };
    let mut log = new_log(&files, config.clone());
    for _ in 0..3 {
        put(&mut log, &[("a", Some("1"))]);
        settle(&mut log).unwrap();
    }
    let point = log.close().unwrap();
    spoil(&files, 0, 8);
    let mut log = reopen(&files, config, point);
    let missing = FileKind::Log.path(Path::new(PARTITION), Offset(1));
    files.remove(&missing).unwrap();
    let later = Timestamp(NOW.0 + 10);
    assert_eq!(
        log.plan_compaction(later).unwrap().first_uncleanable,
        Offset(3)
    );
    log.directory().ensure_online().unwrap();
    // What it says of the missing file ends the pass, and nothing else.
    let outcome = try_pass(&mut log, AMPLE, later);
    assert!(
        matches!(outcome, Err(CompactionError::Changed)),
        "{outcome:?}"
    );
    log.directory().ensure_online().unwrap();
}

#[test]
fn a_tombstone_stays_while_damage_before_it_keeps_what_it_deletes() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("k", Some("v"))]);
    put(&mut log, &[("x", Some("1"))]);
    settle(&mut log).unwrap();
    put(&mut log, &[("k", None)]);
    settle(&mut log).unwrap();
    // The length of the second batch is nonsense, so the first segment is kept whole.
    let bytes = segment_bytes(&files, 0);
    let first = split_batches(&bytes).next().unwrap().unwrap().size();
    spoil(&files, 0, first as u64 + 8);
    pass(&mut log, NOW);
    put(&mut log, &[("y", Some("1"))]);
    settle(&mut log).unwrap();
    pass(&mut log, Timestamp(NOW.0 + DAY));
    let kept = segment_bytes(&files, 2);
    let mut seen = split_batches(&kept).flat_map(|batch| records_of(&batch.unwrap()));
    assert_eq!(seen.next(), Some((2, "k".to_owned(), None)));
}

#[test]
fn an_index_that_lies_hides_no_key_from_a_pass() {
    // To a later batch, and into the middle of one.
    for astray in [0, 7] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        for round in 0..10 {
            let value = format!("value {round}");
            let key = if round % 5 == 0 { "k" } else { "a" };
            put(&mut log, &[(key, Some(&value)), ("b", Some(&value))]);
        }
        settle(&mut log).unwrap();
        let before = visible(&log);
        let size = log.size() / 10;
        let recovery_point = log.close().unwrap();
        let index = FileKind::OffsetIndex.path(Path::new(PARTITION), Offset(0));
        let mut bytes = crate::files::read_whole(&files, &index, 1000)
            .unwrap()
            .unwrap();
        assert!(bytes.len() > 8);
        for entry in bytes.chunks_mut(8) {
            let position = i32::try_from(6 * size).unwrap() + astray;
            entry[4..].copy_from_slice(&position.to_be_bytes());
        }
        let file = files.open(&index, Open::Write).unwrap();
        file.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
        // Half of the segment is dirty.
        let left = Left {
            is_clean: true,
            recovery_point,
            compacted_to: Some(Offset(10)),
            ..Left::default()
        };
        let (mut log, _) = open_as(&files, compacted(), left);
        pass(&mut log, NOW);
        assert_eq!(visible(&log), newest(&before, 20), "astray by {astray}");
    }
}

#[test]
fn a_replacement_that_a_full_disk_cuts_short_takes_the_directory_offline() {
    for (operation, nth) in [
        (Operation::Rename, 2),
        (Operation::Remove, 1),
        (Operation::Remove, 3),
        (Operation::Rename, 5),
    ] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        for round in 0..20 {
            let value = format!("value {round}");
            put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        }
        settle(&mut log).unwrap();
        let before = visible(&log);
        let recovery_point = log.recovery_point();
        let mut tools = tools(AMPLE);
        let mut pace = |_| ControlFlow::Continue(());
        let mut pass = log.begin_compaction(NOW).unwrap();
        pass.index(&mut tools, &mut pace).unwrap();
        let rewritten = pass.rewrite_next(&mut tools, &mut pace).unwrap().unwrap();
        files.fail_nth(operation, nth, ErrorKind::StorageFull);
        let replaced = log.replace_segments(rewritten);
        assert!(
            matches!(
                replaced,
                Err(CompactionError::Storage(StorageError::Offline { .. }))
            ),
            "{operation:?} {nth}: {replaced:?}"
        );
        // What is half done is left to the start.
        drop((pass, log));
        let left = Left {
            recovery_point,
            ..Left::default()
        };
        let (mut log, recovery) = open_as(&files.process_killed(), compacted(), left);
        assert_eq!(recovery.cut_off, None);
        try_pass(&mut log, AMPLE, NOW).unwrap();
        assert_eq!(visible(&log), newest(&before, 40), "{operation:?} {nth}");
    }
}

#[test]
fn a_pass_ends_when_it_cannot_remove_what_it_wrote_in_vain() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    let large = "x".repeat(1000);
    for key in ["a", "b"] {
        put(&mut log, &[(key, Some(&large))]);
        settle(&mut log).unwrap();
    }
    files.fail_nth(Operation::Remove, 1, ErrorKind::StorageFull);
    let outcome = try_pass(&mut log, AMPLE, NOW);
    assert!(
        matches!(
            outcome,
            Err(CompactionError::Storage(StorageError::Full { .. }))
        ),
        "{outcome:?}"
    );
    assert!(try_pass(&mut log, AMPLE, NOW).unwrap().is_some());
    let names = files.list(Path::new(PARTITION)).unwrap();
    assert!(names.iter().all(|entry| !entry.name.ends_with(".cleaned")));
}

#[test]
fn a_pass_that_is_given_up_leaves_no_word_of_a_replacement() {
    for replaces in [true, false] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        for round in 0..40 {
            let value = format!("value {round}");
            put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        }
        settle(&mut log).unwrap();
        let mut tools = tools(AMPLE);
        let mut pace = |_| ControlFlow::Continue(());
        let mut pass = log.begin_compaction(NOW).unwrap();
        pass.index(&mut tools, &mut pace).unwrap();
        let rewritten = pass.rewrite_next(&mut tools, &mut pace).unwrap().unwrap();
        let word = Path::new(PARTITION).join(REPLACEMENT);
        assert!(files.status(&word).unwrap().is_some());
        if replaces {
            log.replace_segments(rewritten).unwrap();
            pass.sync_names().unwrap();
        } else {
            log.truncate_to(Offset(70), NOW).unwrap();
            assert!(log.replace_segments(rewritten).is_err());
        }
        drop(pass);
        assert_eq!(files.status(&word).unwrap(), None);
    }
}

#[test]
fn a_compacted_log_is_not_taken_for_a_broken_one_when_the_recovery_point_is_lost() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..4 {
        // Too large to become one segment.
        let value = format!("{round}").repeat(700);
        let key = format!("key {round}");
        put(&mut log, &[(&key, Some(&value))]);
        put(&mut log, &[("a", Some("1"))]);
        settle(&mut log).unwrap();
    }
    pass(&mut log, NOW);
    let (after, segments) = (visible(&log), log.segment_count());
    assert_eq!((after.len(), segments), (5, 5));
    let left = Left {
        compacted_to: log.compacted_to(),
        ..Left::default()
    };
    let (log, recovery) = open_as(&files.process_killed(), compacted(), left);
    assert_eq!(recovery.cut_off, None);
    assert_eq!((visible(&log), log.segment_count()), (after, segments));
}

#[test]
fn an_aborted_transaction_keeps_its_index_entry_when_its_marker_cannot_be_read() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("1"))]);
    append(&mut log, &in_transaction(1, 0, &[("b", Some("aborted"))]));
    append(&mut log, &marker(1, 0));
    put(&mut log, &[("a", Some("2"))]);
    settle(&mut log).unwrap();
    let entries = log.aborted_transactions(Offset(0), Offset(4)).unwrap();
    assert_eq!(entries.len(), 1);
    let bytes = segment_bytes(&files, 0);
    let sizes = split_batches(&bytes).map(|batch| batch.unwrap().size());
    let at: usize = sizes.take(2).sum();
    // A byte of its record.
    spoil(&files, 0, at as u64 + 65);
    let outcome = pass(&mut log, NOW);
    assert_eq!(outcome.quarantine.len(), 1);
    assert!(outcome.stats.segments_after == 1);
    assert_eq!(
        log.aborted_transactions(Offset(0), Offset(4)).unwrap(),
        entries
    );
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
