//! The log directories of this node, each with its flusher.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_log::files::disk::Disk;
use ottla_log::{LogDirectory, OpenFiles};
use ottla_protocol::ids::Uuid;
use ottla_protocol::time::MonotonicTime;

use super::disk_reserve::DiskReserve;
use super::flusher::Flusher;
use crate::clock::Clock;
use crate::config::StorageConfig;

/// One of `log.dirs`.
#[derive(Debug)]
pub struct Directory {
    /// Its id, once `meta.properties` has been read or written.
    pub id: OnceLock<Uuid>,
    /// Its files.
    pub log: Arc<LogDirectory<Disk>>,
    /// Its group commit.
    pub flusher: Arc<Flusher>,
    /// What is kept free in it.
    pub reserve: Arc<DiskReserve>,
    /// Held while a checkpoint file is put together and written: of two at once the older might win.
    pub(super) checkpoints: Mutex<CheckpointFiles>,
    /// Since when each [`Work`] has got no answer from its disk, in milliseconds; [`NEVER`] while there is none.
    unanswered_since: [AtomicU64; WORKS],
    /// Whether it was said to stand still.
    is_still: AtomicBool,
}

/// The checkpoint files of a directory.
#[derive(Debug, Default)]
pub(super) struct CheckpointFiles {
    /// Whether they were written for the last time.
    pub(super) are_closed: bool,
}

const NEVER: u64 = u64::MAX;
/// A directory in which a work has not gone on for so long stands still.
const STANDS_STILL: Duration = Duration::from_secs(10);

/// What threads do in a directory that has to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Its housekeeping.
    Housekeeping,
    /// Taking over what the metadata says.
    Metadata,
    /// Syncing what was appended.
    Flush,
    /// Closing it.
    Close,
}

const WORKS: usize = 4;

/// A work that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Working<'a> {
    unanswered_since: &'a AtomicU64,
    clock: Clock,
}

impl Working<'_> {
    /// Takes note that the disk has answered.
    pub(super) fn goes_on(&self) {
        let now = millis(self.clock.monotonic());
        self.unanswered_since.store(now, Ordering::Relaxed);
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.unanswered_since.store(NEVER, Ordering::Relaxed);
    }
}

impl Directory {
    /// Takes note that a work has begun. There is one of each kind at a time.
    pub(super) fn begin(&self, work: Work, clock: Clock) -> Working<'_> {
        let working = Working {
            unanswered_since: &self.unanswered_since[work as usize],
            clock,
        };
        working.goes_on();
        working
    }

    /// Whether its disk has not answered for long.
    pub fn stands_still(&self, now: MonotonicTime) -> bool {
        self.unanswered_since.iter().any(|since| {
            let waited = millis(now).saturating_sub(since.load(Ordering::Relaxed));
            u128::from(waited) >= STANDS_STILL.as_millis()
        })
    }

    /// Whether it has not failed, and does not stand still.
    pub(super) fn answers(&self, now: MonotonicTime) -> bool {
        self.log.failure().is_none() && !self.stands_still(now)
    }

    /// Says that it stands still, and that it goes on, once each.
    fn say_stillness(&self, now: MonotonicTime) {
        let is_still = self.stands_still(now);
        if self.is_still.swap(is_still, Ordering::Relaxed) == is_still {
            return;
        }
        let directory = self.log.path().display();
        if is_still {
            tracing::error!(
                %directory,
                "a log directory has not answered for {STANDS_STILL:?}: requests that need it wait; \
                 look at its disk and at the kernel's log"
            );
        } else {
            tracing::warn!(%directory, "a log directory answers again");
        }
    }
}

fn millis(time: MonotonicTime) -> u64 {
    u64::try_from(time.0.as_millis()).unwrap_or(NEVER)
}

/// The same directories, each once.
pub fn distinct<'a>(directories: impl Iterator<Item = &'a Arc<Directory>>) -> Vec<Arc<Directory>> {
    let mut distinct: Vec<Arc<Directory>> = Vec::new();
    for directory in directories {
        if !distinct.iter().any(|known| Arc::ptr_eq(known, directory)) {
            distinct.push(Arc::clone(directory));
        }
    }
    distinct
}

