//! Marks which task a thread runs in a log directory, so that a stalled directory is noticed and logged.

use ottla_protocol::time::MonotonicTime;
use ottla_replica::stalls::{STALLED_AFTER, StallChange, Task};

use crate::process::clock::Clock;
use crate::replicas::Directory;

/// A task that runs in a directory until this is dropped.
#[derive(Debug)]
pub(super) struct Working<'a> {
    directory: &'a Directory,
    task: Task,
    clock: Clock,
}

impl<'a> Working<'a> {
    /// The task begins.
    pub(super) fn begin(directory: &'a Directory, task: Task, clock: Clock) -> Self {
        let working = Self {
            directory,
            task,
            clock,
        };
        working.disk_answered();
        working
    }

    /// The disk has answered; the task goes on.
    pub(super) fn disk_answered(&self) {
        self.directory
            .stalls
            .mark(self.task, self.clock.monotonic());
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.directory.stalls.end(self.task);
    }
}

/// Logs, once each, that a directory is stalled and that it answers again.
pub(super) fn log_stall(directory: &Directory, now: MonotonicTime) {
    let path = directory.log.path().display();
    match directory.stalls.change(now) {
        Some(StallChange::Began) => tracing::error!(
            directory = %path,
            "a log directory has not answered for {STALLED_AFTER:?}: requests that need it wait; \
             look at its disk and at the kernel's log"
        ),
        Some(StallChange::Ended) => {
            tracing::warn!(directory = %path, "a log directory answers again");
        }
        None => {}
    }
}
