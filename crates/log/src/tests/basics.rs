//! Append, read, roll, close and open again.

use super::fixture::*;
use crate::checkpoint::{read_leader_epochs, read_topic_id};
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, Operation};
use crate::format::FileKind;
use crate::{
    AppendError, Bound, FirstBatch, Left, LogConfig, LogDirectory, OpenFiles, OpenLog, Origin,
    PartitionLog, ProducerError, ReadError, ReadRequest, StorageError, TimeQuery,
};
use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use ottla_protocol::time::Timestamp;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

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
    let duplicate = append(&mut log, &idempotent(7, 0, 38, 2));
    assert_eq!(
        (duplicate.first_offset, duplicate.duplicate_of),
        (Offset(38), Some(Timestamp(NOW.0 + 1)))
    );
    assert_eq!(
        append(&mut log, &idempotent(7, 0, 40, 1)).first_offset,
        Offset(40)
    );
}

#[test]
fn closing_does_not_rely_on_a_flush_that_is_under_way() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for _ in 0..20 {
        append(&mut log, &plain(2, NOW.0));
    }
    let flush = log.begin_flush().unwrap().unwrap();
    append(&mut log, &plain(2, NOW.0));
    assert_eq!(log.close().unwrap(), Offset(42));
    for seed in 0..20 {
        let log = reopen(&files.power_cut(seed), small_segments(), Offset(42));
        assert_eq!(log.log_end_offset(), Offset(42));
        assert_eq!(summary(&read_all(&log, Offset(0))).len(), 21);
    }
    drop(flush);
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
fn a_failed_sync_is_never_tried_again() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(1, NOW.0));
    files.fail_nth(Operation::Sync, 1, ErrorKind::StorageFull);
    assert!(log.flush().is_err());
    let syncs = files.count(Operation::Sync);
    assert!(log.flush().is_err() || log.flushed_offset() == Offset(0));
    assert_eq!(
        (files.count(Operation::Sync), log.flushed_offset()),
        (syncs, Offset(0))
    );
}

#[test]
fn beginning_an_epoch_costs_no_sync_and_is_written_down_at_the_end() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(2, NOW.0));
    let end = log.close().unwrap();
    let syncs =
        |files: &Simulated| files.count(Operation::Sync) + files.count(Operation::SyncDirectory);
    let before = syncs(&files);
    let mut log = reopen(&files, LogConfig::default(), end);
    log.begin_epoch(LeaderEpoch(5));
    log.flush().unwrap();
    assert_eq!(syncs(&files), before);
    try_append_in(LeaderEpoch(5), &mut log, &plain(2, NOW.0)).unwrap();
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(5)));
    let end = log.close().unwrap();
    let log = reopen(&files.power_cut(1), LogConfig::default(), end);
    assert_eq!(log.leader_epochs().entries().count(), 2);
}

/// That all before `end` is on stable storage.
fn assert_survives_power_cuts(files: &Simulated, end: Offset) {
    for seed in 0..20 {
        let log = new_log(&files.power_cut(seed), small_segments());
        assert_eq!(log.log_end_offset(), end, "seed {seed}");
    }
}

#[test]
fn a_flush_that_could_not_begin_is_made_up_for_by_the_next() {
    let files = new_disk();
    // So few that a flush must open the closed segments.
    let directory = directory_with_open_files(&files, 1);
    let mut log = small_log_in(&directory, "topic-0");
    for _ in 0..40 {
        append(&mut log, &plain(1, NOW.0));
    }
    assert!(log.segment_count() > 2, "closed segments are to be synced");
    // Any failure of opening that leaves the directory online, as a lack of descriptors does.
    files.fail_nth(Operation::Open, 1, ErrorKind::StorageFull);
    assert!(log.begin_flush().is_err());
    log.flush().unwrap();
    assert_eq!(log.flushed_offset(), Offset(40));
    assert_survives_power_cuts(&files, Offset(40));
}

