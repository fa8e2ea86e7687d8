//! Bugs that the torture found, each reduced to a short test.

use super::compaction::{compacted, keyed, put, settle, tools, try_pass};
use super::fixture::*;
use super::open_files::{directory_with_open_files, small_log_in};
use crate::compaction::CompactionError;
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, Operation};
use crate::{Batch, Left, LogConfig, Origin, StorageError, TimeQuery, TrimError};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchOptions, split_batches};
use ottla_protocol::time::Timestamp;
use std::io::{ErrorKind, IoSlice};
use std::ops::ControlFlow;
use std::path::Path;

const SEGMENT: &str = "/data/topic-0/00000000000000000000";

fn unclean(recovery_point: Offset) -> Left {
    Left {
        recovery_point,
        ..Left::default()
    }
}

/// Leaves space for `bytes` more bytes.
fn leave_space(files: &Simulated, bytes: u64) {
    const AMPLE: u64 = 1 << 40;
    files.limit_space(Some(AMPLE));
    let free = files.space(Path::new(ROOT)).unwrap().free;
    files.limit_space(Some(AMPLE - free + bytes));
}

#[test]
fn an_abort_is_known_though_the_disk_has_no_room_for_its_index() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &transactional(7, 0, 2));
    let end = marker(7, 0);
    leave_space(&files, end.len() as u64);
    append(&mut log, &end);
    let aborted = |log: &Log| log.aborted_transactions(Offset(0), Offset(3)).unwrap();
    let expected = aborted(&log);
    assert_eq!(expected.len(), 1);
    // A start finds it without writing it, and a checkpoint does not pass it.
    let full = files.process_killed();
    leave_space(&full, 0);
    let (reopened, _) = open_as(&full, LogConfig::default(), unclean(Offset(0)));
    assert_eq!(aborted(&reopened), expected);
    log.flush().unwrap();
    assert!(matches!(
        log.begin_checkpoint(),
        Err(StorageError::Full { .. })
    ));
    files.limit_space(None);
    let point = checkpoint(&mut log);
    let (reopened, _) = open_as(&files.power_cut(1), LogConfig::default(), unclean(point));
    assert_eq!((point, aborted(&reopened)), (Offset(3), expected));
}

#[test]
fn index_entries_wait_when_descriptors_are_lacking_and_no_offset_is_given_twice() {
    let files = new_disk();
    let config = LogConfig {
        index_interval_bytes: 1,
        ..LogConfig::default()
    };
    let mut log = new_log(&files, config);
    append(&mut log, &plain(1, NOW.0));
    for kind in ["index", "timeindex"] {
        let path = format!("{SEGMENT}.{kind}");
        log.directory().forget(path.as_ref());
    }
    files.limit_handles(Some(0));
    let mut next = 1;
    while next < 100 {
        match try_append(&mut log, &plain(1, NOW.0)) {
            Ok(appended) => {
                assert_eq!(appended.first_offset, Offset(next));
                next += 1;
            }
            // All files were closed, and now the batches cannot be written either.
            Err(_) => files.limit_handles(None),
        }
    }
    let all: Vec<_> = (0..100).map(|offset| (offset, 1)).collect();
    assert_eq!(summary(&read_all(&log, Offset(0))), all);
}

#[test]
fn an_index_that_a_start_made_anew_survives_a_power_cut() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for number in 0..30 {
        // The largest of a segment comes first.
        append(&mut log, &plain(1, NOW.0 - number));
    }
    assert!(log.segment_count() > 2);
    let end = log.close().unwrap();
    let time_index = format!("{SEGMENT}.timeindex");
    files.remove(time_index.as_ref()).unwrap();
    drop(reopen(&files, small_segments(), end));
    for seed in 0..30 {
        let files = files.power_cut(seed);
        let (mut log, _) = open_as(&files, small_segments(), unclean(end));
        let found = log.offset_at(TimeQuery::At(NOW)).unwrap();
        let found = found.map(|found| found.offset);
        assert_eq!(found, Some(Offset(0)), "seed {seed}");
    }
}

#[test]
fn what_a_failed_sync_left_in_memory_is_written_again_by_the_next_start() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    for _ in 0..5 {
        append(&mut log, &plain(2, NOW.0));
    }
    files.fail_nth(Operation::Sync, 1, ErrorKind::Other);
    log.flush().unwrap_err();
    // The process is started again, and still sees what was never written to the disk.
    let files = files.process_killed();
    let (log, _) = open_as(&files, LogConfig::default(), unclean(Offset(0)));
    assert_eq!(log.flushed_offset(), Offset(10));
    for seed in 0..20 {
        let files = files.power_cut(seed);
        let (log, _) = open_as(&files, LogConfig::default(), unclean(Offset(0)));
        assert_eq!(log.log_end_offset(), Offset(10), "seed {seed}");
    }
}

