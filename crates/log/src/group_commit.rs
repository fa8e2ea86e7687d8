//! Group commit of one log directory: which logs are dirty, when the next pass is due, and whether one runs.
//!
//! A state machine without threads and files. An append marks its log dirty ([`GroupCommit::flush_now`],
//! [`GroupCommit::flush_later`]). A driver begins the pass that is due, flushes its logs, and ends it with their
//! flushed offsets. One pass serves all producers that wait. Invariants:
//!
//! - one pass runs at a time;
//! - a log that is marked while a pass runs is taken by another pass: the mark may come too late for the one that runs;
//! - after a failure no pass begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;

/// The number by which a driver knows a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

/// The group commit of one log directory.
#[derive(Debug)]
pub struct GroupCommit {
    max_delay: Duration,
    logs: BTreeMap<LogId, LogState>,
    /// The logs of the next pass.
    dirty: BTreeSet<LogId>,
    /// When the next pass must begin; `None` while no log is dirty.
    due: Option<MonotonicTime>,
    is_running: bool,
    has_failed: bool,
}

#[derive(Debug)]
struct LogState {
    end: Offset,
    flushed: Offset,
}

impl GroupCommit {
    /// A directory without dirty logs. A log without a waiting producer is flushed at most `max_delay` after its
    /// append.
    pub fn new(max_delay: Duration) -> Self {
        Self {
            max_delay,
            logs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            due: None,
            is_running: false,
            has_failed: false,
        }
    }

    /// Adds a log that is flushed up to `flushed`.
    pub fn add(&mut self, log: LogId, flushed: Offset) {
        let end = flushed;
        self.logs.insert(log, LogState { end, flushed });
    }

    pub fn remove(&mut self, log: LogId) {
        self.dirty.remove(&log);
        self.logs.remove(&log);
    }

    /// The log ends at `end`, and a producer or reader waits for the flush: a pass is due now. Returns whether the log
    /// is dirty.
    pub fn flush_now(&mut self, log: LogId, end: Offset, now: MonotonicTime) -> bool {
        self.mark_dirty(log, end, now)
    }

    /// The log ends at `end`, and nobody waits: it joins the next pass, which is due after `max_delay` at the latest.
    /// Returns whether the log is dirty.
    pub fn flush_later(&mut self, log: LogId, end: Offset, now: MonotonicTime) -> bool {
        let latest = now.after(self.max_delay);
        self.mark_dirty(log, end, latest)
    }

    fn mark_dirty(&mut self, log: LogId, end: Offset, latest: MonotonicTime) -> bool {
        let Some(state) = self.logs.get_mut(&log) else {
            return false;
        };
        state.end = state.end.max(end);
        let is_dirty = state.end > state.flushed;
        if is_dirty {
            self.dirty.insert(log);
            self.due = Some(self.due.map_or(latest, |due| due.min(latest)));
        }
        is_dirty
    }

    /// Begins a pass, if one is due and none runs; returns its logs, which are all dirty ones.
    #[must_use = "a pass that was begun must be ended"]
    pub fn begin_pass(&mut self, now: MonotonicTime) -> Option<BTreeSet<LogId>> {
        let is_due = self.due.is_some_and(|due| due <= now);
        if !is_due || self.is_running || self.has_failed {
            return None;
        }
        self.due = None;
        let logs = std::mem::take(&mut self.dirty);
        self.is_running = !logs.is_empty();
        self.is_running.then_some(logs)
    }

    /// When the next pass is due; `None` while one runs or no log is dirty.
    pub fn next_due(&self) -> Option<MonotonicTime> {
        self.due.filter(|_| !self.is_running && !self.has_failed)
    }

    /// The pass has ended, and the logs are flushed up to these offsets. The offset of a truncated log may be lower
    /// than before.
    pub fn end_pass(&mut self, flushed: &[(LogId, Offset)]) {
        self.is_running = false;
        for (log, offset) in flushed {
            if let Some(state) = self.logs.get_mut(log) {
                state.flushed = *offset;
            }
        }
    }

