//! When a log is due, and which segments a pass takes.

use super::{LogFacts, Obstacle, Plan, Reason, SegmentFacts, Verdict, group, plan};
use crate::config::LogConfig;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_000_000);

fn segment(base: i64, size: u64, timestamp: i64) -> SegmentFacts {
    SegmentFacts {
        base: Offset(base),
        size,
        index_bytes: 8,
        time_index_bytes: 12,
        first_timestamp: Timestamp(timestamp),
        largest_timestamp: Timestamp(timestamp + 10),
    }
}

/// Three closed segments of ten records, then the active one from 30 on.
fn log() -> LogFacts {
    LogFacts {
        log_start: Offset(0),
        log_end: Offset(40),
        last_stable: Offset(40),
        recovery_point: Offset(40),
        compacted_to: None,
        active: Offset(30),
        closed: vec![
            segment(0, 100, 1000),
            segment(10, 200, 2000),
            segment(20, 300, 3000),
        ],
    }
}

fn config() -> LogConfig {
    LogConfig {
        compact: true,
        delete: false,
        ..LogConfig::default()
    }
}

fn of(log: &LogFacts, config: &LogConfig) -> Plan {
    plan(log, config, NOW)
}

fn why(plan: &Plan) -> Option<Obstacle> {
    match plan.verdict {
        Verdict::Due(_) => None,
        Verdict::NotDue { why, .. } => Some(why),
    }
}

#[test]
fn a_log_never_compacted_is_all_dirty_up_to_the_active_segment() {
    let plan = of(&log(), &config());
    assert_eq!(
        (plan.first_dirty, plan.first_uncleanable),
        (Offset(0), Offset(30))
    );
    assert_eq!((plan.clean_bytes, plan.cleanable_bytes), (0, 600));
    assert_eq!(plan.verdict, Verdict::Due(Reason::DirtyRatio));
}

#[test]
fn the_ratio_counts_dirty_bytes_among_those_that_may_be_cleaned() {
    let half = LogFacts {
        compacted_to: Some(Offset(20)),
        ..log()
    };
    let plan = of(&half, &config());
    assert_eq!((plan.clean_bytes, plan.cleanable_bytes), (300, 300));
    // More than the ratio, not as much.
    assert_eq!(why(&plan), Some(Obstacle::DirtyRatio));
    let eager = LogConfig {
        min_cleanable_dirty_ratio: 0.49,
        ..config()
    };
    assert!(of(&half, &eager).is_due());
}

#[test]
fn a_pass_that_ended_within_a_segment_leaves_that_segment_dirty() {
    let partly = LogFacts {
        compacted_to: Some(Offset(15)),
        ..log()
    };
    let plan = of(&partly, &config());
    assert_eq!((plan.clean_bytes, plan.cleanable_bytes), (300, 500));
}

#[test]
fn a_checkpoint_outside_of_the_log_counts_for_nothing() {
    for offset in [3, 41] {
        let astray = LogFacts {
            log_start: Offset(5),
            compacted_to: Some(Offset(offset)),
            ..log()
        };
        assert_eq!(of(&astray, &config()).first_dirty, Offset(5));
    }
}

#[test]
fn what_is_undecided_young_or_not_durable_is_left_alone() {
    let undecided = LogFacts {
        last_stable: Offset(25),
        ..log()
    };
    assert_eq!(of(&undecided, &config()).first_uncleanable, Offset(20));
    let undecided = LogFacts {
        last_stable: Offset(5),
        ..log()
    };
    assert_eq!(why(&of(&undecided, &config())), Some(Obstacle::Undecided));

    let not_durable = LogFacts {
        recovery_point: Offset(9),
        ..log()
    };
    assert_eq!(
        why(&of(&not_durable, &config())),
        Some(Obstacle::NotDurable)
    );

    let lagging = LogConfig {
        min_compaction_lag: Duration::from_secs(998),
        ..config()
    };
    assert_eq!(of(&log(), &lagging).first_uncleanable, Offset(10));
    let lagging = LogConfig {
        min_compaction_lag: Duration::from_secs(999),
        ..config()
    };
    let next_due = Some(Timestamp(1010 + 999_000));
    let why = Obstacle::TooYoung;
    assert_eq!(
        of(&log(), &lagging).verdict,
        Verdict::NotDue { why, next_due }
    );
}

#[test]
fn an_old_record_is_cleaned_whatever_the_ratio() {
    let half = LogFacts {
        compacted_to: Some(Offset(20)),
        ..log()
    };
    let limited = |millis| LogConfig {
        max_compaction_lag: Some(Duration::from_millis(millis)),
        ..config()
    };
    let plan = of(&half, &limited(996_000));
    assert_eq!(plan.verdict, Verdict::Due(Reason::MaxLag));
    assert_eq!(plan.overdue, Duration::from_secs(1));
    let plan = of(&half, &limited(997_000));
    let next_due = Some(Timestamp(1_000_001));
    let why = Obstacle::DirtyRatio;
    assert_eq!(plan.verdict, Verdict::NotDue { why, next_due });
}

#[test]
fn nothing_is_due_where_nothing_is_dirty_or_nothing_is_compacted() {
    let clean = LogFacts {
        compacted_to: Some(Offset(30)),
        ..log()
    };
    assert_eq!(why(&of(&clean, &config())), Some(Obstacle::NothingDirty));
    let only_active = LogFacts {
        active: Offset(0),
        closed: Vec::new(),
        ..log()
    };
    assert_eq!(
        why(&of(&only_active, &config())),
        Some(Obstacle::NothingDirty)
    );
    assert_eq!(
        why(&of(&log(), &LogConfig::default())),
        Some(Obstacle::Policy)
    );
}

#[test]
fn segments_become_one_while_they_fit() {
    let facts = log().closed;
    let limited = |segment_bytes, segment_index_bytes| LogConfig {
        segment_bytes,
        segment_index_bytes,
        ..config()
    };
    assert_eq!(group(&facts, Offset(30), &limited(600, 1000)), 3);
    assert_eq!(group(&facts, Offset(30), &limited(599, 1000)), 2);
    assert_eq!(group(&facts, Offset(30), &limited(600, 35)), 2);
    assert_eq!(
        group(&facts, Offset(30), &limited(10, 0)),
        1,
        "a segment too large stays"
    );
    let far = i64::from(i32::MAX) + 2;
    assert_eq!(group(&facts, Offset(far), &limited(600, 1000)), 2);
    assert_eq!(group(&facts, Offset(far - 1), &limited(600, 1000)), 3);
    assert_eq!(group(&[], Offset(0), &config()), 0);
}