#[test]
fn bytes_behind_the_last_batch_of_a_closed_segment_go_and_nothing_else() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(2, NOW.0));
    let point = checkpoint(&mut log);
    let size = log.size();
    log.roll(NOW).unwrap();
    append(&mut log, &plain(2, NOW.0));
    log.flush().unwrap();
    let path = format!("{SEGMENT}.log");
    let file = files.open(path.as_ref(), Open::Write).unwrap();
    file.write_at(&[IoSlice::new(b"of an append that was refused")], size)
        .unwrap();
    drop(file);
    let files = files.process_killed();
    let (log, recovery) = open_as(&files, LogConfig::default(), unclean(point));
    assert_eq!(log.log_end_offset(), Offset(4));
    assert_eq!(recovery.cut_off.unwrap().segments, 0);
    let length = files.status(path.as_ref()).unwrap().unwrap().length;
    assert_eq!(length, size);
}

#[test]
fn records_are_not_deleted_on_a_disk_that_has_failed() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(2, NOW.0));
    log.flush().unwrap();
    log.set_high_watermark(Offset(2)).unwrap();
    append(&mut log, &plain(2, NOW.0));
    files.fail_nth(Operation::Sync, 1, ErrorKind::Other);
    log.flush().unwrap_err();
    assert!(matches!(
        log.delete_records(None, NOW),
        Err(TrimError::Storage(StorageError::Offline { .. }))
    ));
    assert_eq!(log.log_start_offset(), Offset(0));
}

#[test]
fn a_power_cut_within_a_truncation_leaves_no_gap() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for _ in 0..30 {
        append(&mut log, &plain(1, NOW.0));
    }
    assert!(log.segment_count() > 2);
    let end = log.close().unwrap();
    for cut in 0..40 {
        let files = files.process_killed();
        let mut log = reopen(&files, small_segments(), end);
        files.cut_power_after(cut);
        let _ = log.truncate_to(Offset(3), NOW);
        for seed in 0..5 {
            // The recovery points are not in the checkpoint yet.
            let files = files.power_cut(cut * 10 + seed);
            let (log, _) = open_as(&files, small_segments(), unclean(end));
            let batches = summary(&read_all(&log, Offset(0)));
            let whole: Vec<_> = (0..log.log_end_offset().0).map(|at| (at, 1)).collect();
            assert_eq!(batches, whole, "power cut after {cut} changes, seed {seed}");
        }
    }
}

#[test]
fn a_compaction_that_lacks_a_descriptor_fails_alone() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for _ in 0..20 {
        put(&mut log, &[("a", Some("value")), ("b", Some("value"))]);
    }
    settle(&mut log).unwrap();
    let mut tools = tools(1 << 16);
    let mut pace = |_| ControlFlow::Continue(());
    let mut pass = log.begin_compaction(NOW).unwrap();
    pass.index(&mut tools, &mut pace).unwrap();
    let rewritten = pass.rewrite_next(&mut tools, &mut pace).unwrap().unwrap();
    log.replace_segments(rewritten).unwrap();
    files.limit_handles(Some(0));
    assert!(matches!(
        pass.sync_names(),
        Err(CompactionError::Storage(
            StorageError::TooManyOpenFiles { .. }
        ))
    ));
    assert!(directory_of(&log).failure().is_none());
}

#[test]
fn a_write_that_did_not_fit_leaves_no_gap_before_what_is_appended_with_it() {
    let files = new_disk();
    let config = LogConfig {
        segment_bytes: 200,
        ..LogConfig::default()
    };
    let mut log = new_log(&files, config);
    // The first two do not fit into one segment, and the disk has room for the third only.
    let requests = [plain(3, NOW.0), plain(3, NOW.0), plain(1, NOW.0)];
    assert!(requests[0].len() < 200 && requests[0].len() + requests[1].len() > 200);
    leave_space(&files, requests[2].len() as u64);
    let batches: Vec<Vec<Batch<'_>>> = requests
        .iter()
        .map(|bytes| vec![Batch::from(split_batches(bytes).next().unwrap().unwrap())])
        .collect();
    let slices: Vec<&[Batch<'_>]> = batches.iter().map(Vec::as_slice).collect();
    let outcomes = log.append_as_leader(&slices, as_leader(Origin::Client));
    let first: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.ok().map(|appended| appended.first_offset))
        .collect();
    assert_eq!(first, [None, None, Some(Offset(0))]);
    assert_eq!(summary(&read_all(&log, Offset(0))), [(0, 1)]);
}

