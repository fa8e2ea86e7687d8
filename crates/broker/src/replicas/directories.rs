//! The log directories of this node, each with its flusher.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use ottla_log::files::disk::Disk;
use ottla_log::{LogDirectory, OpenFiles};
use ottla_protocol::ids::Uuid;

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
    pub(super) checkpoints: Mutex<()>,
}

/// All of `log.dirs`.
#[derive(Debug)]
pub struct Directories {
    all: Vec<Arc<Directory>>,
    recovery_threads: OnceLock<usize>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
            })
        });
        Self {
            all: all.collect(),
            recovery_threads: OnceLock::new(),
            threads: Mutex::default(),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Directory>] {
        &self.all
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
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, directory) in self.all.iter().enumerate() {
            threads.push(directory.flusher.start(&format!("flush-{number}"))?);
        }
        Ok(())
    }

    /// Has everything flushed and waits for the threads.
    pub(super) fn stop_flushers(&self) {
        self.all
            .iter()
            .for_each(|directory| directory.flusher.stop());
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a flusher panicked");
            }
        }
    }
}
