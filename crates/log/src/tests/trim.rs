//! Retention, DeleteRecords, truncation, and following a leader.

use super::fixture::*;
use crate::files::simulated::Simulated;
use crate::files::{Files, Operation};
use crate::format::FileKind;
use crate::{AppendError, Left, LogConfig, Removed, TrimError};
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::time::Timestamp;
use std::path::Path;
use std::time::Duration;

fn filled(files: &Simulated, config: &LogConfig) -> Log {
    let mut log = new_log(files, config.clone());
    for index in 0..30 {
        append(&mut log, &idempotent(1, 0, 3 * index, 3));
    }
    log.set_high_watermark(Offset(90)).unwrap();
    log
}

fn log_files(files: &Simulated) -> usize {
    let entries = files.list(Path::new("/data/topic-0")).unwrap();
    entries
        .iter()
        .filter(|entry| {
            FileKind::of_name(&entry.name).is_some_and(|(kind, _)| kind == FileKind::Log)
        })
        .count()
}

#[test]
fn retention_by_size_keeps_at_least_so_many_bytes() {
    let files = new_disk();
    let mut log = filled(&files, &small_segments());
    let size = log.size();
    let kept = size / 2;
    log.set_config(LogConfig {
        retention_bytes: Some(kept),
        retention: None,
        ..small_segments()
    });
    let removed = log.apply_retention(NOW).unwrap();
    assert!(removed.segments > 0 && log.size() == size - removed.bytes);
    assert!(log.size() >= kept && log.size() < kept + 1000);
    assert_eq!(log_files(&files), log.segment_count());
    let start = log.log_start_offset();
    assert_eq!(summary(&read_all(&log, start))[0].0, start.0);
    assert_eq!(log.apply_retention(NOW).unwrap(), Removed::default());
}

#[test]
fn retention_by_age_empties_the_log_but_keeps_its_end() {
    let files = new_disk();
    let mut log = filled(&files, &small_segments());
    let day = Duration::from_hours(24);
    log.set_config(LogConfig {
        retention: Some(day),
        ..small_segments()
    });
    let later = Timestamp(NOW.0 + 24 * 3_600_000);
    assert_eq!(log.apply_retention(later).unwrap(), Removed::default());
    let later = Timestamp(later.0 + 10);
    assert!(log.apply_retention(later).unwrap().segments > 1);
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset(), log.size()),
        (Offset(90), Offset(90), 0)
    );
    assert_eq!((log.segment_count(), log_files(&files)), (1, 1));
    assert_eq!(
        append(&mut log, &idempotent(1, 0, 90, 1)).first_offset,
        Offset(90)
    );
}

#[test]
fn retention_stops_at_the_high_watermark_and_spares_compacted_topics() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for _ in 0..30 {
        append(&mut log, &plain(3, NOW.0));
    }
    let late = Timestamp(NOW.0 + 30 * 24 * 3_600_000);
    assert_eq!(log.apply_retention(late).unwrap(), Removed::default());
    log.set_high_watermark(Offset(90)).unwrap();
    log.set_config(LogConfig {
        delete: false,
        compact: true,
        ..small_segments()
    });
    assert_eq!(log.apply_retention(late).unwrap(), Removed::default());
}

#[test]
fn deleted_records_are_gone_at_once_and_their_segments_too() {
    let files = new_disk();
    let mut log = filled(&files, &small_segments());
    let segments = log.segment_count();
    assert_eq!(
        log.delete_records(Some(Offset(40)), NOW).unwrap(),
        Offset(40)
    );
    assert!(log.segment_count() < segments);
    assert_eq!(
        log.delete_records(Some(Offset(10)), NOW).unwrap(),
        Offset(40)
    );
    let error = log.delete_records(Some(Offset(91)), NOW).unwrap_err();
    assert!(matches!(
        error,
        TrimError::BeyondHighWatermark {
            high_watermark: Offset(90),
            ..
        }
    ));
    assert_eq!(
        log.leader_epochs().entries().next(),
        Some((LeaderEpoch(1), Offset(40)))
    );
    let log_start = log.log_start_offset();
    drop(log);
    let left = Left {
        is_clean: true,
        log_start,
        ..Left::default()
    };
    let (mut log, _) = open_as(&files, small_segments(), left);
    assert_eq!(log.log_start_offset(), Offset(40));
    assert_eq!(log.delete_records(None, NOW).unwrap(), Offset(90));
    assert_eq!(log.size(), log.size());
}