#[test]
fn a_segment_that_comes_back_by_a_power_cut_has_its_aborted_transactions() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &transactional(7, 0, 2));
    append(&mut log, &marker(7, 0));
    log.roll(NOW).unwrap();
    append(&mut log, &plain(1, NOW.0));
    let point = checkpoint(&mut log);
    log.set_high_watermark(Offset(4)).unwrap();
    log.delete_records(Some(Offset(3)), NOW).unwrap();
    let mut came_back = 0;
    for seed in 0..50 {
        let files = files.power_cut(seed);
        let (log, _) = open_as(&files, LogConfig::default(), unclean(point));
        if log.log_start_offset() == Offset(0) {
            let aborted = log.aborted_transactions(Offset(0), Offset(3)).unwrap();
            assert_eq!(aborted.len(), 1, "seed {seed}");
            came_back += 1;
        }
    }
    assert!(came_back > 0);
}

#[test]
fn a_checkpoint_under_way_writes_nothing_into_the_directory_of_the_next_of_its_name() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(2, NOW.0));
    log.flush().unwrap();
    let checkpoint = log.begin_checkpoint().unwrap().unwrap();
    log.retire();
    let path = Path::new("/data/topic-0");
    files
        .rename(path, Path::new("/data/topic-0-delete"))
        .unwrap();
    drop(new_log(&files, LogConfig::default()));
    checkpoint.run().unwrap();
    let epochs = crate::checkpoint::read_leader_epochs(&files, path).unwrap();
    assert_eq!(epochs.latest(), None);
}

#[test]
fn a_torn_batch_without_its_offset_says_nothing_of_the_batches_before_the_recovery_point() {
    let files = new_disk();
    // Every batch is indexed, and reading begins at the last one.
    let config = LogConfig {
        index_interval_bytes: 1,
        ..LogConfig::default()
    };
    let mut log = new_log(&files, config.clone());
    for _ in 0..8 {
        append(&mut log, &plain(1, NOW.0));
    }
    let point = checkpoint(&mut log);
    // The sector with the base offset, which no checksum covers, was not written: it is 0.
    let path = format!("{SEGMENT}.log");
    let file = files.open(path.as_ref(), Open::Write).unwrap();
    file.write_at(&[IoSlice::new(&plain(1, NOW.0))], log.size())
        .unwrap();
    drop(file);
    let left = Left {
        log_start: Offset(2),
        ..unclean(point)
    };
    let (log, recovery) = open_as(&files.process_killed(), config, left);
    assert_eq!(log.log_end_offset(), Offset(8));
    assert_eq!(recovery.damage, []);
    assert!(recovery.cut_off.is_some());
}

/// Milliseconds from [`NOW`] to the record of each batch of [`new_log_of_steps`]. The largest is not the last.
const STEPS: [i64; 6] = [0, 10, 50, 20, 30, 40];

/// Makes a log of batches with these timestamps, each with its index entries; returns the recovery point after them.
fn new_log_of_steps(files: &Simulated) -> Offset {
    let mut log = new_log(files, all_indexed());
    for step in STEPS {
        append(&mut log, &plain(1, NOW.0 + step));
    }
    checkpoint(&mut log)
}

fn all_indexed() -> LogConfig {
    LogConfig {
        index_interval_bytes: 1,
        ..LogConfig::default()
    }
}

/// Compares what searches by time find in a log of [`new_log_of_steps`].
fn assert_found_by_time(log: &mut Log, what: &str) {
    for step in STEPS {
        let found = log.offset_at(TimeQuery::At(Timestamp(NOW.0 + step)));
        let found = found.unwrap().map(|found| found.offset.0);
        let first = (0..).zip(STEPS).find(|(_, other)| *other >= step);
        assert_eq!(found, first.map(|(offset, _)| offset), "{what}, {step} ms");
    }
}