#[test]
fn a_flush_that_did_not_run_is_made_up_for_by_the_next() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for _ in 0..40 {
        append(&mut log, &plain(1, NOW.0));
    }
    let flush = log.begin_flush().unwrap().unwrap();
    assert!(log.begin_flush().unwrap().is_none(), "one at a time");
    log.abandon_flush(&flush);
    log.flush().unwrap();
    assert_eq!(log.flushed_offset(), Offset(40));
    assert_survives_power_cuts(&files, Offset(40));
}

#[test]
fn a_partition_that_is_deleted_during_its_flush_does_not_take_the_directory_offline() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(1, NOW.0));
    log.flush().unwrap();
    log.begin_epoch(LeaderEpoch(9));
    append(&mut log, &plain(1, NOW.0));
    log.roll(NOW).unwrap();
    let checkpoint = log.begin_checkpoint().unwrap().unwrap();
    let flush = log.begin_flush().unwrap().unwrap();
    let renamed = Path::new("/data/topic-0.1-delete");
    files.rename(log.path(), renamed).unwrap();
    flush.run().unwrap();
    checkpoint.run().unwrap();
    assert!(directory_of(&log).failure().is_none());
}

fn directory_with_open_files(files: &Simulated, limit: usize) -> Arc<LogDirectory<Simulated>> {
    LogDirectory::sharing(files.clone(), ROOT, Arc::new(OpenFiles::new(limit)))
}

fn small_log_in(directory: &Arc<LogDirectory<Simulated>>, name: &str) -> PartitionLog<Simulated> {
    let open = OpenLog {
        directory: Arc::clone(directory),
        name: name.to_owned(),
        config: small_segments(),
        topic_id: None,
        left: Left::default(),
    };
    PartitionLog::open(open, NOW, &mut |_| {}).unwrap().0
}

#[test]
fn only_a_bounded_number_of_files_stays_open() {
    let files = new_disk();
    let directory = directory_with_open_files(&files, 5);
    let mut log = small_log_in(&directory, "t-0");
    for _ in 0..200 {
        append(&mut log, &plain(3, NOW.0));
    }
    assert!(log.segment_count() > 20);
    read_all(&log, Offset(0));
    assert!(files.open_handles() <= 5, "{}", files.open_handles());
    assert!(files.list(Path::new("/data/t-0")).unwrap().len() > 60);
}

#[test]
fn however_many_segments_are_dirty_few_files_are_open_to_sync_them() {
    let files = new_disk();
    let directory = directory_with_open_files(&files, 3);
    let mut log = small_log_in(&directory, "topic-0");
    let append_many = |log: &mut PartitionLog<Simulated>| {
        for _ in 0..200 {
            append(log, &plain(1, NOW.0));
        }
    };
    append_many(&mut log);
    assert!(log.segment_count() > 15);
    let flush = log.begin_flush().unwrap().unwrap();
    assert!(files.open_handles() <= 3, "{}", files.open_handles());
    flush.run().unwrap();
    log.complete_flush(&flush);
    assert_survives_power_cuts(&files, Offset(200));
    let checkpoint = log.begin_checkpoint().unwrap().unwrap();
    assert!(files.open_handles() <= 3, "{}", files.open_handles());
    checkpoint.run().unwrap();
    assert_eq!(log.complete_checkpoint(&checkpoint), Offset(200));
    append_many(&mut log);
    let close = log.begin_close().unwrap();
    assert!(files.open_handles() <= 3, "{}", files.open_handles());
    close.run().unwrap();
    assert_eq!(close.end().offset, Offset(400));
    assert_survives_power_cuts(&files, Offset(400));
}

#[test]
fn many_partitions_share_few_open_files_and_lose_nothing() {
    let files = new_disk();
    let directory = directory_with_open_files(&files, 3);
    let mut logs: Vec<_> = (0..20)
        .map(|number| small_log_in(&directory, &format!("t-{number}")))
        .collect();
    for _ in 0..30 {
        for log in &mut logs {
            append(log, &plain(3, NOW.0));
            assert!(files.open_handles() <= 3, "{}", files.open_handles());
        }
    }
    for log in &mut logs {
        log.flush().unwrap();
        assert_eq!(log.flushed_offset(), Offset(90));
        assert_eq!(summary(&read_all(log, Offset(0))).len(), 30);
    }
    assert!(files.open_handles() <= 3, "{}", files.open_handles());
}

