//! What compaction must leave alone: records that are open, young, unreplicated or not durable, and what a start finds.

use super::super::fixture::*;
use super::{compacted, pass, put, segment_bytes, settle, visible};
use crate::compaction::{Obstacle, Plan, Verdict};

use crate::{Bound, FirstBatch, Left, LogConfig, ReadRequest};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::time::Duration;

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
    // The cleaner checkpoint is now before the log, which was emptied.
    assert!(matches!(
        log.plan_compaction(NOW).unwrap(),
        Plan {
            verdict: Verdict::NotDue { .. },
            ..
        }
    ));
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

/// A truncation that was interrupted by a crash leaves such a checkpoint. Later appends must count as dirty.
#[test]
fn a_log_that_ends_before_its_cleaner_checkpoint_is_compacted_to_its_end_only() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("1")), ("b", Some("2"))]);
    log.close().unwrap();
    for is_clean in [true, false] {
        let left = Left {
            is_clean,
            recovery_point: Offset(2),
            compacted_to: Some(Offset(9)),
            ..Left::default()
        };
        let (log, _) = open_as(&files.process_killed(), compacted(), left);
        assert_eq!(log.compacted_to(), Some(Offset(2)));
    }
}
