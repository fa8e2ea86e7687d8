//! Whether a log is due for compaction, from where to where, and if not, why not and when: pure, by Kafka's rules.
//!
//! A log is clean up to an offset and dirty from there on. What may be cleaned ends before the active segment, before
//! the first segment with an undecided transaction or an unreplicated record, before the first that holds a record
//! younger than `min.compaction.lag.ms`, and, a rule of ours, at the recovery point that is on disk: a gap behind it
//! would look like lost batches to the next recovery.

use crate::config::LogConfig;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::time::Duration;

/// What is known of a closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    pub base: Offset,
    /// The bytes of its batches.
    pub size: u64,
    /// The bytes of its offset index.
    pub index_bytes: u64,
    /// The bytes of its time index.
    pub time_index_bytes: u64,
    /// The largest timestamp of its first batch; -1 for none, or where nobody asks.
    pub first_timestamp: Timestamp,
    /// The largest timestamp of all; -1 for none, or where nobody asks.
    pub largest_timestamp: Timestamp,
}

/// What is known of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFacts {
    /// The offset of the first record that may be read.
    pub log_start: Offset,
    /// The offset of the next record.
    pub log_end: Offset,
    /// The offset below which every record is replicated and every transaction decided.
    pub last_stable: Offset,
    /// The recovery point that a start after a crash would find.
    pub recovery_point: Offset,
    /// The offset up to which it was compacted; `None` when it never was.
    pub compacted_to: Option<Offset>,
    /// The base offset of the active segment.
    pub active: Offset,
    /// All other segments, by base offset.
    pub closed: Vec<SegmentFacts>,
}

/// What compaction would do to a log now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Where the dirty part begins.
    pub first_dirty: Offset,
    /// Where the part that may be cleaned ends: a segment's base offset.
    pub first_uncleanable: Offset,
    /// The bytes of the clean segments.
    pub clean_bytes: u64,
    /// The bytes of the dirty segments that may be cleaned.
    pub cleanable_bytes: u64,
    /// How long the oldest dirty record has waited beyond `max.compaction.lag.ms`.
    pub overdue: Duration,
    /// Whether it is due.
    pub verdict: Verdict,
}

/// Whether a log is due for compaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// It is.
    Due(Reason),
    /// It is not.
    NotDue {
        /// Why.
        why: Obstacle,
        /// When it will be, if nothing is appended; `None` when time alone changes nothing.
        next_due: Option<Timestamp>,
    },
}

/// Why a log is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// More of it is dirty than `min.cleanable.dirty.ratio` allows.
    DirtyRatio,
    /// A record has been dirty for `max.compaction.lag.ms`.
    MaxLag,
}

/// Why a log is not due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its `cleanup.policy` is not `compact`.
    Policy,
    /// Everything before the active segment is clean.
    NothingDirty,
    /// The next segment holds a record younger than `min.compaction.lag.ms`.
    TooYoung,
    /// The next segment holds records that are not replicated, or of a transaction that is not decided.
    Undecided,
    /// The next segment is not known to be on stable storage.
    NotDurable,
    /// Less of it is dirty than `min.cleanable.dirty.ratio` asks for.
    DirtyRatio,
}

impl Plan {
    /// The part of the cleanable log that is dirty.
    pub fn dirty_ratio(&self) -> f64 {
        let total = self.clean_bytes + self.cleanable_bytes;
        if total == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = self.cleanable_bytes as f64 / total as f64;
        ratio
    }

    /// Whether it is due.
    pub fn is_due(&self) -> bool {
        matches!(self.verdict, Verdict::Due(_))
    }
}

/// Decides about the log with these facts.
pub fn plan(log: &LogFacts, config: &LogConfig, now: Timestamp) -> Plan {
    let first_dirty = first_dirty(log);
    let dirty_from = log
        .closed
        .partition_point(|segment| segment.base <= first_dirty)
        .saturating_sub(1);
    let dirty = log.closed.get(dirty_from..).unwrap_or_default();
    let (bound, limit) = first_uncleanable(log, dirty, config, now);
    let first_uncleanable = aligned(log, bound.max(first_dirty));
    let sum = |segments: &mut dyn Iterator<Item = &SegmentFacts>| -> u64 {
        segments.map(|segment| segment.size).sum()
    };
    let below_dirty = |segment: &&SegmentFacts| segment.base < first_dirty;
    let cleanable = |segment: &&SegmentFacts| segment.base < first_uncleanable;
    let mut plan = Plan {
        first_dirty,
        first_uncleanable,
        clean_bytes: sum(&mut log.closed.iter().take_while(below_dirty)),
        cleanable_bytes: sum(&mut dirty.iter().take_while(cleanable)),
        overdue: Duration::ZERO,
        verdict: Verdict::Due(Reason::DirtyRatio),
    };
    if first_uncleanable <= first_dirty {
        plan.cleanable_bytes = 0;
    }
    let lag_ends = end_of_lag(dirty, config);
    plan.overdue = lag_ends.map_or(Duration::ZERO, |due| {
        Duration::from_millis(u64::try_from(now.0.saturating_sub(due.0)).unwrap_or(0))
    });
    let limit = if dirty.is_empty() {
        Limit::Active
    } else {
        limit
    };
    plan.verdict = verdict(&plan, config, limit, lag_ends);
    plan
}

