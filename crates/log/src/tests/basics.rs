//! Append, read, roll, close and open again.

use super::fixture::*;
use crate::files::{File, Files, Open, Operation};
use crate::format::FileKind;
use crate::{
    AppendError, Bound, FirstBatch, Left, LogConfig, Origin, ProducerError, ReadError, ReadRequest,
    StorageError, TimeQuery,
};
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::BatchOptions;
use ottla_protocol::time::Timestamp;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;

#[test]
fn what_is_appended_is_read_back_across_segments() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    let mut expected = Vec::new();
    for index in 0..50 {
        let appended = append(&mut log, &plain(3, NOW.0 + index));
        assert_eq!(
            (appended.first_offset.0, appended.last_offset.0),
            (3 * index, 3 * index + 2)
        );
        expected.push((3 * index, 3));
    }
    assert!(log.segment_count() > 3);
    assert_eq!(summary(&read_all(&log, Offset(0))), expected);
    for offset in 0..150 {
        let first = summary(&read_all(&log, Offset(offset)))[0].0;
        assert_eq!(first, offset / 3 * 3);
    }
    assert_eq!(log.log_end_offset(), Offset(150));
}

#[test]
fn a_clean_stop_needs_no_reading_and_forgets_nothing() {
    let files = new_disk();
    files.set_clock(NOW.0);
    let mut log = new_log(&files, small_segments());
    for index in 0..20 {
        append(&mut log, &idempotent(7, 0, index * 2, 2));
    }
    log.set_high_watermark(Offset(40)).unwrap();
    let bytes = read_all(&log, Offset(0));
    let recovery_point = log.close().unwrap();
    assert_eq!(recovery_point, Offset(40));
    assert_eq!(files.open_handles(), 0);
    let mut log = reopen(&files, small_segments(), recovery_point);
    assert_eq!(read_all(&log, Offset(0)), bytes);
    assert_eq!(
        (log.high_watermark(), log.recovery_point()),
        (Offset(40), Offset(40))
    );
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(1)));
    // All that a producer may have in flight; the snapshot has the last one only.
    for sequence in [30, 32, 34, 36, 38] {
        let duplicate = append(&mut log, &idempotent(7, 0, sequence, 2));
        assert_eq!(
            (duplicate.first_offset, duplicate.duplicate_of),
            (Offset(i64::from(sequence)), Some(Timestamp(NOW.0 + 1)))
        );
    }
    assert_eq!(
        append(&mut log, &idempotent(7, 0, 40, 1)).first_offset,
        Offset(40)
    );
}

/// Clients choose the timestamps of their records, which may be years old.
#[test]
fn the_batches_in_flight_are_known_after_a_clean_stop_if_the_log_was_written_lately() {
    const HOUR: i64 = 60 * 60 * 1000;
    for (idle, known) in [(0, 5), (HOUR - 1, 5), (HOUR, 1), (-HOUR, 5)] {
        let files = new_disk();
        files.set_clock(NOW.0 - idle);
        let mut log = new_log(&files, small_segments());
        for index in 0..5 {
            let options = BatchOptions {
                producer_id: 7,
                producer_epoch: 0,
                base_sequence: index,
                ..BatchOptions::default()
            };
            append(&mut log, &batch(options, 1, NOW.0 - 20 * HOUR));
        }
        let recovery_point = log.close().unwrap();
        let log = reopen(&files, small_segments(), recovery_point);
        let producers = log.producers().producers();
        let found = producers[&ProducerId(7)].batches().len();
        assert_eq!(found, known, "idle for {idle} ms");
    }
}

#[test]
fn many_requests_are_one_write() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(1, NOW.0));
    let (first, second, third) = (
        idempotent(1, 0, 0, 2),
        idempotent(1, 0, 2, 1),
        idempotent(1, 0, 7, 1),
    );
    let requests = [&first, &second, &first, &third].map(|bytes| [bytes.as_slice()]);
    let batches = requests.map(|request| {
        request.map(|bytes| {
            crate::Batch::from(ottla_protocol::records::BatchView::first(bytes).unwrap())
        })
    });
    let requests: Vec<&[crate::Batch<'_>]> = batches.iter().map(<[_; 1]>::as_slice).collect();
    let writes = files.count(Operation::Write);
    let outcomes = log.append_as_leader(&requests, as_leader(Origin::Client));
    assert_eq!(files.count(Operation::Write), writes + 1);
    let offsets: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().ok().map(|done| done.first_offset.0))
        .collect();
    assert_eq!(offsets, [Some(1), Some(3), Some(1), None]);
    assert!(outcomes[2].as_ref().unwrap().duplicate_of.is_some());
    assert!(matches!(
        outcomes[3],
        Err(AppendError::Producer(ProducerError::OutOfOrderSequence {
            sequence: 7,
            last: 2,
            ..
        }))
    ));
    assert_eq!(
        summary(&read_all(&log, Offset(0))),
        [(0, 1), (1, 2), (3, 1)]
    );
}

