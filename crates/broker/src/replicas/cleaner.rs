//! The cleaner: workers that compact the logs of compacted topics, the dirtiest first.
//!
//! When a log is due and what becomes of it is `ottla_log::compaction`'s business; this chooses, paces and supervises.
//! An error or a panic in one partition ends its pass, is said, and has the partition wait a while; the worker goes on
//! with the others, and nothing needs a restart. A partition has one pass at a time. A worker that is held up by a directory
//! that stands still has another in its place until it goes on.

pub mod report;
mod settings;
mod throttle;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_log::StorageError;
use ottla_log::compaction::{CompactionError, OffsetMap, Outcome, Pace, Plan};
use ottla_log::files::FileError;
use ottla_protocol::time::{MonotonicTime, Timestamp};

use self::report::CompactionReport;
pub use self::settings::CleanerSettings;
use self::throttle::Throttle;
use super::partition::{Partition, PartitionId};
use super::pause::pause;
use ottla_replica::{CompactionPass, checkpoints};

use super::{Directory, Replicas, distinct};

/// Bytes after which a worker looks whether it must rest or stop.
const PACE_BYTES: u64 = 256 << 10;
/// A worker that rests looks this often whether its partition is gone.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// A partition that fails again and again is tried again after this at the latest.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// The workers and what they share.
#[derive(Debug)]
pub(super) struct Cleaner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    settings: Option<CleanerSettings>,
    is_stopping: bool,
    /// The workers that run, by number.
    workers: BTreeSet<usize>,
    /// The directory that each of them is at.
    at: BTreeMap<usize, Arc<Directory>>,
    throttle: Throttle,
    /// The partitions that a worker is at.
    busy: BTreeSet<PartitionId>,
    histories: BTreeMap<PartitionId, History>,
}

/// What became of a partition's passes since the start.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// When the last pass ended well.
    pub compacted_at: Option<Timestamp>,
    /// Why passes since then failed.
    pub failure: Option<Failure>,
}

/// Why a pass failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What went wrong.
    pub reason: String,
    /// How often in a row.
    pub times: u32,
    retry_at: MonotonicTime,
}

impl Default for Cleaner {
    fn default() -> Self {
        let state = State {
            settings: None,
            is_stopping: false,
            workers: BTreeSet::new(),
            at: BTreeMap::new(),
            throttle: Throttle::new(f64::MAX),
            busy: BTreeSet::new(),
            histories: BTreeMap::new(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
        }
    }
}

impl Cleaner {
    /// Obeys `settings` from now on: starts the workers that are missing; those that are too many end by themselves.
    pub(super) fn configure(
        &self,
        replicas: &Arc<Replicas>,
        settings: CleanerSettings,
    ) -> io::Result<()> {
        {
            let mut state = self.shared.lock();
            if state.settings == Some(settings) || state.is_stopping {
                return Ok(());
            }
            state.settings = Some(settings);
            let now = replicas.clock.monotonic();
            state.throttle.set_rate(settings.bytes_per_second, now);
        }
        self.shared.changed.notify_all();
        let started = self.start_missing(replicas);
        if started.is_err() {
            // The next change of a config tries again.
            self.shared.lock().settings = None;
        }
        started
    }

    /// What it obeys now.
    pub(super) fn settings(&self) -> Option<CleanerSettings> {
        self.shared.lock().settings
    }

    /// Starts workers in the place of those that are held up by a directory that stands still.
    pub(super) fn relieve(&self, replicas: &Arc<Replicas>) {
        let is_held_up = self.shared.lock().held_up(replicas.clock.monotonic()) > 0;
        if is_held_up && let Err(error) = self.start_missing(replicas) {
            tracing::debug!(%error, "cannot start a worker of the cleaner; it is tried again soon");
        }
    }

    fn start_missing(&self, replicas: &Arc<Replicas>) -> io::Result<()> {
        // First: of two who look at once both would start the same.
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<usize> = {
            let state = self.shared.lock();
            let wanted = 0..state.wanted(replicas.clock.monotonic());
            wanted
                .filter(|number| !state.workers.contains(number))
                .collect()
        };
        threads.retain(|thread| !thread.is_finished());
        for number in missing {
            let (shared, replicas) = (Arc::clone(&self.shared), Arc::downgrade(replicas));
            self.shared.lock().workers.insert(number);
            let thread = std::thread::Builder::new()
                .name(format!("cleaner-{number}"))
                .spawn(move || shared.work(number, &replicas));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    self.shared.lock().workers.remove(&number);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Has the passes that run end when they can, and the workers.
    pub(super) fn stop(&self) {
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_all();
    }

    /// Waits for the workers.
    pub(super) fn join(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker of the cleaner panicked");
            }
        }
    }