/// All of `log.dirs`.
#[derive(Debug)]
pub struct Directories {
    all: Vec<Arc<Directory>>,
    recovery_threads: OnceLock<usize>,
    flushers: Mutex<Vec<Option<JoinHandle<()>>>>,
}

impl Directories {
    /// The configured directories, which must exist before anything is loaded; of their files `open_files` stay open.
    pub fn new(storage: &StorageConfig, open_files: usize, clock: Clock) -> Self {
        let open_files = Arc::new(OpenFiles::new(open_files));
        let all = storage.log_dirs.iter().map(|path| {
            let log = LogDirectory::sharing(Disk, path, Arc::clone(&open_files));
            Arc::new(Directory {
                id: OnceLock::new(),
                reserve: DiskReserve::new(Arc::clone(&log), storage.disk_reserve),
                log,
                flusher: Flusher::new(clock, storage.flush_max_delay),
                checkpoints: Mutex::default(),
                unanswered_since: std::array::from_fn(|_| AtomicU64::new(NEVER)),
                is_still: AtomicBool::new(false),
            })
        });
        Self {
            all: all.collect(),
            recovery_threads: OnceLock::new(),
            flushers: Mutex::default(),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Directory>] {
        &self.all
    }

    /// The place of one of them among all.
    pub(super) fn number_of(&self, directory: &Arc<Directory>) -> usize {
        let place = self
            .all
            .iter()
            .position(|known| Arc::ptr_eq(known, directory));
        place.expect("a partition lies in a log directory of its broker")
    }

    /// Says which of them stand still, and which go on.
    pub(super) fn say_stillness(&self, now: MonotonicTime) {
        self.all
            .iter()
            .for_each(|directory| directory.say_stillness(now));
    }

    /// Whether `directory` is known and none of these.
    pub(super) fn lack(&self, directory: Option<Uuid>) -> bool {
        let is_here = |id| self.all.iter().any(|known| known.id.get() == Some(&id));
        let have_ids = self.all.iter().all(|known| known.id.get().is_some());
        have_ids && directory.is_some_and(|id| !is_here(id))
    }

    /// How many logs of each of them are opened, or closed, at a time: what the configuration said when they were loaded.
    pub(super) fn recovery_threads(&self, configured: impl FnOnce() -> usize) -> usize {
        *self.recovery_threads.get_or_init(configured)
    }

    pub(super) fn start_flushers(&self) -> io::Result<()> {
        let mut flushers = self.flushers.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, directory) in self.all.iter().enumerate() {
            let name = format!("flush-{number}");
            let flusher = directory.flusher.start(&name, Arc::clone(directory))?;
            flushers.push(Some(flusher));
        }
        Ok(())
    }

    /// Has everything flushed in the directory of this number and waits for its thread.
    pub(super) fn stop_flusher(&self, number: usize) {
        self.all[number].flusher.stop();
        let thread = {
            let mut flushers = self.flushers.lock().unwrap_or_else(PoisonError::into_inner);
            flushers.get_mut(number).and_then(Option::take)
        };
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a flusher panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Directories, STANDS_STILL, Work};
    use crate::clock::Clock;
    use crate::config::BrokerConfig;
    use std::time::Duration;

    #[test]
    fn a_directory_stands_still_only_while_a_work_in_it_gets_no_answer() {
        let root = tempfile::tempdir().unwrap();
        let config = BrokerConfig::embedded(root.path().to_path_buf(), 0);
        let clock = Clock::start();
        let directories = Directories::new(&config.storage, 10, clock);
        let directory = &directories.all()[0];
        let first = directory.begin(Work::Housekeeping, clock);
        let others = [Work::Metadata, Work::Close].map(|work| directory.begin(work, clock));
        let began = clock.monotonic();
        let late = began.after(2 * STANDS_STILL);
        assert!(directory.stands_still(late) && !directory.stands_still(began));
        while clock.monotonic() < began.after(Duration::from_millis(5)) {}
        first.goes_on();
        let then = began.after(STANDS_STILL).after(Duration::from_millis(3));
        assert!(directory.stands_still(then));
        drop(others);
        assert!(!directory.stands_still(then));
        drop(first);
        assert!(!directory.stands_still(late), "nothing is done in it");
    }
}