/// Entries that stayed in memory on a full disk were later written into the index files, and a power cut left one of
/// the two.
#[test]
fn indexes_made_anew_on_a_full_disk_are_whole_after_a_power_cut() {
    let files = new_disk();
    let point = new_log_of_steps(&files);
    files
        .remove(format!("{SEGMENT}.timeindex").as_ref())
        .unwrap();
    let clean = Left {
        is_clean: true,
        ..unclean(point)
    };
    for left in [clean, unclean(point)] {
        let files = files.process_killed();
        leave_space(&files, 0);
        let (mut log, _) = open_as(&files, all_indexed(), left);
        files.limit_space(None);
        append(&mut log, &plain(1, NOW.0));
        log.roll(NOW).unwrap();
        assert_found_by_time(&mut log, "in memory");
        for seed in 0..50 {
            let (mut log, _) = open_as(&files.power_cut(seed), all_indexed(), unclean(point));
            assert_found_by_time(&mut log, &format!("{left:?}, seed {seed}"));
        }
        let point = checkpoint(&mut log);
        assert_found_by_time(&mut log, "on file");
        let reopened = open_as(&files.power_cut(1), all_indexed(), unclean(point));
        let (mut log, recovery) = reopened;
        assert_found_by_time(&mut log, "after a checkpoint");
        assert_eq!(recovery.indexes_rebuilt, 0);
    }
}

/// Both indexes were emptied and written again in place, and a power cut left one of the two.
#[test]
fn indexes_made_anew_because_they_lied_are_whole_after_a_power_cut() {
    let files = new_disk();
    let point = new_log_of_steps(&files);
    let index = files
        .open(format!("{SEGMENT}.index").as_ref(), Open::Write)
        .unwrap();
    // The position in its first entry.
    index.write_at(&[IoSlice::new(&[0x7F; 4])], 4).unwrap();
    index.sync_data().unwrap();
    drop(index);
    for changes in 0..30 {
        let files = files.process_killed();
        files.cut_power_after(changes);
        let opened = try_open(&files, ROOT, all_indexed(), unclean(point)).map(drop);
        assert!(changes < 29 || opened.is_ok(), "more changes than these");
        for seed in 0..20 {
            let (mut log, _) = open_as(&files.power_cut(seed), all_indexed(), unclean(point));
            assert_found_by_time(&mut log, &format!("cut after {changes}, seed {seed}"));
        }
    }
}

/// An index that was truncated to zero was never synced: an entry came back, and hid committed records.
#[test]
fn an_aborted_transaction_that_was_cut_off_does_not_come_back() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(1, NOW.0));
    let point = checkpoint(&mut log);
    let cut_at = log.size();
    append(&mut log, &transactional(7, 0, 2));
    append(&mut log, &marker(7, 0));
    checkpoint(&mut log);
    drop(log);
    for by_recovery in [false, true] {
        let files = files.process_killed();
        let mut log = if by_recovery {
            let path = format!("{SEGMENT}.log");
            let file = files.open(path.as_ref(), Open::Write).unwrap();
            file.truncate(cut_at).unwrap();
            open_as(&files, LogConfig::default(), unclean(point)).0
        } else {
            let mut log = open_as(&files, LogConfig::default(), unclean(Offset(4))).0;
            assert!(log.truncate_to(point, NOW).unwrap());
            log
        };
        assert_eq!(log.log_end_offset(), point);
        append(&mut log, &plain(9, NOW.0));
        let end = log.close().unwrap();
        for seed in 0..20 {
            let log = reopen(&files.power_cut(seed), LogConfig::default(), end);
            let aborted = log.aborted_transactions(Offset(0), end).unwrap();
            assert_eq!(aborted, [], "by recovery: {by_recovery}, seed {seed}");
        }
    }
}

/// The records of the earlier transaction were deleted, so a start makes no entry for it. Its marker made a torn entry
/// of a later one look like damage.
#[test]
fn a_torn_aborted_transaction_is_no_damage_where_an_earlier_one_was_deleted() {
    for log_start in [Offset(2), Offset(4)] {
        let files = new_disk();
        let mut log = new_log(&files, LogConfig::default());
        append(&mut log, &transactional(7, 0, 2));
        append(&mut log, &marker(7, 0));
        append(&mut log, &plain(1, NOW.0));
        log.flush().unwrap();
        drop(log);
        let left = |recovery_point| Left {
            log_start,
            ..unclean(recovery_point)
        };
        let (mut log, _) = open_as(
            &files.process_killed(),
            LogConfig::default(),
            left(Offset(0)),
        );
        assert_eq!(log.aborted_transactions(Offset(0), Offset(4)).unwrap(), []);
        let point = log.recovery_point();
        append(&mut log, &transactional(8, 0, 2));
        append(&mut log, &marker(8, 0));
        let files = directory_of(&log).files().clone();
        drop(log);
        for seed in 0..50 {
            let (log, _) = open_as(&files.power_cut(seed), LogConfig::default(), left(point));
            let end = log.log_end_offset();
            let aborted = log.aborted_transactions(log_start, end).unwrap();
            assert_eq!(aborted.len(), usize::from(end == Offset(7)), "seed {seed}");
        }
    }
}