#[test]
fn reading_is_bounded_and_refused_outside() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    for _ in 0..4 {
        append(&mut log, &plain(2, NOW.0));
    }
    log.set_high_watermark(Offset(4)).unwrap();
    let read = |offset, max_bytes, first_batch, bound| {
        let mut bytes = Vec::new();
        let request = ReadRequest {
            offset: Offset(offset),
            max_bytes,
            first_batch,
            bound,
        };
        log.read(&request)
            .map(|plan| plan.read(&mut bytes).map(|_| summary(&bytes)).unwrap())
    };
    let size = plain(2, NOW.0).len();
    assert_eq!(
        read(0, 1 << 20, FirstBatch::MustFit, Bound::HighWatermark).unwrap(),
        [(0, 2), (2, 2)]
    );
    assert_eq!(
        read(1, 1, FirstBatch::MayExceed, Bound::LogEnd).unwrap(),
        [(0, 2)]
    );
    assert_eq!(
        read(0, size - 1, FirstBatch::MustFit, Bound::LogEnd).unwrap(),
        []
    );
    assert_eq!(
        read(0, 2 * size - 1, FirstBatch::MustFit, Bound::LogEnd).unwrap(),
        [(0, 2)]
    );
    assert_eq!(
        read(4, 1 << 20, FirstBatch::MayExceed, Bound::HighWatermark).unwrap(),
        []
    );
    assert_eq!(
        read(8, 1 << 20, FirstBatch::MayExceed, Bound::LogEnd).unwrap(),
        []
    );
    for offset in [-1, 9] {
        let error = read(offset, 1, FirstBatch::MayExceed, Bound::LogEnd).unwrap_err();
        assert!(matches!(
            error,
            ReadError::OutOfRange {
                log_end: Offset(8),
                ..
            }
        ));
    }
}

#[test]
fn times_are_found_to_the_record() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for index in 0..40 {
        append(&mut log, &plain(3, 1000 + 10 * index));
    }
    let mut at = |query| {
        log.offset_at(query)
            .unwrap()
            .map(|found| (found.offset.0, found.timestamp.0))
    };
    assert_eq!(at(TimeQuery::Earliest), Some((0, -1)));
    assert_eq!(at(TimeQuery::Latest(Bound::LogEnd)), Some((120, -1)));
    assert_eq!(at(TimeQuery::MaxTimestamp), Some((119, 1392)));
    assert_eq!(at(TimeQuery::At(Timestamp(0))), Some((0, 1000)));
    assert_eq!(at(TimeQuery::At(Timestamp(1391))), Some((118, 1391)));
    assert_eq!(at(TimeQuery::At(Timestamp(1205))), Some((63, 1210)));
    assert_eq!(at(TimeQuery::At(Timestamp(1393))), None);
}

#[test]
fn readers_of_committed_records_stop_at_open_transactions_and_learn_of_aborted_ones() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    append(&mut log, &plain(1, NOW.0));
    append(&mut log, &transactional(5, 0, 2));
    append(&mut log, &transactional(6, 0, 1));
    log.set_high_watermark(Offset(4)).unwrap();
    assert_eq!(log.last_stable_offset(), Offset(1));
    append(&mut log, &marker(5, 0));
    log.set_high_watermark(Offset(4)).unwrap();
    assert_eq!(
        log.last_stable_offset(),
        Offset(1),
        "the marker is not below the high watermark yet"
    );
    log.set_high_watermark(Offset(5)).unwrap();
    assert_eq!(log.last_stable_offset(), Offset(3));
    append(&mut log, &marker(6, 1));
    log.set_high_watermark(Offset(6)).unwrap();
    assert_eq!(log.last_stable_offset(), Offset(6));
    let request = ReadRequest {
        offset: Offset(0),
        max_bytes: 1 << 20,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::LastStableOffset,
    };
    let aborted = log.read(&request).unwrap().aborted.unwrap();
    assert_eq!(aborted.len(), 1);
    assert_eq!(
        (
            aborted[0].producer_id.0,
            aborted[0].first_offset.0,
            aborted[0].last_offset.0
        ),
        (5, 1, 4)
    );
    assert_eq!(log.aborted_transactions(Offset(5), Offset(6)).unwrap(), []);
}

