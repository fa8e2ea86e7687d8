//! Group commit: one thread a log directory syncs what was appended, for everyone who waits at once.
//!
//! Which partitions a pass takes along, and when, is decided by `ottla_log`'s [`GroupCommit`]; this is its driver.
//! Whoever waits, waits for the high watermark of a partition, which moves when a pass over it has ended well. A
//! failed sync fails all who wait on the directory and is never tried again.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_log::files::disk::Disk;
use ottla_log::files::{FileError, Operation};
use ottla_log::group_commit::{GroupCommit, LogId};
use ottla_log::{Flush, StorageError, run_together};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;

use super::directories::{Directory, Work};
use super::partition::{Partition, Unavailable};
use super::pause::pause;
use crate::clock::Clock;

/// The group commit of one log directory and its thread.
#[derive(Debug)]
pub struct Flusher {
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    commit: GroupCommit<()>,
    /// The partitions that the next pass may take along.
    dirty: BTreeMap<LogId, Arc<Partition>>,
    enrolled: u64,
    is_stopping: bool,
    /// Passes begun since it stops.
    last_passes: u32,
}

/// What a stop cannot flush in so many passes, the close of the logs must, and says so.
const LAST_PASSES: u32 = 100;

impl Flusher {
    /// A flusher without its thread.
    pub fn new(clock: Clock, max_delay: Duration) -> Arc<Self> {
        let commit = GroupCommit::new(max_delay);
        let dirty = BTreeMap::new();
        let state = State {
            commit,
            dirty,
            enrolled: 0,
            is_stopping: false,
            last_passes: 0,
        };
        Arc::new(Self {
            clock,
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// Takes on a log that is durable up to `flushed`.
    pub(super) fn enrol(&self, flushed: Offset) -> LogId {
        let mut state = self.lock();
        state.enrolled += 1;
        let id = LogId(state.enrolled);
        state.commit.add(id, flushed);
        id
    }

    /// Lets go of a log.
    pub(super) fn leave(&self, id: LogId) {
        let mut state = self.lock();
        state.commit.remove(id);
        state.dirty.remove(&id);
    }

    /// Starts the thread of `directory`, whose flusher this is; it ends after [`Flusher::stop`], when the queue is empty.
    pub(super) fn start(
        self: &Arc<Self>,
        name: &str,
        directory: Arc<Directory>,
    ) -> io::Result<JoinHandle<()>> {
        let flusher = Arc::clone(self);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || flusher.run(&directory))
    }

    /// Has what is queued flushed, and the thread end.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_one();
    }

    /// Flushes `partition`, which ends at `end`, as soon as possible.
    pub(super) fn flush_now(&self, partition: &Arc<Partition>, end: Offset) {
        let now = self.clock.monotonic();
        self.note(partition, |commit, id| {
            // Who waits here waits for the high watermark.
            let _ = commit.on_wait(id, end, (), now);
        });
    }

    /// Flushes `partition`, which ends at `end`, after the configured delay at the latest.
    pub(super) fn flush_later(&self, partition: &Arc<Partition>, end: Offset) {
        let now = self.clock.monotonic();
        self.note(partition, |commit, id| commit.on_append(id, end, now));
    }

    fn note(&self, partition: &Arc<Partition>, tell: impl FnOnce(&mut GroupCommit<()>, LogId)) {
        let mut state = self.lock();
        let before = state.commit.next_due();
        tell(&mut state.commit, partition.flush_id);
        state
            .dirty
            .entry(partition.flush_id)
            .or_insert_with(|| Arc::clone(partition));
        let due = state.commit.next_due();
        drop(state);
        if due.is_some() && (before.is_none() || due < before) {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Held for noting and taking only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, directory: &Directory) {
        while let Some(pass) = self.next_pass() {
            let working = directory.begin(Work::Flush, self.clock);
            let flush = AssertUnwindSafe(|| self.flush_all(&pass));
            // What it had done by then nobody knows.
            let flushed = catch_unwind(flush).unwrap_or_else(|_| {
                let panicked = io::Error::other("a flush panicked; see above, and report it");
                let path = directory.log.path();
                let error = FileError::new(Operation::Sync, path, panicked);
                Err(directory.log.take_offline(error))
            });
            drop(working);
            match flushed {
                Ok(durable) => {
                    let now = self.clock.monotonic();
                    // Who waited was woken by the high watermark.
                    let _ = self.lock().commit.end_pass(&durable, now);
                }
                Err(error) => self.fail(&pass, error),
            }
        }
    }

    fn fail(&self, pass: &[Arc<Partition>], error: StorageError) {
        tracing::error!(%error, "cannot flush; the log directory is offline until the broker is started again");
        let later = {
            let mut state = self.lock();
            let _ = state.commit.fail();
            std::mem::take(&mut state.dirty)
        };
        let reason = Unavailable::Storage(error);
        for partition in pass.iter().chain(later.values()) {
            partition.fail_waiting(&reason);
        }
    }

    /// Syncs all of `pass` and moves their high watermarks; returns how far each is durable.
    fn flush_all(&self, pass: &[Arc<Partition>]) -> Result<Vec<(LogId, Offset)>, StorageError> {
        let mut durable = Vec::with_capacity(pass.len());
        let mut partitions = Vec::with_capacity(pass.len());
        let mut flushes: Vec<Flush<Disk>> = Vec::with_capacity(pass.len());
        for partition in pass {
            match partition.begin_flush(pass.len()) {
                Ok(None) => self.settle(partition, None, &mut durable)?,
                Ok(Some(flush)) => {
                    partitions.push(partition);
                    flushes.push(flush);
                }
                Err(error @ StorageError::Offline { .. }) => return Err(error),
                Err(_) => self.flush_later(partition, Offset(0)),
            }
        }
        let ran = run_together(&flushes);
        for (partition, flush) in partitions.into_iter().zip(&flushes) {
            if ran.is_ok() {
                self.settle(partition, Some(flush), &mut durable)?;
            } else {
                partition.abandon_flush(flush);
                self.flush_later(partition, flush.end().offset);
            }
        }
        match ran {
            // A lack of file descriptors passes.
            Err(StorageError::TooManyOpenFiles { .. }) | Ok(()) => Ok(durable),
            Err(error) => Err(error),
        }
    }

    /// Moves the high watermark of a partition that is flushed. Where that needs a file that cannot be opened now, the
    /// next pass tries it again: the others, and the directory, are none the worse.
    fn settle(
        &self,
        partition: &Arc<Partition>,
        flush: Option<&Flush<Disk>>,
        durable: &mut Vec<(LogId, Offset)>,
    ) -> Result<(), StorageError> {
        match partition.complete_flush(flush) {
            Ok(()) => durable.extend(partition.flushed()),
            Err(error @ StorageError::Offline { .. }) => return Err(error),
            Err(error) => {
                let (topic, index) = (&*partition.topic, partition.index.0);
                tracing::warn!(topic, partition = index, %error, "cannot move a high watermark; it is tried again");
                self.flush_later(partition, Offset(0));
            }
        }
        Ok(())
    }

    /// The partitions of the next pass, when it is due; nothing when the thread is to end.
    fn next_pass(&self) -> Option<Vec<Arc<Partition>>> {
        let mut state = self.lock();
        loop {
            let mut now = self.clock.monotonic();
            if state.is_stopping {
                // What is left goes now.
                now = MonotonicTime(Duration::MAX);
                state.last_passes += 1;
                if state.last_passes > LAST_PASSES {
                    return None;
                }
            }
            if let Some(logs) = state.commit.begin_pass(now) {
                // From here on an append begins another pass: it may come too late for this one.
                return Some(
                    logs.iter()
                        .filter_map(|log| state.dirty.remove(log))
                        .collect(),
                );
            }
            if state.is_stopping {
                return None;
            }
            let left = state.commit.next_due().map(|due| due.remaining(now));
            state = pause(&self.changed, state, left);
        }
    }
}
