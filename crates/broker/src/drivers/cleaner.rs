//! The threads of the cleaner: they compact the logs of compacted topics, the dirtiest first.
//!
//! `ottla_log::compaction` decides whether a log is due and does the work; `ottla_replica::cleaner` decides which log
//! is next and how fast. A worker runs the passes and rests between their reads and writes. An error or a panic ends
//! the pass of one partition, is logged, and delays the next try. While a worker waits for a stalled directory,
//! another one replaces it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use ottla_log::StorageError;
use ottla_log::compaction::{CompactionError, OffsetMap, Outcome, Pace, Plan};
use ottla_protocol::time::{MonotonicTime, Timestamp};
use ottla_replica::cleaner::report::CompactionReport;
use ottla_replica::cleaner::schedule::Schedule;
use ottla_replica::cleaner::settings::CleanerSettings;
use ottla_replica::cleaner::throttle::Throttle;
use ottla_replica::{CompactionPass, PartitionId, checkpoints};

use super::monitor::Monitor;
use super::rest::rest;
use super::threads::{Panicked, Threads, caught};

use crate::process::clock::Clock;
use crate::replicas::{Directory, Partition, Replicas, distinct};

/// Bytes after which a worker checks whether it must rest or stop.
const PACE_BYTES: u64 = 256 << 10;

/// The workers and what they share.
#[derive(Debug)]
pub(super) struct Cleaner {
    shared: Arc<Shared>,
    threads: Threads,
}

type Shared = Monitor<State>;

#[derive(Debug)]
struct State {
    settings: Option<CleanerSettings>,
    /// The numbers of the workers that run.
    workers: BTreeSet<usize>,
    /// The directory in which each of them works.
    at: BTreeMap<usize, Arc<Directory>>,
    throttle: Throttle,
    schedule: Schedule,
}

impl Default for Cleaner {
    fn default() -> Self {
        let state = State {
            settings: None,
            workers: BTreeSet::new(),
            at: BTreeMap::new(),
            throttle: Throttle::new(f64::MAX),
            schedule: Schedule::default(),
        };
        Self {
            shared: Arc::new(Monitor::new(state)),
            threads: Threads::default(),
        }
    }
}

impl Cleaner {
    /// Applies `settings`: starts missing workers. Surplus workers end by themselves.
    pub(super) fn configure(
        &self,
        replicas: &Arc<Replicas>,
        settings: CleanerSettings,
    ) -> io::Result<()> {
        let now = replicas.clock().monotonic();
        let is_new = self.shared.change(|state| {
            let is_new = state.settings != Some(settings) && !self.shared.is_stopping();
            if is_new {
                state.settings = Some(settings);
                state.throttle.set_rate(settings.bytes_per_second, now);
            }
            is_new
        });
        if !is_new {
            return Ok(());
        }
        let started = self.start_missing(replicas);
        if started.is_err() {
            // The next change of a config tries again.
            self.shared.lock().settings = None;
        }
        started
    }

    /// The settings that are applied now.
    pub(super) fn settings(&self) -> Option<CleanerSettings> {
        self.shared.lock().settings
    }

    /// Starts workers in the place of those that wait for a stalled directory.
    pub(super) fn replace_stalled(&self, replicas: &Arc<Replicas>) {
        let is_stalled = self
            .shared
            .lock()
            .stalled_workers(replicas.clock().monotonic())
            > 0;
        if is_stalled && let Err(error) = self.start_missing(replicas) {
            tracing::debug!(%error, "cannot start a worker of the cleaner; it is tried again soon");
        }
    }