    /// The pass has failed, and the directory is offline.
    pub fn fail(&mut self) {
        self.is_running = false;
        self.has_failed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::{GroupCommit, LogId};
    use ottla_protocol::ids::Offset;
    use ottla_protocol::time::MonotonicTime;
    use std::collections::BTreeSet;
    use std::time::Duration;

    const A: LogId = LogId(1);
    const B: LogId = LogId(2);

    fn at(ms: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_millis(ms))
    }

    fn two_logs() -> GroupCommit {
        let mut commit = GroupCommit::new(Duration::from_millis(10));
        commit.add(A, Offset(0));
        commit.add(B, Offset(5));
        commit
    }

    #[test]
    fn one_pass_serves_all_that_waited_when_it_began() {
        let mut commit = two_logs();
        let _ = commit.flush_now(A, Offset(1), at(0));
        let _ = commit.flush_now(A, Offset(2), at(0));
        let _ = commit.flush_now(B, Offset(5), at(0));
        assert_eq!(
            commit.begin_pass(at(0)),
            Some(BTreeSet::from([A])),
            "B is durable"
        );
        let _ = commit.flush_now(A, Offset(3), at(1));
        assert_eq!(
            (commit.begin_pass(at(1)), commit.next_due()),
            (None, None),
            "one pass at a time"
        );
        commit.end_pass(&[(A, Offset(2))]);
        assert_eq!(commit.next_due(), Some(at(1)), "the append during the pass");
        assert_eq!(commit.begin_pass(at(2)), Some(BTreeSet::from([A])));
        commit.end_pass(&[(A, Offset(3))]);
        assert_eq!((commit.begin_pass(at(99)), commit.next_due()), (None, None));
    }

    #[test]
    fn what_nobody_waits_for_joins_a_pass_or_starts_one_after_the_delay() {
        let mut commit = two_logs();
        let _ = commit.flush_later(A, Offset(1), at(0));
        assert_eq!(
            (commit.next_due(), commit.begin_pass(at(9))),
            (Some(at(10)), None)
        );
        let _ = commit.flush_later(A, Offset(2), at(8));
        assert_eq!(commit.next_due(), Some(at(10)), "the first append counts");
        let _ = commit.flush_now(B, Offset(6), at(9));
        assert_eq!(commit.next_due(), Some(at(9)));
        assert_eq!(commit.begin_pass(at(9)), Some(BTreeSet::from([A, B])));
        commit.end_pass(&[(A, Offset(2)), (B, Offset(6))]);
        let _ = commit.flush_now(A, Offset(2), at(9));
        assert_eq!(commit.next_due(), None, "it is clean");
    }

    #[test]
    fn a_log_that_a_pass_could_not_flush_is_flushed_by_another() {
        let mut commit = two_logs();
        let _ = commit.flush_now(A, Offset(1), at(0));
        assert_eq!(commit.begin_pass(at(0)), Some(BTreeSet::from([A])));
        let _ = commit.flush_later(A, Offset(0), at(1));
        commit.end_pass(&[]);
        assert_eq!(commit.next_due(), Some(at(11)));
    }

    #[test]
    fn after_a_failure_no_pass_begins() {
        let mut commit = two_logs();
        let _ = commit.flush_now(A, Offset(1), at(0));
        assert_eq!(commit.begin_pass(at(0)), Some(BTreeSet::from([A])));
        commit.fail();
        let _ = commit.flush_now(B, Offset(6), at(1));
        assert_eq!((commit.begin_pass(at(1)), commit.next_due()), (None, None));
    }

    #[test]
    fn a_removed_log_is_not_flushed() {
        let mut commit = two_logs();
        let _ = commit.flush_now(A, Offset(1), at(0));
        commit.remove(A);
        assert!(!commit.flush_now(A, Offset(2), at(0)));
        assert_eq!(commit.begin_pass(at(0)), None);
    }
}
