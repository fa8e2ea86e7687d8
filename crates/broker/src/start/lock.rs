//! The lock of a log directory, which only one process may hold (assumption 14 of `docs/formats.md`): the file `.lock`,
//! which Kafka locks in the same way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ottla_log::files::Files as _;
use ottla_log::files::disk::Disk;
use rustix::fs::{FlockOperation, fcntl_lock};

const LOCK: &str = ".lock";

/// A lock on a log directory. It is held until this is dropped or the process ends, by a crash too.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
    path: PathBuf,
    /// Whether the file was not there before.
    is_new: bool,
}

/// Why a log directory cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum NotLocked {
    #[error(
        "{0} is in use by another process; stop it, or choose another directory (key log.dirs)"
    )]
    InUse(PathBuf),
    #[error("cannot lock {path} (key log.dirs): {source}")]
    File {
        /// The lock's file.
        path: PathBuf,
        source: io::Error,
    },
}

impl DirectoryLock {
    /// Locks `directory`, which must exist.
    pub fn take(directory: &Path) -> Result<Self, NotLocked> {
        let path = directory.join(LOCK);
        let failed = |source| NotLocked::File {
            path: path.clone(),
            source,
        };
        loop {
            let (file, is_new) = open(&path).map_err(failed)?;
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                // A refused start of another process may have removed the file after it was opened here. The lock counts
                // only if `path` still names the locked file.
                Ok(()) if is_named(&file, &path).map_err(failed)? => {
                    return Ok(Self {
                        _file: file,
                        path: path.clone(),
                        is_new,
                    });
                }
                Ok(()) => {}
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                    return Err(NotLocked::InUse(directory.to_owned()));
                }
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }

    /// Releases the lock, and removes the lock file if this lock created it: for a start that was refused, and for a
    /// command that must leave the directory as it was.
    pub fn undo(self) {
        if self.is_new
            && let Err(error) = Disk.remove(&self.path)
        {
            tracing::warn!(%error, "cannot remove the lock file of a log directory");
        }
    }
}

/// The lock file, and whether it was created.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return Ok((opened?, false)),
    }
    match options.create_new(true).open(path) {
        // Another process has created it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            Ok((file, false))
        }
        opened => Ok((opened?, true)),
    }
}

/// Whether `path` still names the file that is open.
fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
