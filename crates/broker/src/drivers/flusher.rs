//! The thread of a log directory that runs its passes of group commit.
//!
//! `ottla_replica` decides which partitions a pass flushes, when it is due, and which producers it answers. The
//! thread waits, runs the pass, and logs a failure. It is woken through the directory's `flusher`, a
//! [`FlusherThread`](crate::replicas::partition::FlusherThread), and ends once that is stopped and the queue is empty.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::StorageError;
use ottla_log::files::disk::Disk;
use ottla_log::files::{FileError, Operation};
use ottla_protocol::time::MonotonicTime;
use ottla_replica::stalls::Task;

use super::threads::{Threads, caught};
use super::working::Working;
use crate::process::clock::Clock;
use crate::replicas::partition::Tasks;
use crate::replicas::{Directory, Replicas};

type Pass = ottla_replica::FlushPass<Disk, Tasks>;

/// Passes that a shutdown may use to flush what is queued. Closing the logs flushes the rest, and logs it.
const LAST_PASSES: u32 = 100;

/// Starts the flusher's thread of each log directory.
pub(super) fn start(threads: &Threads, replicas: &Replicas) -> io::Result<()> {
    let clock = replicas.clock();
    for (number, directory) in replicas.directories().iter().enumerate() {
        let directory = Arc::clone(directory);
        threads.start("flush", number, move || run(&directory, clock))?;
    }
    Ok(())
}

fn run(directory: &Arc<Directory>, clock: Clock) {
    let mut last_passes = 0;
    while let Some(mut pass) = next_pass(directory, clock, &mut last_passes) {
        let working = Working::begin(directory, Task::Flush, clock);
        let flushed = caught(|| {
            directory.flusher.syncs.run(|| pass.sync());
            pass.end(clock.monotonic())
        });
        let flushed = flushed.unwrap_or_else(|_| Err(panicked(directory, &pass)));
        drop(working);
        if let Err(error) = flushed {
            tracing::error!(%error, "cannot flush; the log directory is offline until the broker is started again");
        }
    }
}

/// It is unknown how far the pass got, so the directory goes offline.
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
            // What is queued is flushed now.
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
