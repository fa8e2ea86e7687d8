//! The log directories of this node, each with its flusher.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_log::LogDirectory;
use ottla_log::files::disk::Disk;
use ottla_protocol::ids::Uuid;

use super::flusher::Flusher;
use crate::clock::Clock;

/// One of `log.dirs`.
#[derive(Debug)]
pub struct Directory {
    /// Its id, once `meta.properties` has been read or written.
    pub id: OnceLock<Uuid>,
    /// Its files.
    pub log: Arc<LogDirectory<Disk>>,
    /// Its group commit.
    pub flusher: Arc<Flusher>,
}

/// All of `log.dirs`.
#[derive(Debug)]
pub struct Directories {
    all: Vec<Directory>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Directories {
    /// The directories at `paths`, which must exist before anything is loaded.
    pub fn new(paths: &[PathBuf], clock: Clock, flush_max_delay: Duration) -> Self {
        let all = paths.iter().map(|path| Directory {
            id: OnceLock::new(),
            log: LogDirectory::new(Disk, path),
            flusher: Flusher::new(clock, flush_max_delay),
        });
        Self {
            all: all.collect(),
            threads: Mutex::default(),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Directory] {
        &self.all
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