    /// What is known of `partition`; nothing when it is gone.
    pub(super) fn report(
        &self,
        replicas: &Replicas,
        partition: &Partition,
        now: Timestamp,
    ) -> Option<Result<CompactionReport, StorageError>> {
        let (history, settings) = {
            let state = self.shared.lock();
            let history = state.histories.get(&partition.id());
            (history.cloned().unwrap_or_default(), state.settings)
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
    /// How many workers a directory that stands still holds up.
    fn held_up(&self, now: MonotonicTime) -> usize {
        let at = self.at.values();
        at.filter(|directory| directory.stalls.is_stalled(now))
            .count()
    }

    /// How many workers there should be.
    fn wanted(&self, now: MonotonicTime) -> usize {
        match self.settings {
            Some(settings) if settings.threads > 0 && !self.is_stopping => {
                settings.threads + self.held_up(now)
            }
            _ => 0,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Held for looking and noting only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, number: usize, replicas: &Weak<Replicas>) {
        while let Some(replicas) = replicas.upgrade() {
            let Some(settings) = self.settings_of(number, replicas.clock.monotonic()) else {
                return;
            };
            let did_work = self.compact_dirtiest(number, &replicas, &settings);
            self.lock().at.remove(&number);
            drop(replicas);
            if !did_work {
                self.rest(settings.backoff);
            }
        }
    }

    /// The settings, if the worker with this number is to go on.
    fn settings_of(&self, number: usize, now: MonotonicTime) -> Option<CleanerSettings> {
        let mut state = self.lock();
        let settings = state.settings;
        let goes_on = settings.filter(|_| number < state.wanted(now));
        if goes_on.is_none() {
            state.workers.remove(&number);
        }
        goes_on
    }

    /// Waits so long, or until something changes.
    fn rest(&self, time: Duration) {
        let state = self.lock();
        let before = state.settings;
        let waited = self.changed.wait_timeout_while(state, time, |state| {
            !state.is_stopping && state.settings == before
        });
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Compacts the log that needs it most; says whether there was one.
    fn compact_dirtiest(
        &self,
        number: usize,
        replicas: &Replicas,
        settings: &CleanerSettings,
    ) -> bool {
        let mut due = self.due(number, replicas);
        due.sort_by(|(_, one), (_, other)| other.dirty_ratio().total_cmp(&one.dirty_ratio()));
        let taken = {
            let mut state = self.lock();
            let free = due
                .into_iter()
                .find(|(partition, _)| !state.busy.contains(&partition.id()));
            free.inspect(|(partition, _)| {
                state.busy.insert(partition.id());
                state.at.insert(number, Arc::clone(partition.directory()));
            })
        };
        let Some((partition, _)) = taken else {
            return false;
        };
        let outcome = guarded(|| self.compact(replicas, &partition, settings));
        self.lock().busy.remove(&partition.id());
        self.note(replicas, &partition, outcome);
        true
    }

    /// The partitions whose logs are due, with their plans.
    fn due(&self, number: usize, replicas: &Replicas) -> Vec<(Arc<Partition>, Plan)> {
        let now = replicas.clock.now();
        let all = replicas.all();
        let mut candidates = all.clone();
        {
            let mut state = self.lock();
            let alive: BTreeSet<PartitionId> = all.iter().map(|partition| partition.id()).collect();
            state.histories.retain(|id, _| alive.contains(id));
            candidates.retain(|partition| {
                let history = state.histories.get(&partition.id());
                let failure = history.and_then(|history| history.failure.as_ref());
                let must_wait = failure.is_some_and(|failure| failure.retry_at > now.monotonic);
                !state.busy.contains(&partition.id()) && !must_wait
            });
        }
        // Who writes to a failed disk says so; here it would be said for each partition.
        candidates.retain(|partition| {
            partition.settings().log.compact && partition.directory().answers(now.monotonic)
        });
        self.make_durable(number, replicas, &mut candidates);
        let mut due = Vec::new();
        for partition in candidates {
            match guarded(|| plan(replicas, &partition, now.wall)) {
                Ok(Some(plan)) if plan.is_due() => due.push((partition, plan)),
                Ok(_) => self.note_nothing_due(&partition),
                Err(error) => self.note(replicas, &partition, Err(error)),
            }
        }
        due
    }

    /// Moves the recovery points that compaction waits for, and writes them down, once for all partitions; leaves out
    /// those where that fails.
    fn make_durable(
        &self,
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
            self.goes_to(number, partition.directory());
            // Under `page-cache` nobody else asks for it soon. What is flushed then is seen next time.
            partition.flush_if_dirty(replicas.clock.monotonic());
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
            self.goes_to(number, &directory);
            if let Err(error) =
                checkpoints::write_recovery_points(&directory, || replicas.all_in(&directory))
            {
                tracing::warn!(%error, "cannot write recovery points; compaction waits for them");
            }
        }
    }

    /// Takes note of the directory that may hold up a worker from now on.
    fn goes_to(&self, number: usize, directory: &Arc<Directory>) {
        self.lock().at.insert(number, Arc::clone(directory));
    }

    fn compact(
        &self,
        replicas: &Replicas,
        partition: &Partition,
        settings: &CleanerSettings,
    ) -> Result<Outcome, Trouble> {
        let mut waiting = 0;
        let mut pace = |bytes| {
            waiting += bytes;
            if waiting < PACE_BYTES {
                return ControlFlow::Continue(());
            }
            self.hold_up(replicas, partition, std::mem::take(&mut waiting))
        };
        let now = replicas.clock.now().wall;
        let outcome = run_pass(partition, settings, now, &mut pace)?;
        checkpoints::write_compacted(partition.directory(), || {
            replicas.all_in(partition.directory())
        })?;
        Ok(outcome)
    }

    /// Has the worker rest for what it has read and written; ends its pass when it is to stop or its partition is gone.
    fn hold_up(&self, replicas: &Replicas, partition: &Partition, bytes: u64) -> ControlFlow<()> {
        let now = replicas.clock.monotonic();
        let (rested_at, rate) = {
            let mut state = self.lock();
            (now.after(state.throttle.spend(bytes, now)), state.settings)
        };
        loop {
            if partition.offsets().is_err() {
                return ControlFlow::Break(());
            }
            let state = self.lock();
            if state.is_stopping {
                return ControlFlow::Break(());
            }
            let left = rested_at.remaining(replicas.clock.monotonic());
            // Whoever changed the rate does not want the rest that it cost before.
            if left.is_zero() || state.settings != rate {
                return ControlFlow::Continue(());
            }
            drop(pause(&self.changed, state, Some(left.min(LONGEST_REST))));
        }
    }

    /// What failed before is not to be done any more.
    fn note_nothing_due(&self, partition: &Partition) {
        let mut state = self.lock();
        if let Some(history) = state.histories.get_mut(&partition.id()) {
            history.failure = None;
        }
    }

    /// Takes note of how a pass ended, and says so.
    fn note(&self, replicas: &Replicas, partition: &Partition, outcome: Result<Outcome, Trouble>) {
        let now = replicas.clock.now();
        let mut state = self.lock();
        let settings = state.settings;
        let history = state.histories.entry(partition.id()).or_default();
        match outcome {
            Ok(outcome) => {
                history.compacted_at = Some(now.wall);
                history.failure = None;
                drop(state);
                say(partition, &outcome);
            }
            Err(Trouble::Error(CompactionError::Stopped | CompactionError::NotDue)) => {}
            Err(trouble) => {
                let times = history.failure.as_ref().map_or(0, |failure| failure.times) + 1;
                let backoff = settings.map_or(Duration::ZERO, |settings| settings.backoff);
                let backoff = backoff.max(Duration::from_secs(1));
                let wait = backoff.saturating_mul(1 << times.min(16)).min(LONGEST_WAIT);
                let reason = trouble.to_string();
                // Retention may be faster once; a file that is missing for good is met again.
                let is_overtaken =
                    times == 1 && matches!(trouble, Trouble::Error(CompactionError::Changed));
                let topic = &*partition.topic;
                let index = partition.index.0;
                history.failure = Some(Failure {
                    reason: reason.clone(),
                    times,
                    retry_at: now.monotonic.after(wait),
                });
                drop(state);
                if is_overtaken {
                    tracing::info!(topic, partition = index, retry_in = ?wait, reason, "a pass over a log begins anew");
                    return;
                }
                tracing::error!(topic, partition = index, times, retry_in = ?wait, reason, "cannot compact a log; it is tried again");
            }
        }
    }
}

/// Why a partition could not be compacted.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Error(#[from] CompactionError),
    #[error(transparent)]
    Checkpoint(#[from] FileError),
    #[error("compaction panicked: {0}")]
    Panic(String),
}

/// Runs `work`, whatever happens in it.
fn guarded<T>(work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Trouble::Panic(message.unwrap_or_default()))
        }
    }
}

/// Compacts `partition`, if it is still due.
fn run_pass(
    partition: &Partition,
    settings: &CleanerSettings,
    now: Timestamp,
    pace: Pace<'_>,
) -> Result<Outcome, CompactionError> {
    // A deletion waits for this before the files go.
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

/// The plan for a partition; nothing when it is gone, or held up by its disk.
fn plan(
    replicas: &Replicas,
    partition: &Partition,
    now: Timestamp,
) -> Result<Option<Plan>, Trouble> {
    let plan = replicas.try_with_log(partition, |log| log.plan_compaction(now));
    Ok(plan.transpose().map_err(CompactionError::from)?)
}

fn say(partition: &Partition, outcome: &Outcome) {
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
    use super::{Trouble, guarded};

    #[test]
    fn a_panic_is_an_error_of_its_partition_alone() {
        let outcome = guarded(|| -> Result<(), Trouble> {
            let offset = std::hint::black_box(7);
            panic!("no batch at {offset}")
        });
        let reason = outcome.unwrap_err().to_string();
        assert_eq!(reason, "compaction panicked: no batch at 7");
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
    }
}