#[test]
fn a_full_disk_refuses_the_append_and_loses_nothing() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &idempotent(1, 0, 0, 1));
    let bytes = read_all(&log, Offset(0));
    let free = 10;
    files.limit_space(Some(log.size() + free + 1000));
    let big: Vec<u8> = (0..20)
        .flat_map(|index| idempotent(1, 0, 1 + index * 5, 5))
        .collect();
    let error = try_append(&mut log, &big).unwrap_err();
    assert!(
        matches!(error, AppendError::Storage(StorageError::Full { .. })),
        "{error}"
    );
    assert_eq!(read_all(&log, Offset(0)), bytes);
    files.limit_space(None);
    assert_eq!(
        append(&mut log, &big).first_offset,
        Offset(1),
        "the producer's state was not touched"
    );
}

#[test]
fn a_failed_write_takes_the_directory_offline() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(1, NOW.0));
    files.fail_nth(Operation::Write, 1, ErrorKind::Other);
    for _ in 0..2 {
        let error = try_append(&mut log, &plain(1, NOW.0)).unwrap_err();
        assert!(
            matches!(error, AppendError::Storage(StorageError::Offline { .. })),
            "{error}"
        );
    }
    assert!(directory_of(&log).failure().is_some());
    let request = ReadRequest {
        offset: Offset(0),
        max_bytes: 1,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::LogEnd,
    };
    assert!(matches!(log.read(&request), Err(ReadError::Storage(_))));
}

#[test]
fn damaged_bytes_are_refused_and_all_around_them_is_read() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for number in 0..30 {
        append(&mut log, &plain(3, NOW.0 + number));
    }
    let bases: Vec<Offset> = log.segments().bases().collect();
    let (base, next) = (bases[1], bases[2]);
    let point = log.close().unwrap();
    // The length of the second segment's first batch is nonsense.
    let path = FileKind::Log.path(&Path::new(ROOT).join("topic-0"), base);
    let file = files.open(&path, Open::Write).unwrap();
    file.write_at(&[IoSlice::new(&[0x55; 4])], 8).unwrap();
    let mut log = reopen(&files, small_segments(), point);
    let request = |offset| ReadRequest {
        offset,
        max_bytes: 100,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::LogEnd,
    };
    let refused = log.read(&request(base));
    let Err(ReadError::Storage(StorageError::Damaged {
        path: named,
        damage,
    })) = &refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(*named, path);
    assert_eq!((damage.position, damage.first_offset), (0, base));
    assert_eq!(damage.next_offset, base.plus(3));
    let says = refused.unwrap_err().to_string();
    assert!(says.contains("`ottla log repair /data`"), "{says}");
    assert!(directory_of(&log).failure().is_none());
    assert_eq!(log.read(&request(Offset(0))).unwrap().position, 0);
    let behind = read_all(&log, next);
    assert_eq!(summary(&behind).first(), Some(&(next.0, 3)));
    assert_eq!(append(&mut log, &plain(1, NOW.0)).first_offset, Offset(90));
    log.apply_retention(Timestamp(NOW.0 + 1)).unwrap();
    assert!(directory_of(&log).failure().is_none());
}

#[test]
fn a_segment_that_fills_fast_reserves_space_and_gives_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 40 << 20,
        ..LogConfig::default()
    };
    let root = directory.path().to_str().unwrap();
    let (mut log, _) = try_open(&crate::files::disk::Disk, root, config, Left::default()).unwrap();
    let big = batch_of(1 << 20);
    for _ in 0..6 {
        append(&mut log, &big);
    }
    let path = log.path().join("00000000000000000000.log");
    let allocated =
        || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap()) * 512;
    let length = || std::fs::metadata(&path).unwrap().len();
    assert_eq!(length(), log.size());
    let reserved = allocated();
    log.apply_retention(Timestamp(NOW.0 + 70_000)).unwrap();
    assert_eq!(length(), log.size());
    // Where the file system cannot reserve there is nothing to give back.
    assert!(reserved < log.size() + (8 << 20) || allocated() < log.size() + (8 << 20));
    assert_eq!(summary(&read_all(&log, Offset(0))).len(), 6);
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    for _ in 0..6 {
        append(&mut log, &big);
    }
    assert_eq!(files.count(Operation::Reserve), 1);
}

fn batch_of(bytes: usize) -> Vec<u8> {
    use ottla_protocol::records::{BatchBuilder, BatchOptions};
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW.0, None, Some(&vec![1; bytes]), &[]);
    builder.build().unwrap()
}