#[test]
fn truncation_forgets_what_it_cuts_everywhere() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for round in 0..30 {
        append(&mut log, &idempotent(1, 0, 2 * round, 2));
        append(&mut log, &transactional(2, round, 1));
    }
    append(&mut log, &marker(2, 0));
    log.flush().unwrap();
    log.set_high_watermark(Offset(91)).unwrap();
    let expected = read_all(&log, Offset(0));
    assert!(!log.truncate_to(Offset(91), NOW).unwrap());
    assert!(log.truncate_to(Offset(46), NOW).unwrap());
    assert_eq!(
        (
            log.log_end_offset(),
            log.flushed_offset(),
            log.high_watermark()
        ),
        (Offset(45), Offset(45), Offset(45))
    );
    assert!(expected.starts_with(&read_all(&log, Offset(0))));
    assert_eq!(log.aborted_transactions(Offset(0), Offset(99)).unwrap(), []);
    assert_eq!(log.open_transaction(ProducerId(2)), Some(Offset(2)));
    assert_eq!(
        append(&mut log, &idempotent(1, 0, 30, 2)).first_offset,
        Offset(45)
    );
    log.flush().unwrap();
    for seed in 0..10 {
        let (log, _) = open_as(&files.power_cut(seed), small_segments(), Left::default());
        assert_eq!(
            log.log_end_offset(),
            Offset(47),
            "the cut and what follows are durable"
        );
    }
    append(&mut log, &plain(1, NOW.0));
    let flush = log.begin_flush().unwrap().unwrap();
    log.truncate_to(Offset(47), NOW).unwrap();
    append(&mut log, &plain(2, NOW.0));
    log.complete_flush(&flush);
    assert_eq!(
        log.flushed_offset(),
        Offset(47),
        "a flush from before the cut says nothing"
    );
    log.truncate_fully(Offset(500), NOW).unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset(), log.size()),
        (Offset(500), Offset(500), 0)
    );
    assert_eq!(append(&mut log, &plain(1, NOW.0)).first_offset, Offset(500));
}

#[test]
fn a_follower_keeps_the_leaders_offsets_and_epochs() {
    let files = new_disk();
    let mut leader = filled(&files, &small_segments());
    leader.begin_epoch(LeaderEpoch(2));
    let bytes = read_all(&leader, Offset(0));
    let mut follower = new_log(
        &new_disk(),
        LogConfig {
            segment_bytes: 100_000,
            ..small_segments()
        },
    );
    let appended = follower
        .append_as_follower(&bytes, LeaderEpoch(1), NOW)
        .unwrap()
        .unwrap();
    assert_eq!(
        (appended.first_offset, appended.last_offset),
        (Offset(0), Offset(89))
    );
    assert_eq!(read_all(&follower, Offset(0)), bytes);
    assert_eq!(follower.latest_epoch(), Some(LeaderEpoch(1)));
    assert_eq!(
        follower.producers().producers(),
        leader.producers().producers()
    );
    let error = follower
        .append_as_follower(&bytes, LeaderEpoch(1), NOW)
        .unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::UnexpectedOffset {
                expected: Offset(90),
                ..
            }
        ),
        "{error}"
    );
    let mut behind = new_log(&new_disk(), small_segments());
    assert!(
        behind
            .append_as_follower(&bytes, LeaderEpoch(0), NOW)
            .unwrap()
            .is_none(),
        "of a later epoch"
    );
    let mut damaged = bytes;
    damaged[70] ^= 1;
    assert!(matches!(
        behind.append_as_follower(&damaged, LeaderEpoch(1), NOW),
        Err(AppendError::Invalid(_))
    ));
}

#[test]
fn segments_roll_by_age_of_their_first_record() {
    let files = new_disk();
    let hour = Duration::from_hours(1);
    let mut log = new_log(
        &files,
        LogConfig {
            segment_age: hour,
            ..LogConfig::default()
        },
    );
    append(&mut log, &plain(1, NOW.0));
    append(&mut log, &plain(1, NOW.0 + 3_600_000));
    assert_eq!(log.segment_count(), 1);
    append(&mut log, &plain(1, NOW.0 + 3_600_001));
    assert_eq!(log.segment_count(), 2);
    append(&mut log, &plain(1, NOW.0));
    assert_eq!(log.segment_count(), 2);
}

#[test]
fn a_full_disk_while_rolling_leaves_the_log_usable() {
    let files = new_disk();
    let mut log = filled(&files, &small_segments());
    let end = log.log_end_offset();
    files.fail_nth(Operation::Open, 1, std::io::ErrorKind::StorageFull);
    let mut refused = 0;
    for sequence in 0..20 {
        let bytes = idempotent(9, 0, sequence - refused, 1);
        refused += i32::from(try_append(&mut log, &bytes).is_err());
    }
    assert_eq!((refused, log.log_end_offset()), (1, end.plus(19)));
    assert_eq!(summary(&read_all(&log, end)).len(), 19);
}
