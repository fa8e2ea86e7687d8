//! One process per log directory: the file `.lock`, which Kafka locks in the same way.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

const LOCK: &str = ".lock";

/// A lock on a log directory, held until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Why a log directory cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum NotLocked {
    /// Another process has it.
    #[error(
        "{0} is in use by another process; stop it, or choose another directory (key log.dirs)"
    )]
    InUse(PathBuf),
    /// The disk cannot.
    #[error("cannot lock {path} (key log.dirs): {source}")]
    File {
        /// The lock's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DirectoryLock {
    /// Locks `directory`, which must exist.
    pub fn take(directory: &Path) -> Result<Self, NotLocked> {
        let path = directory.join(LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| NotLocked::File {
                path: path.clone(),
                source,
            })?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                Err(NotLocked::InUse(directory.to_owned()))
            }
            Err(errno) => Err(NotLocked::File {
                path,
                source: errno.into(),
            }),
        }
    }
}
