//! Group commit: one thread a log directory syncs what was appended, for everyone who waits at once.
//!
//! Partitions with unflushed records queue up, each at most once. A flush is due when somebody waits for it, else
//! when the oldest record has waited for `ottla.flush.max.delay.ms`; then everything in the queue is synced together.
//! A failed sync fails all who wait on the directory and is never tried again.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_log::files::disk::Disk;
use ottla_log::{Flush, StorageError, run_together};
use ottla_protocol::time::MonotonicTime;

use super::partition::{Partition, Unavailable};
use crate::clock::Clock;

/// The queue of one log directory and its thread.
#[derive(Debug)]
pub struct Flusher {
    clock: Clock,
    max_delay: Duration,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    dirty: Vec<Arc<Partition>>,
    /// When the queue must be worked off; nothing while it is empty.
    due: Option<MonotonicTime>,
    is_stopping: bool,
}

impl Flusher {
    /// A flusher without its thread.
    pub fn new(clock: Clock, max_delay: Duration) -> Arc<Self> {
        Arc::new(Self {
            clock,
            max_delay,
            queue: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Starts the thread; it ends after [`Flusher::stop`], when the queue is empty.
    pub fn start(self: &Arc<Self>, name: &str) -> io::Result<JoinHandle<()>> {
        let flusher = Arc::clone(self);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || flusher.run())
    }

    /// Has what is queued flushed, and the thread end.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_one();
    }

    /// Flushes `partition` as soon as possible.
    pub(super) fn flush_now(&self, partition: &Arc<Partition>) {
        self.enqueue(partition, MonotonicTime::default());
    }

    /// Flushes `partition` after the configured delay at the latest.
    pub(super) fn flush_later(&self, partition: &Arc<Partition>) {
        self.enqueue(partition, self.clock.monotonic().after(self.max_delay));
    }

    fn enqueue(&self, partition: &Arc<Partition>, due: MonotonicTime) {
        let mut queue = self.lock();
        if !partition.set_queued(true) {
            queue.dirty.push(Arc::clone(partition));
        }
        if queue.due.is_none_or(|earlier| due < earlier) {
            queue.due = Some(due);
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Held for pushing and taking only.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(dirty) = self.next_round() {
            if let Err(error) = self.flush_all(&dirty) {
                tracing::error!(%error, "cannot flush; the log directory is offline until the broker is started again");
                let reason = Unavailable::Storage(error);
                for partition in &dirty {
                    partition.fail_waiting(&reason);
                }
            }
        }
    }

    /// Syncs all of `dirty`, then lets those know who wait.
    fn flush_all(&self, dirty: &[Arc<Partition>]) -> Result<(), StorageError> {
        let mut partitions = Vec::with_capacity(dirty.len());
        let mut flushes: Vec<Flush<Disk>> = Vec::with_capacity(dirty.len());
        for partition in dirty {
            match partition.begin_flush() {
                Ok(None) => {}
                Ok(Some(flush)) => {
                    partitions.push(partition);
                    flushes.push(flush);
                }
                Err(error @ StorageError::Offline { .. }) => return Err(error),
                // A lack of file descriptors passes.
                Err(_) => self.flush_later(partition),
            }
        }
        run_together(&flushes)?;
        for (partition, flush) in partitions.into_iter().zip(&flushes) {
            partition.complete_flush(flush)?;
        }
        Ok(())
    }

    /// What is to be flushed, when it is due; nothing when the thread is to end.
    fn next_round(&self) -> Option<Vec<Arc<Partition>>> {
        let mut queue = self.lock();
        loop {
            let left = queue.due.map(|due| due.remaining(self.clock.monotonic()));
            queue = match left {
                Some(left) if left.is_zero() || queue.is_stopping => break,
                Some(left) => {
                    self.changed
                        .wait_timeout(queue, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None if queue.is_stopping => return None,
                None => self
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        queue.due = None;
        let dirty = std::mem::take(&mut queue.dirty);
        drop(queue);
        // From here on an append queues its partition again: it may come too late for this round.
        for partition in &dirty {
            partition.set_queued(false);
        }
        Some(dirty)
    }
}
