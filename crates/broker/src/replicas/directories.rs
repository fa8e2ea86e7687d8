//! The log directories of this node, and the threads that flush them.

use std::io;
use std::sync::{Arc, OnceLock};

use ottla_log::files::disk::Disk;
use ottla_log::{LogDirectory, OpenFiles};
use ottla_protocol::time::MonotonicTime;
pub use ottla_replica::directory::distinct;
use ottla_replica::stalls::{STALLED_AFTER, StallChange, Task};

use super::partition::Tasks;
use crate::config::StorageConfig;
use crate::drivers::flusher::{self, Flusher};
use crate::drivers::worker::Workers;
use crate::process::clock::Clock;

/// One of `log.dirs`.
pub type Directory = ottla_replica::Directory<Disk, Tasks>;

/// A task that runs in a directory until this is dropped.
#[derive(Debug)]
pub(crate) struct Working<'a> {
    directory: &'a Directory,
    task: Task,
    clock: Clock,
}

impl<'a> Working<'a> {
    /// Marks that a task begins.
    pub(crate) fn begin(directory: &'a Directory, task: Task, clock: Clock) -> Self {
        let working = Self {
            directory,
            task,
            clock,
        };
        working.goes_on();
        working
    }

    /// Marks that the disk has answered.
    pub(crate) fn goes_on(&self) {
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

/// Logs that a directory is stalled, and that it answers again, once each.
fn log_stall(directory: &Directory, now: MonotonicTime) {
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

/// All of `log.dirs`.
#[derive(Debug)]
pub struct Directories {
    all: Vec<Arc<Directory>>,
    clock: Clock,
    recovery_threads: OnceLock<usize>,
    flushers: Workers,
}

impl Directories {
    /// The configured directories, which must exist before anything is loaded; of their files `open_files` stay open.
    pub fn new(storage: &StorageConfig, open_files: usize, clock: Clock) -> Self {
        let open_files = Arc::new(OpenFiles::new(open_files));
        let all = storage.log_dirs.iter().map(|path| {
            let log = LogDirectory::sharing(Disk, path, Arc::clone(&open_files));
            let delay = storage.flush_max_delay;
            Directory::new(log, storage.disk_reserve, delay, Flusher::default())
        });
        Self {
            all: all.collect(),
            clock,
            recovery_threads: OnceLock::new(),
            flushers: Workers::default(),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Directory>] {
        &self.all
    }

    /// Logs which of them are stalled, and which answer again.
    pub(crate) fn log_stalls(&self, now: MonotonicTime) {
        self.all
            .iter()
            .for_each(|directory| log_stall(directory, now));
    }

    /// How many logs of each of them are opened, or closed, at a time: what the configuration said when they were loaded.
    pub(crate) fn recovery_threads(&self, configured: impl FnOnce() -> usize) -> usize {
        *self.recovery_threads.get_or_init(configured)
    }

    pub(crate) fn start_flushers(&self) -> io::Result<()> {
        for (number, directory) in self.all.iter().enumerate() {
            flusher::start(&self.flushers, number, Arc::clone(directory), self.clock)?;
        }
        Ok(())
    }

    /// Has everything flushed in the directory of this number and waits for its thread.
    pub(crate) fn stop_flusher(&self, number: usize) {
        self.all[number].flusher.stop();
        self.flushers.join(number);
    }
}
