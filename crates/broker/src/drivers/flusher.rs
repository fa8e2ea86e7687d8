//! The thread of a log directory that runs its passes of group commit.
//!
//! Which partitions a pass takes, when it is due, and whom it answers is decided by `ottla_replica`; this waits, runs the
//! pass, and logs its failure.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::StorageError;
use ottla_log::files::{FileError, Operation};
use ottla_protocol::time::MonotonicTime;

use super::monitor::Monitor;
use super::worker::{Workers, caught};
use crate::process::clock::Clock;
use crate::replicas::Directory;
use crate::replicas::directories::Working;
use crate::replicas::partition::Tasks;

type Pass = ottla_replica::FlushPass<ottla_log::files::disk::Disk, Tasks>;

/// What wakes the flusher's thread.
#[derive(Debug, Default)]
pub struct Flusher {
    /// A pass may be due earlier than the thread knows.
    is_woken: Monitor<bool>,
}

/// Passes that a stop may use to flush what is queued. Closing the logs flushes the rest, and logs it.
const LAST_PASSES: u32 = 100;

impl Flusher {
    /// Has the thread look when the next pass is due.
    pub(crate) fn wake(&self) {
        self.is_woken.change(|is_woken| *is_woken = true);
    }

    /// Asks the thread to flush what is queued and to end.
    pub fn stop(&self) {
        self.is_woken.stop();
    }
}

/// Starts the flusher's thread of `directory`. It ends after [`Flusher::stop`], when the queue is empty.
pub(crate) fn start(
    threads: &Workers,
    number: usize,
    directory: Arc<Directory>,
    clock: Clock,
) -> io::Result<()> {
    threads.start("flush", number, move || run(&directory, clock))
}

fn run(directory: &Arc<Directory>, clock: Clock) {
    let mut last_passes = 0;
    while let Some(mut pass) = next_pass(directory, clock, &mut last_passes) {
        let working = Working::begin(directory, ottla_replica::stalls::Task::Flush, clock);
        let flushed = caught(|| {
            pass.sync();
            pass.end(clock.monotonic())
        });
        let flushed = flushed.unwrap_or_else(|_| Err(panicked(directory, &pass)));
        drop(working);
        if let Err(error) = flushed {
            tracing::error!(%error, "cannot flush; the log directory is offline until the broker is started again");
        }
    }
}

/// How far the pass got is unknown: the directory goes offline.
fn panicked(directory: &Directory, pass: &Pass) -> StorageError {
    let panicked = io::Error::other("a flush panicked; see above, and report it");
    let error = FileError::new(Operation::Sync, directory.log.path(), panicked);
    let error = directory.log.take_offline(error);
    pass.fail(&error);
    error
}

/// Waits for the pass that is due next; nothing when the thread is to end.
fn next_pass(directory: &Arc<Directory>, clock: Clock, last_passes: &mut u32) -> Option<Pass> {
    let is_woken = &directory.flusher.is_woken;
    loop {
        *is_woken.lock() = false;
        let is_stopping = is_woken.is_stopping();
        let now = if is_stopping {
            // What is left is flushed now.
            *last_passes += 1;
            MonotonicTime(Duration::MAX)
        } else {
            clock.monotonic()
        };
        if *last_passes > LAST_PASSES {
            return None;
        }
        if let Some(pass) = directory.begin_pass(now) {
            return Some(pass);
        }
        if is_stopping {
            return None;
        }
        let left = directory.next_pass().map(|due| due.remaining(now));
        let woken = is_woken.lock();
        if !*woken && !is_woken.is_stopping() {
            drop(is_woken.wait(woken, left));
        }
    }
}
