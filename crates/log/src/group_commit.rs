//! Group commit: who waits for stable storage, what is dirty, which sync runs, and who may be answered.
//!
//! A state machine without threads, one for each log directory. Whoever appends tells it ([`GroupCommit::on_append`],
//! [`GroupCommit::on_wait`]); a driver (a thread of the broker, or the simulation) asks for the next pass, runs it
//! with [`flush_logs`], and hands back how far the logs are durable; those that waited for no more are answered. One
//! pass serves all that wait. Invariants: one pass at a time; nobody is answered before a pass that began after their
//! append has ended well; after a failure nobody is answered well again.

use crate::directory::StorageError;
use crate::files::Files;
use crate::partition_log::{Flush, PartitionLog, run_together};
use crate::planted::{Bug, is_planted};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The number by which a driver knows a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

/// The group commit of one log directory; `W` is whoever waits for an answer.
#[derive(Debug)]
pub struct GroupCommit<W> {
    max_delay: Duration,
    logs: BTreeMap<LogId, LogState<W>>,
    /// The logs that the next pass takes along.
    dirty: BTreeSet<LogId>,
    /// When the next pass must begin; none while nothing is dirty.
    due: Option<MonotonicTime>,
    is_running: bool,
    has_failed: bool,
}

#[derive(Debug)]
struct LogState<W> {
    end: Offset,
    flushed: Offset,
    waiters: Vec<(Offset, W)>,
}

/// What becomes of somebody who wants a log durable up to an offset.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait<W> {
    /// It is: answer.
    Durable(W),
    /// It will be: the answer comes from a pass.
    Waits,
    /// It never will be: the directory is offline, or the log gone.
    Refused(W),
}

impl<W> GroupCommit<W> {
    /// Nothing is dirty. A log that nobody waits for is flushed at the latest `max_delay` after an append.
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

    /// Takes on a log that is durable up to `flushed`.
    pub fn add(&mut self, log: LogId, flushed: Offset) {
        let waiters = Vec::new();
        self.logs.insert(
            log,
            LogState {
                end: flushed,
                flushed,
                waiters,
            },
        );
    }

    /// Lets go of a log; returns those who waited, in vain.
    pub fn remove(&mut self, log: LogId) -> Vec<W> {
        self.dirty.remove(&log);
        let state = self.logs.remove(&log);
        state
            .into_iter()
            .flat_map(|state| state.waiters)
            .map(|(_, waiter)| waiter)
            .collect()
    }

    /// The log now ends at `end`; it joins the next pass, or begins one after the longest delay.
    pub fn on_append(&mut self, log: LogId, end: Offset, now: MonotonicTime) {
        let latest = now.after(self.max_delay);
        self.dirty(log, end, latest);
    }

    /// Somebody waits until the log is durable up to `end`: a pass is due now.
    pub fn on_wait(&mut self, log: LogId, end: Offset, waiter: W, now: MonotonicTime) -> Wait<W> {
        if is_planted(Bug::AnswerBeforeSync) {
            self.dirty(log, end, now);
            return Wait::Durable(waiter);
        }
        if self.has_failed {
            return Wait::Refused(waiter);
        }
        self.dirty(log, end, now);
        match self.logs.get_mut(&log) {
            None => Wait::Refused(waiter),
            Some(state) if state.flushed >= end => Wait::Durable(waiter),
            Some(state) => {
                state.waiters.push((end, waiter));
                Wait::Waits
            }
        }
    }

    /// Somebody reads at the end of the log, beyond what is durable: a pass is due now.
    pub fn on_read_at_end(&mut self, log: LogId, now: MonotonicTime) {
        if let Some(state) = self.logs.get(&log) {
            self.dirty(log, state.end, now);
        }
    }

    fn dirty(&mut self, log: LogId, end: Offset, latest: MonotonicTime) {
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        state.end = state.end.max(end);
        if state.end > state.flushed {
            self.dirty.insert(log);
            self.due = Some(self.due.map_or(latest, |due| due.min(latest)));
        }
    }

    /// The logs that the next pass is to flush: all that are dirty, once one is due. None while a pass runs.
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

    /// When the next pass is to begin; none while one runs or all is clean.
    pub fn next_due(&self) -> Option<MonotonicTime> {
        self.due.filter(|_| !self.is_running && !self.has_failed)
    }

    /// The pass is over: the logs are durable up to these offsets. Returns those to be answered.
    pub fn end_pass(&mut self, flushed: &[(LogId, Offset)], now: MonotonicTime) -> Vec<W> {
        self.is_running = false;
        let mut answered = Vec::new();
        for (log, offset) in flushed {
            let Some(state) = self.logs.get_mut(log) else {
                continue;
            };
            // A log that was truncated may be durable up to less than before.
            state.flushed = *offset;
            let durable = |(end, _): &mut (Offset, W)| *end <= *offset;
            let done = state.waiters.extract_if(.., durable);
            answered.extend(done.map(|(_, waiter)| waiter));
            if !state.waiters.is_empty() {
                let end = state.end;
                self.dirty(*log, end, now);
            }
        }
        answered
    }

    /// The pass failed, so the directory is offline. Returns all who wait, to be refused.
    pub fn fail(&mut self) -> Vec<W> {
        self.is_running = false;
        self.has_failed = true;
        let waiters = self
            .logs
            .values_mut()
            .flat_map(|state| state.waiters.drain(..));
        waiters.map(|(_, waiter)| waiter).collect()
    }
}

/// Flushes logs of one directory: what is to be synced is taken under each log's lock and synced outside of it, one
/// by one or, when many are dirty, by one sync of the file system. Returns how far each is durable.
pub fn flush_logs<F: Files>(
    logs: &[(LogId, Arc<Mutex<PartitionLog<F>>>)],
) -> Result<Vec<(LogId, Offset)>, StorageError> {
    let mut flushes: Vec<Flush<F>> = Vec::with_capacity(logs.len());
    let mut flushing = Vec::with_capacity(logs.len());
    let mut durable = Vec::with_capacity(logs.len());
    for (id, log) in logs {
        let mut guard = log.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.begin_flush_among(logs.len())? {
            Some(flush) => {
                flushes.push(flush);
                flushing.push((*id, log));
            }
            None => durable.push((*id, guard.flushed_offset())),
        }
    }
    run_together(&flushes)?;
    for ((id, log), flush) in flushing.into_iter().zip(&flushes) {
        let mut guard = log.lock().unwrap_or_else(PoisonError::into_inner);
        guard.complete_flush(flush);
        durable.push((id, guard.flushed_offset()));
    }
    Ok(durable)
}

#[cfg(test)]
mod tests;
