//! Decides which log is compacted next, and when a log is tried again after a failed pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_log::compaction::Plan;
use ottla_log::files::Files;
use ottla_protocol::time::{MonotonicTime, Timestamp};

use crate::{Host, Partition, PartitionId};

/// Upper bound of the wait after a failed pass.
const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// Lower bound of the time that is doubled with each failure, the first one included.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The running passes, and the outcomes of those that have ended. Invariants:
///
/// - a partition has at most one pass at a time;
/// - with each failure in a row, the wait before the next try doubles, up to `LONGEST_WAIT`.
#[derive(Debug, Default)]
pub struct Schedule {
    busy: BTreeSet<PartitionId>,
    histories: BTreeMap<PartitionId, History>,
}

/// The outcome of a partition's passes since the start.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The end of the last successful pass.
    pub compacted_at: Option<Timestamp>,
    /// The failure since then, if any.
    pub failure: Option<Failure>,
}

/// Why a pass failed.
#[derive(Debug, Clone)]
pub struct Failure {
    pub reason: String,
    /// How often in a row.
    pub times: u32,
    pub retry_at: MonotonicTime,
}

impl Schedule {
    /// The history of a partition; empty if no pass has ended.
    pub fn history(&self, id: PartitionId) -> History {
        self.histories.get(&id).cloned().unwrap_or_default()
    }

    /// Drops partitions that are not among `alive`.
    pub fn forget_others(&mut self, alive: &BTreeSet<PartitionId>) {
        self.histories.retain(|id, _| alive.contains(id));
    }

    /// Whether a pass may begin now: none runs, and the wait after the last failure is over.
    pub fn may_begin(&self, id: PartitionId, now: MonotonicTime) -> bool {
        let failure = self
            .histories
            .get(&id)
            .and_then(|known| known.failure.as_ref());
        !self.busy.contains(&id) && failure.is_none_or(|failure| failure.retry_at <= now)
    }

    /// Begins a pass over the dirtiest of `due` that has none running.
    pub fn begin_dirtiest<F: Files, H: Host>(
        &mut self,
        due: Vec<(Arc<Partition<F, H>>, Plan)>,
    ) -> Option<Arc<Partition<F, H>>> {
        let mut due = due;
        due.sort_by(|(_, one), (_, other)| other.dirty_ratio().total_cmp(&one.dirty_ratio()));
        let mut partitions = due.into_iter().map(|(partition, _)| partition);
        let dirtiest = partitions.find(|partition| !self.busy.contains(&partition.id()))?;
        self.busy.insert(dirtiest.id());
        Some(dirtiest)
    }

    /// The pass over a partition has ended, with any outcome.
    pub fn end(&mut self, id: PartitionId) {
        self.busy.remove(&id);
    }

    /// A pass was successful.
    pub fn on_compacted(&mut self, id: PartitionId, now: Timestamp) {
        let history = self.histories.entry(id).or_default();
        history.compacted_at = Some(now);
        history.failure = None;
    }

    /// A log is not due any more: drops its failure.
    pub fn on_nothing_due(&mut self, id: PartitionId) {
        if let Some(history) = self.histories.get_mut(&id) {
            history.failure = None;
        }
    }

    /// A pass failed; `backoff` is `log.cleaner.backoff.ms`. Returns how often in a row, and the time until the next try.
    pub fn on_failed(
        &mut self,
        id: PartitionId,
        reason: String,
        backoff: Duration,
        now: MonotonicTime,
    ) -> (u32, Duration) {
        let history = self.histories.entry(id).or_default();
        let times = history.failure.as_ref().map_or(0, |failure| failure.times) + 1;
        let wait = backoff
            .max(SHORTEST_WAIT)
            .saturating_mul(1 << times.min(16))
            .min(LONGEST_WAIT);
        history.failure = Some(Failure {
            reason,
            times,
            retry_at: now.after(wait),
        });
        (times, wait)
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use ottla_protocol::ids::{PartitionIndex, Uuid};
    use ottla_protocol::time::{MonotonicTime, Timestamp};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_secs(seconds))
    }

    #[test]
    fn each_failure_in_a_row_waits_twice_as_long_and_ten_minutes_at_most() {
        let mut schedule = Schedule::default();
        let id = (Uuid::from_parts(1, 1), PartitionIndex(0));
        let mut fail = |times| {
            let backoff = Duration::from_secs(15);
            let failed = schedule.on_failed(id, "no space".to_owned(), backoff, at(100));
            assert_eq!(failed.0, times);
            let wait = failed.1.as_secs();
            assert!(!schedule.may_begin(id, at(99 + wait)));
            assert!(schedule.may_begin(id, at(100 + wait)));
            wait
        };
        let waits: Vec<u64> = (1..=20).map(&mut fail).collect();
        assert_eq!(waits[..6], [30, 60, 120, 240, 480, 600]);
        assert_eq!(waits[19], 600);
    }

    #[test]
    fn a_pass_that_ends_well_and_a_log_that_is_not_due_forget_the_failure() {
        let mut schedule = Schedule::default();
        let id = (Uuid::from_parts(1, 1), PartitionIndex(0));
        let fail = |schedule: &mut Schedule| {
            schedule.on_failed(id, "no space".to_owned(), Duration::ZERO, at(1))
        };
        assert_eq!(fail(&mut schedule), (1, Duration::from_secs(2)));
        schedule.on_nothing_due(id);
        assert!(schedule.history(id).failure.is_none());
        assert_eq!(fail(&mut schedule).0, 1, "it is counted anew");
        schedule.on_compacted(id, Timestamp(7));
        let history = schedule.history(id);
        assert!(history.failure.is_none() && history.compacted_at == Some(Timestamp(7)));
        schedule.forget_others(&BTreeSet::new());
        assert_eq!(schedule.history(id).compacted_at, None);
    }
}