    fn start_missing(&self, replicas: &Arc<Replicas>) -> io::Result<()> {
        let now = replicas.clock().monotonic();
        while let Some(number) = self.next_missing(now) {
            let (shared, replicas) = (Arc::clone(&self.shared), Arc::downgrade(replicas));
            let work = move || Cleaning { shared: &shared }.work(number, &replicas);
            if let Err(error) = self.threads.start("cleaner", number, work) {
                self.shared.lock().workers.remove(&number);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the number of a worker that should run and does not: two callers never start the same one.
    fn next_missing(&self, now: MonotonicTime) -> Option<usize> {
        let mut state = self.shared.lock();
        if self.shared.is_stopping() {
            return None;
        }
        let mut wanted = 0..state.wanted(now);
        let number = wanted.find(|number| !state.workers.contains(number))?;
        state.workers.insert(number);
        Some(number)
    }

    /// Asks the workers to end, in the middle of a pass too.
    pub(super) fn stop(&self) {
        self.shared.stop();
    }

    /// Waits for the workers.
    pub(super) fn join(&self) {
        self.threads.join_all();
    }

    /// What is known about the compaction of `partition`; nothing when it is gone.
    pub(super) fn report(
        &self,
        replicas: &Replicas,
        partition: &Partition,
        now: Timestamp,
    ) -> Option<Result<CompactionReport, StorageError>> {
        let (history, settings) = {
            let state = self.shared.lock();
            (state.schedule.history(partition.id()), state.settings)
        };
        let looked = replicas.try_with_log(partition, |log| {
            let plan = log.plan_compaction(now)?;
            Ok((plan, log.quarantine().to_vec()))
        })?;
        Some(looked.map(|(plan, quarantine)| CompactionReport {
            topic: partition.topic.to_string(),
            partition: partition.index.0,
            plan,
            history,
            quarantine,
            is_enabled: settings.is_some_and(|settings| settings.threads > 0),
            grace: settings.map_or(Duration::ZERO, |settings| 2 * settings.backoff),
            now,
        }))
    }
}

impl State {
    /// The number of workers that wait for a stalled directory.
    fn stalled_workers(&self, now: MonotonicTime) -> usize {
        let at = self.at.values();
        at.filter(|directory| directory.stalls.is_stalled(now))
            .count()
    }

    /// The number of workers that should run, unless the cleaner stops.
    fn wanted(&self, now: MonotonicTime) -> usize {
        match self.settings {
            Some(settings) if settings.threads > 0 => settings.threads + self.stalled_workers(now),
            _ => 0,
        }
    }
}

/// What a worker does.
#[derive(Clone, Copy)]
struct Cleaning<'a> {
    shared: &'a Shared,
}

impl Cleaning<'_> {
    fn work(self, number: usize, replicas: &Weak<Replicas>) {
        while let Some(replicas) = replicas.upgrade() {
            let Some(settings) = self.settings_of(number, replicas.clock().monotonic()) else {
                return;
            };
            let did_work = self.compact_dirtiest(number, &replicas, &settings);
            self.shared.lock().at.remove(&number);
            let clock = replicas.clock();
            drop(replicas);
            if !did_work {
                self.rest(settings.backoff, clock);
            }
        }
    }

    /// The settings, if the worker with this number is to go on.
    fn settings_of(self, number: usize, now: MonotonicTime) -> Option<CleanerSettings> {
        let mut state = self.shared.lock();
        let settings = state.settings;
        let is_wanted = number < state.wanted(now) && !self.shared.is_stopping();
        let goes_on = settings.filter(|_| is_wanted);
        if goes_on.is_none() {
            state.workers.remove(&number);
        }
        goes_on
    }

    /// Waits for `time`, or until the settings change or the cleaner stops.
    fn rest(self, time: Duration, clock: Clock) {
        let until = clock.monotonic().after(time);
        let mut state = self.shared.lock();
        let before = state.settings;
        while !self.shared.is_stopping() && state.settings == before {
            let left = until.remaining(clock.monotonic());
            if left.is_zero() {
                return;
            }
            state = self.shared.wait(state, Some(left));
        }
    }

    /// Compacts the dirtiest log that is due; returns whether there was one.
    fn compact_dirtiest(
        self,
        number: usize,
        replicas: &Replicas,
        settings: &CleanerSettings,
    ) -> bool {
        let due = self.due(number, replicas);
        let taken = {
            let mut state = self.shared.lock();
            let taken = state.schedule.begin_dirtiest(due);
            taken.inspect(|partition| {
                state.at.insert(number, Arc::clone(partition.directory()));
            })
        };
        let Some(partition) = taken else {
            return false;
        };
        let outcome = guarded(|| self.compact(replicas, &partition, settings));
        self.shared.lock().schedule.end(partition.id());
        self.note(replicas, &partition, outcome);
        true
    }

    /// The partitions whose logs are due, with their plans.
    fn due(self, number: usize, replicas: &Replicas) -> Vec<(Arc<Partition>, Plan)> {
        let now = replicas.clock().now();
        let all = replicas.all();
        let mut candidates = all.clone();
        {
            let mut state = self.shared.lock();
            let alive: BTreeSet<PartitionId> = all.iter().map(|partition| partition.id()).collect();
            state.schedule.forget_others(&alive);
            candidates.retain(|partition| state.schedule.may_begin(partition.id(), now.monotonic));
        }
        // A failed disk is logged once by the thread that writes; here it would be logged for each partition.
        candidates.retain(|partition| {
            partition.settings().log.compact && partition.directory().answers(now.monotonic)
        });
        self.make_durable(number, replicas, &mut candidates);
        let mut due = Vec::new();
        for partition in candidates {
            match guarded(|| plan(replicas, &partition, now.wall)) {
                Ok(Some(plan)) if plan.is_due() => due.push((partition, plan)),
                Ok(_) => self.shared.lock().schedule.on_nothing_due(partition.id()),
                Err(error) => self.note(replicas, &partition, Err(error)),
            }
        }
        due
    }

    /// Moves the recovery points that compaction waits for, and writes them once for all partitions. Candidates where
    /// that fails are removed.
    fn make_durable(
        self,
        number: usize,
        replicas: &Replicas,
        candidates: &mut Vec<Arc<Partition>>,
    ) {
        let mut moved = Vec::new();
        candidates.retain(|partition| {
            if replicas.try_with_log(partition, |log| log.compaction_needs_checkpoint())
                != Some(true)
            {
                return true;
            }
            self.note_directory(number, partition.directory());
            // Under `page-cache` nothing else flushes soon. The next look finds the log flushed.
            partition.flush_if_dirty(replicas.clock().monotonic());
            let outcome = guarded(|| {
                partition.checkpoint().map_err(CompactionError::from)?;
                Ok(())
            });
            match outcome {
                Ok(()) => moved.push(Arc::clone(partition)),
                Err(error) => {
                    self.note(replicas, partition, Err(error));
                    return false;
                }
            }
            true
        });
        for directory in distinct(moved.iter().map(|partition| partition.directory())) {
            self.note_directory(number, &directory);
            if let Err(error) =
                checkpoints::write_recovery_points(&directory, || replicas.all_in(&directory))
            {
                tracing::warn!(%error, "cannot write recovery points; compaction waits for them");
            }
        }
    }

    /// Notes the directory that a worker is about to wait for.
    fn note_directory(self, number: usize, directory: &Arc<Directory>) {
        self.shared.lock().at.insert(number, Arc::clone(directory));
    }

    fn compact(
        self,
        replicas: &Replicas,
        partition: &Partition,
        settings: &CleanerSettings,
    ) -> Result<Outcome, NotCompacted> {
        let mut waiting = 0;
        let mut pace = |bytes| {
            waiting += bytes;
            if waiting < PACE_BYTES {
                return ControlFlow::Continue(());
            }
            self.throttle(replicas, partition, std::mem::take(&mut waiting))
        };
        let now = replicas.clock().now().wall;
        let outcome = run_pass(partition, settings, now, &mut pace)?;
        checkpoints::write_compacted(partition.directory(), || {
            replicas.all_in(partition.directory())
        })?;
        Ok(outcome)
    }

    /// Rests for the bytes read and written; breaks when the cleaner stops or the partition is gone.
    fn throttle(self, replicas: &Replicas, partition: &Partition, bytes: u64) -> ControlFlow<()> {
        let now = replicas.now();
        let (rested_at, settings) = {
            let mut state = self.shared.lock();
            (now.after(state.throttle.spend(bytes, now)), state.settings)
        };
        rest(
            self.shared,
            partition,
            replicas.clock(),
            |state, is_gone| {
                if is_gone || self.shared.is_stopping() {
                    ControlFlow::Break(())
                } else if state.settings == settings {
                    ControlFlow::Continue(rested_at)
                } else {
                    // A new rate cancels the rest that the old one asked for.
                    ControlFlow::Continue(now)
                }
            },
        )
    }

    /// Records how a pass ended, and logs it.
    fn note(
        self,
        replicas: &Replicas,
        partition: &Partition,
        outcome: Result<Outcome, NotCompacted>,
    ) {
        let now = replicas.clock().now();
        let mut state = self.shared.lock();
        let backoff = state
            .settings
            .map_or(Duration::ZERO, |settings| settings.backoff);
        let error = match outcome {
            Ok(outcome) => {
                state.schedule.on_compacted(partition.id(), now.wall);
                drop(state);
                return log_outcome(partition, &outcome);
            }
            Err(NotCompacted::Error(CompactionError::Stopped | CompactionError::NotDue)) => return,
            Err(error) => error,
        };
        let reason = error.to_string();
        let (times, retry_in) =
            state
                .schedule
                .on_failed(partition.id(), reason.clone(), backoff, now.monotonic);
        drop(state);
        let (topic, partition) = (&*partition.topic, partition.index.0);
        // The first time, retention may have removed a file during the pass. A file that is missing for good fails again.
        if times == 1 && matches!(error, NotCompacted::Error(CompactionError::Changed)) {
            tracing::info!(
                topic,
                partition,
                ?retry_in,
                reason,
                "a pass over a log is repeated"
            );
        } else {
            tracing::error!(
                topic,
                partition,
                times,
                ?retry_in,
                reason,
                "cannot compact a log; it is tried again"
            );
        }
    }
}

/// Why a partition could not be compacted.
#[derive(Debug, thiserror::Error)]
enum NotCompacted {
    #[error(transparent)]
    Error(#[from] CompactionError),
    #[error(transparent)]
    Checkpoint(#[from] StorageError),
    #[error("compaction {0}")]
    Panic(#[from] Panicked),
}

/// Runs `work`; a panic is an error of this partition alone.
fn guarded<T>(work: impl FnOnce() -> Result<T, NotCompacted>) -> Result<T, NotCompacted> {
    caught(work).unwrap_or_else(|panicked| Err(panicked.into()))
}

/// Compacts `partition`, if it is still due.
fn run_pass(
    partition: &Partition,
    settings: &CleanerSettings,
    now: Timestamp,
    pace: Pace<'_>,
) -> Result<Outcome, CompactionError> {
    // A deletion waits for this lock before it removes the files.
    let _cleaning = partition
        .cleaning
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let hashers = [RandomState::new(), RandomState::new()];
    let map = OffsetMap::new(settings.map_limits(), hashers);
    let mut pass = CompactionPass::begin(partition, map, now, pace)?;
    loop {
        if let Some(outcome) = pass.step(partition, pace)? {
            return Ok(outcome);
        }
    }
}

/// The plan for a partition; `None` when it is gone or its disk does not answer.
fn plan(
    replicas: &Replicas,
    partition: &Partition,
    now: Timestamp,
) -> Result<Option<Plan>, NotCompacted> {
    let plan = replicas.try_with_log(partition, |log| log.plan_compaction(now));
    Ok(plan.transpose().map_err(CompactionError::from)?)
}

fn log_outcome(partition: &Partition, outcome: &Outcome) {
    let (topic, index) = (&*partition.topic, partition.index.0);
    let stats = outcome.stats;
    tracing::info!(
        topic,
        partition = index,
        end = outcome.end.0,
        is_whole = outcome.is_whole,
        records_read = stats.records_read,
        records_kept = stats.records_kept,
        bytes_read = stats.bytes_read,
        bytes_written = stats.bytes_written,
        "compacted a log"
    );
    if let Some(first) = outcome.quarantine.first() {
        tracing::warn!(
            topic,
            partition = index,
            batches = outcome.quarantine.len(),
            first_offset = first.first_offset.0,
            reason = first.reason,
            "compaction cannot read a batch; it is kept as it is, see compaction-quarantine in the partition's directory"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{NotCompacted, guarded};

    #[test]
    fn a_panic_is_an_error_of_its_partition_alone() {
        let outcome = guarded(|| -> Result<(), NotCompacted> {
            let offset = std::hint::black_box(7);
            panic!("no batch at {offset}")
        });
        let reason = outcome.unwrap_err().to_string();
        assert_eq!(reason, "compaction panicked: no batch at 7");
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
    }
}