/// Compaction removed the producer's last durable batch because of a newer one, which a power cut then lost. A retry
/// was appended twice.
#[test]
fn a_producer_whose_newest_batch_is_lost_is_known_by_the_one_before() {
    let of_producer = |base_sequence| {
        let options = BatchOptions {
            producer_id: 7,
            producer_epoch: 0,
            base_sequence,
            ..BatchOptions::default()
        };
        keyed(options, &[("a", Some("value"))])
    };
    for newer in [1, 6] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        append(&mut log, &of_producer(0));
        put(&mut log, &[("a", Some("newer"))]);
        settle(&mut log).unwrap();
        // With more batches than are remembered, the durable one is not among them.
        for sequence in 1..=newer {
            append(&mut log, &of_producer(sequence));
        }
        assert!(try_pass(&mut log, 1 << 16, NOW).unwrap().is_some());
        let left = unclean(log.recovery_point());
        for seed in 0..20 {
            let files = files.power_cut(seed);
            // A snapshot would hide what the batches have.
            for entry in files.list(Path::new("/data/topic-0")).unwrap() {
                if entry.name.ends_with(".snapshot") {
                    let path = Path::new("/data/topic-0").join(entry.name);
                    files.remove(&path).unwrap();
                }
            }
            let (mut log, _) = open_as(&files, compacted(), left);
            let newest = log.log_end_offset().0 - 2;
            let again = append(
                &mut log,
                &of_producer(i32::try_from(newest.max(0)).unwrap()),
            );
            assert!(again.duplicate_of.is_some(), "{newer} newer, seed {seed}");
        }
    }
}

/// A flush that ran while a truncation failed half-way ended in a panic.
#[test]
fn a_flush_that_ends_after_a_failed_truncation_is_only_an_error() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for _ in 0..40 {
        append(&mut log, &plain(3, NOW.0));
    }
    log.flush().unwrap();
    log.set_high_watermark(log.log_end_offset()).unwrap();
    append(&mut log, &plain(3, NOW.0));
    let flush = log.begin_flush().unwrap().unwrap();
    flush.run().unwrap();
    files.fail_nth(Operation::Read, 1, ErrorKind::Other);
    let truncated = log.truncate_to(Offset(4), NOW);
    assert!(matches!(truncated, Err(StorageError::Offline { .. })));
    log.complete_flush(&flush);
    assert!(try_append(&mut log, &plain(1, NOW.0)).is_err());
}

/// Readers of committed records were refused: the index had an abort after the end of the log.
#[test]
fn an_abort_that_a_truncation_cut_short_left_behind_is_forgotten() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    let size = append(&mut log, &plain(1, NOW.0)).bytes;
    append(&mut log, &transactional(7, 0, 2));
    append(&mut log, &marker(7, 0));
    log.flush().unwrap();
    drop(log);
    let path = format!("{SEGMENT}.log");
    let batches = files.open(Path::new(&path), Open::Write).unwrap();
    batches.truncate(size).unwrap();
    drop(batches);
    let (log, _) = open_as(&files, LogConfig::default(), unclean(Offset(4)));
    let end = log.log_end_offset();
    assert_eq!(end, Offset(1));
    assert_eq!(log.aborted_transactions(Offset(0), end).unwrap(), []);
}

/// The log start offset moved, and the last stable offset stayed at the transaction before it: readers of committed
/// records waited at the log start for nothing.
#[test]
fn records_of_an_open_transaction_are_not_deleted_where_their_segment_cannot_be_opened() {
    let files = new_disk();
    let directory = directory_with_open_files(&files, 1);
    let mut log = small_log_in(&directory, "topic-0");
    append(&mut log, &transactional(1, 0, 2));
    for _ in 0..30 {
        append(&mut log, &plain(1, NOW.0));
    }
    log.flush().unwrap();
    log.set_high_watermark(Offset(32)).unwrap();
    assert_eq!(log.last_stable_offset(), Offset(0));
    files.limit_handles(Some(0));
    log.delete_records(Some(Offset(9)), NOW).unwrap_err();
    assert_eq!(log.log_start_offset(), Offset(0));
    files.limit_handles(None);
    log.delete_records(Some(Offset(9)), NOW).unwrap();
    assert_eq!(log.log_start_offset(), Offset(9));
    assert_eq!(log.last_stable_offset(), Offset(9));
}