#[test]
fn logs_that_are_recovered_together_are_durable_after_two_syncs() {
    let before = new_disk();
    let directory = directory_with_open_files(&before, 3);
    let names: Vec<_> = (0..20).map(|number| format!("t-{number}")).collect();
    for name in &names {
        let mut log = small_log_in(&directory, name);
        for _ in 0..30 {
            append(&mut log, &plain(3, NOW.0));
        }
    }
    // Nothing of that is synced: it is there because only the process was killed.
    let files = before.process_killed();
    let directory = directory_with_open_files(&files, 3);
    let open = |directory: &Arc<LogDirectory<Simulated>>, name: &String| {
        let open = OpenLog {
            directory: Arc::clone(directory),
            name: name.clone(),
            config: small_segments(),
            topic_id: None,
            left: Left::default(),
        };
        PartitionLog::open_unsynced(open, NOW, &mut |_| {})
            .unwrap()
            .0
    };
    let mut logs: Vec<_> = names.iter().map(|name| open(&directory, name)).collect();
    let syncs = |operation| files.count(operation);
    let (files_synced, directories) = (syncs(Operation::Sync), syncs(Operation::SyncDirectory));
    crate::sync_recovered(&mut logs).unwrap();
    assert_eq!(syncs(Operation::Sync), files_synced);
    assert_eq!(syncs(Operation::SyncDirectory), directories);
    assert_eq!(syncs(Operation::SyncFileSystem), 2);
    for log in &logs {
        assert_eq!(
            (log.recovery_point(), log.flushed_offset()),
            (Offset(90), Offset(90))
        );
    }
    for seed in 0..20 {
        let files = files.power_cut(seed);
        let directory = directory_with_open_files(&files, 3);
        for name in &names {
            let log = open(&directory, name);
            assert_eq!(log.log_end_offset(), Offset(90), "{name}, seed {seed}");
            assert_eq!(
                read_leader_epochs(&files, log.path()).unwrap(),
                *log.leader_epochs()
            );
        }
    }
}

#[test]
fn logs_that_are_made_together_are_known_after_two_syncs() {
    let files = new_disk();
    let directory = directory_with_open_files(&files, 3);
    let id = Uuid::from_parts(3, 4);
    let open = |name: &str| {
        let open = OpenLog {
            directory: Arc::clone(&directory),
            name: name.to_owned(),
            config: small_segments(),
            topic_id: Some(id),
            left: Left {
                is_clean: true,
                ..Left::default()
            },
        };
        PartitionLog::open_unsynced(open, NOW, &mut |_| {})
            .unwrap()
            .0
    };
    let syncs = || {
        let kinds = [
            Operation::Sync,
            Operation::SyncDirectory,
            Operation::SyncFileSystem,
        ];
        kinds.map(|kind| files.count(kind))
    };
    let [sync, directories, _] = syncs();
    let mut logs: Vec<_> = (0..20).map(|number| open(&format!("t-{number}"))).collect();
    let is_known = |files: &Simulated, number: u32| {
        let path = format!("/data/t-{number}");
        read_topic_id(files, Path::new(&path)).unwrap_or_default() == Some(id)
    };
    assert!(!(0..20).any(|number| is_known(&files, number)));
    crate::sync_recovered(&mut logs).unwrap();
    assert_eq!(syncs(), [sync, directories, 2]);
    for seed in 0..20 {
        let files = files.power_cut(seed);
        assert!(
            (0..20).all(|number| is_known(&files, number)),
            "seed {seed}"
        );
        assert!(
            files
                .open(Path::new("/data/t-7/00000000000000000000.log"), Open::Read)
                .is_ok()
        );
    }
    // One alone is as durable, without touching the rest of the file system.
    let mut alone = open("t-20");
    crate::sync_recovered(std::slice::from_mut(&mut alone)).unwrap();
    assert_eq!(files.count(Operation::SyncFileSystem), 2);
    assert!((0..20).all(|seed| is_known(&files.power_cut(seed), 20)));
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
