//! Decides whether a log is due for compaction, and which part of it; if it is not due, why and until when. Pure; the
//! rules are Kafka's.
//!
//! A log is clean up to an offset and dirty from there on. The part that may be cleaned ends before the first of these
//! segments: the active one, one with an open transaction or an unreplicated record, one with a record younger than
//! `min.compaction.lag.ms`. It also ends at the recovery point on disk, which is a rule of Ottla: recovery would take a
//! gap behind that point for lost batches.

use crate::config::LogConfig;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::time::Duration;

/// A closed segment, as the plan needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    pub base: Offset,
    /// The bytes of its batches.
    pub size: u64,
    /// The bytes of its offset index.
    pub index_bytes: u64,
    /// The bytes of its time index.
    pub time_index_bytes: u64,
    /// The largest timestamp of its first batch; -1 for none, or if no setting needs it.
    pub first_timestamp: Timestamp,
    /// The largest timestamp of the segment; -1 for none, or if no setting needs it.
    pub largest_timestamp: Timestamp,
}

/// A log, as the plan needs it.
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
    pub verdict: Verdict,
}

/// Whether a log is due for compaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    Due(Reason),
    NotDue {
        why: Obstacle,
        /// When the log becomes due if nothing is appended; `None` if time alone changes nothing.
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

    pub fn is_due(&self) -> bool {
        matches!(self.verdict, Verdict::Due(_))
    }
}

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Active,
    LastStable,
    RecoveryPoint,
    /// A segment is younger than `min.compaction.lag.ms` until this time.
    Lag(Timestamp),
}

/// The start of the dirty part. A cleaner checkpoint outside of the log is ignored, and all of the log is dirty.
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

/// The base offset of the segment that holds `offset`, because only whole segments are cleaned.
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

/// When the oldest dirty record becomes as old as `max.compaction.lag.ms`.
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

/// How many of the first `segments` are merged into one: as many as fit into one segment and its indexes. `end` is the
/// base offset of the segment after the last.
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
mod tests;
