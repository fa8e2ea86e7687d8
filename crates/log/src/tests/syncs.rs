//! Flushes, leader epochs and new logs: what they sync, with how few syncs, and what happens when a sync fails.

use super::fixture::*;
use super::open_files::{directory_with_open_files, small_log_in};
use crate::checkpoint::{read_leader_epochs, read_topic_id};
use crate::files::simulated::Simulated;
use crate::files::{Files, Open, Operation};
use crate::{Left, LogConfig, LogDirectory, OpenLog, PartitionLog, StorageError};
use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

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

/// Flushes, a checkpoint, a roll, truncations of a segment, of several and of all, and the close.
fn sync_in_every_way(mut log: PartitionLog<Simulated>) -> Result<(), StorageError> {
    for _ in 0..6 {
        append(&mut log, &transactional(1, 0, 1));
        append(&mut log, &marker(1, 0));
        log.flush()?;
    }
    if let Some(checkpoint) = log.begin_checkpoint()? {
        checkpoint.run()?;
        log.complete_checkpoint(&checkpoint);
    }
    log.truncate_to(Offset(11), NOW)?;
    // Enough segments to make one sync of the file system cheaper.
    for _ in 0..80 {
        append(&mut log, &plain(2, NOW.0));
    }
    log.flush()?;
    log.truncate_to(Offset(15), NOW)?;
    append(&mut log, &plain(2, NOW.0));
    log.truncate_fully(Offset(100), NOW)?;
    append(&mut log, &plain(2, NOW.0));
    log.close()?;
    Ok(())
}

/// Its error does not say what the disk has kept: a full disk may have dropped what was to be synced.
#[test]
fn a_failed_sync_takes_the_directory_offline_even_where_the_disk_is_only_full() {
    for (operation, at_least) in [
        (Operation::Sync, 10),
        (Operation::SyncDirectory, 5),
        (Operation::SyncFileSystem, 1),
    ] {
        let mut nth = 0;
        loop {
            nth += 1;
            let files = new_disk();
            let log = new_log(&files, small_segments());
            let directory = directory_of(&log);
            let before = files.count(operation);
            files.fail_nth(operation, nth, ErrorKind::StorageFull);
            let outcome = sync_in_every_way(log);
            if files.count(operation) - before < nth {
                break;
            }
            assert!(outcome.is_err(), "{operation} {nth}");
            let failure = directory.failure().expect("a directory that is offline");
            assert_eq!(failure.operation, operation);
        }
        assert!(nth > at_least, "{nth} of {operation}");
    }
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
pub(super) fn assert_survives_power_cuts(files: &Simulated, end: Offset) {
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