fn verdict(plan: &Plan, config: &LogConfig, limit: Limit, lag_ends: Option<Timestamp>) -> Verdict {
    let not_due = |why, next_due| Verdict::NotDue { why, next_due };
    if !config.compact {
        return not_due(Obstacle::Policy, None);
    }
    if plan.cleanable_bytes > 0 && plan.overdue > Duration::ZERO {
        return Verdict::Due(Reason::MaxLag);
    }
    if plan.cleanable_bytes > 0 && plan.dirty_ratio() > config.min_cleanable_dirty_ratio {
        return Verdict::Due(Reason::DirtyRatio);
    }
    match limit {
        _ if plan.cleanable_bytes > 0 => not_due(
            Obstacle::DirtyRatio,
            lag_ends.map(|due| Timestamp(due.0 + 1)),
        ),
        Limit::Active => not_due(Obstacle::NothingDirty, None),
        Limit::Lag(until) => not_due(Obstacle::TooYoung, Some(until)),
        Limit::LastStable => not_due(Obstacle::Undecided, None),
        Limit::RecoveryPoint => not_due(Obstacle::NotDurable, None),
    }
}

/// What ends the cleanable part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Active,
    LastStable,
    RecoveryPoint,
    /// A segment is too young until then.
    Lag(Timestamp),
}

/// A checkpoint that does not lie in the log says nothing: all of it is dirty then.
fn first_dirty(log: &LogFacts) -> Offset {
    log.compacted_to
        .filter(|offset| (log.log_start..=log.log_end).contains(offset))
        .unwrap_or(log.log_start)
}

fn first_uncleanable(
    log: &LogFacts,
    dirty: &[SegmentFacts],
    config: &LogConfig,
    now: Timestamp,
) -> (Offset, Limit) {
    let lag = millis(config.min_compaction_lag);
    let young = dirty
        .iter()
        .find(|segment| lag > 0 && segment.largest_timestamp.0 > now.0.saturating_sub(lag));
    let young = young.map(|segment| {
        let until = segment.largest_timestamp.0.saturating_add(lag);
        (segment.base, Limit::Lag(Timestamp(until)))
    });
    let bounds = [
        Some((log.active, Limit::Active)),
        Some((log.last_stable, Limit::LastStable)),
        Some((log.recovery_point, Limit::RecoveryPoint)),
        young,
    ];
    let lowest = bounds
        .into_iter()
        .flatten()
        .min_by_key(|(offset, _)| *offset);
    lowest.expect("there is always an active segment")
}

/// The base offset of the segment that holds `offset`: segments are cleaned whole.
fn aligned(log: &LogFacts, offset: Offset) -> Offset {
    if offset >= log.active {
        return log.active;
    }
    let holding = log.closed.partition_point(|segment| segment.base <= offset);
    let base = holding
        .checked_sub(1)
        .and_then(|index| log.closed.get(index));
    base.map_or(offset, |segment| segment.base)
}

/// When the oldest dirty record is as old as `max.compaction.lag.ms`.
fn end_of_lag(dirty: &[SegmentFacts], config: &LogConfig) -> Option<Timestamp> {
    let lag = millis(config.max_compaction_lag?);
    let known = dirty
        .iter()
        .map(|segment| segment.first_timestamp.0)
        .filter(|timestamp| *timestamp > 0);
    known
        .min()
        .map(|first| Timestamp(first.saturating_add(lag)))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How many of `segments`, from the first on, become one: as many as fit into one segment and its indexes. `end` is
/// the base offset of the segment after the last.
pub(super) fn group(segments: &[SegmentFacts], end: Offset, config: &LogConfig) -> usize {
    let Some(first) = segments.first() else {
        return 0;
    };
    let index_limit = u64::from(config.segment_index_bytes);
    let (mut size, mut index, mut time_index) = (0, 0, 0);
    let ends = segments.iter().skip(1).map(|next| next.base).chain([end]);
    let fitting = segments.iter().zip(ends).take_while(|(segment, end)| {
        size += segment.size;
        index += segment.index_bytes;
        time_index += segment.time_index_bytes;
        let fits = size <= config.segment_bytes
            && index <= index_limit
            && time_index <= index_limit
            && end.0 - 1 - first.base.0 <= i64::from(i32::MAX);
        fits || segment.base == first.base
    });
    fitting.count()
}

#[cfg(test)]
mod tests {
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
}
