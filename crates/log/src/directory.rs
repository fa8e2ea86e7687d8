//! A log directory: opens files, and decides what an error of the disk means.
//!
//! Files of segments come from the bounded [`OpenFiles`]. The first failed write, sync or read takes the directory
//! offline: every later call returns that failure, and nothing is retried (assumptions 2 and 11 of `docs/formats.md`).
//! A full disk, a lack of file descriptors, and damaged bytes leave the directory online.

use crate::damage::Damage;
use crate::files::{FileError, Files, Open};
use crate::look::Look;
use crate::open_files::OpenFiles;
use ottla_protocol::ids::Offset;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// One of `log.dirs`, shared by the logs in it.
#[derive(Debug)]
pub struct LogDirectory<F: Files> {
    files: F,
    path: PathBuf,
    failure: OnceLock<Arc<FileError>>,
    open: Arc<OpenFiles<F::File>>,
}

/// Why something cannot be read from or written to a log directory.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The log directory has failed; it stays offline until the broker is started again.
    #[error("log directory {} is offline: {cause}", directory.display())]
    Offline {
        directory: PathBuf,
        /// Its first failure.
        cause: Arc<FileError>,
    },
    /// The disk is full. Existing data is sound.
    #[error("log directory {} is full: {cause}", directory.display())]
    Full {
        directory: PathBuf,
        /// The write that did not fit.
        cause: Arc<FileError>,
    },
    /// The process has no file descriptors left. Existing data is sound.
    #[error("too many open files: {cause}")]
    TooManyOpenFiles {
        /// The open that failed.
        cause: Arc<FileError>,
    },
    /// Bytes of one segment are damaged. The rest of the log can be used.
    #[error(
        "{}: {damage}; consumers can seek past it, `ottla log repair {}` takes it out while the broker is stopped",
        path.display(),
        log_directory_of(path).display()
    )]
    Damaged {
        /// The segment's `.log` file.
        path: PathBuf,
        damage: Damage,
    },
    /// The index of aborted transactions of one segment is damaged, so it is unknown which records are committed.
    #[error(
        "{}: the index of aborted transactions is damaged; `ottla log repair {}` makes it anew while the broker is stopped",
        path.display(),
        log_directory_of(path).display()
    )]
    DamagedTransactionIndex {
        /// The segment's `.txnindex` file.
        path: PathBuf,
        /// The base offset of the segment.
        segment: Offset,
    },
}

/// Ignores a full disk: for files that only save work at the next start.
pub(crate) fn unless_full(outcome: Result<(), StorageError>) -> Result<(), StorageError> {
    match outcome {
        Err(StorageError::Full { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// The log directory of a segment's file.
fn log_directory_of(segment: &Path) -> &Path {
    segment.ancestors().nth(2).unwrap_or(segment)
}

impl<F: Files> LogDirectory<F> {
    /// The directory at `path`, which must exist, with open files of its own.
    pub fn new(files: F, path: impl Into<PathBuf>) -> Arc<Self> {
        Self::sharing(files, path, Arc::default())
    }

    /// The directory at `path`, which must exist. `open` is the bound of open files that it shares with other
    /// directories.
    pub fn sharing(files: F, path: impl Into<PathBuf>, open: Arc<OpenFiles<F::File>>) -> Arc<Self> {
        Arc::new(Self {
            files,
            path: path.into(),
            failure: OnceLock::new(),
            open,
        })
    }

    /// The file system it lies on.
    pub fn files(&self) -> &F {
        &self.files
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The failure that took it offline, if one did.
    pub fn failure(&self) -> Option<Arc<FileError>> {
        self.failure.get().cloned()
    }

    /// An error once the directory is offline.
    pub fn ensure_online(&self) -> Result<(), StorageError> {
        self.failure
            .get()
            .map_or(Ok(()), |cause| Err(self.offline(cause)))
    }

    /// Turns a [`FileError`] into a [`StorageError`]. A failure of the disk takes the directory offline.
    pub fn judge<T>(&self, outcome: Result<T, FileError>) -> Result<T, StorageError> {
        outcome.map_err(|error| self.failed(error))
    }

    /// As [`LogDirectory::judge`], for what `look` has read; `None` if bytes were missing in the page cache.
    pub(crate) fn judge_look<T>(
        &self,
        look: &Look<F::File>,
        outcome: Result<T, FileError>,
    ) -> Result<Option<T>, StorageError> {
        match outcome {
            Err(_) if look.has_missed() => Ok(None),
            outcome => self.judge(outcome).map(Some),
        }
    }

    /// Judges a failure: see [`LogDirectory::judge`]. A failed sync always takes the directory offline, even with the
    /// error of a full disk: the kernel may have dropped what was to be synced. A sync that could not open its
    /// directory has not begun; its operation is `Open`, and it is judged by its cause.
    pub fn failed(&self, error: FileError) -> StorageError {
        if error.operation.is_sync() {
            return self.take_offline(error);
        }
        let directory = self.path.clone();
        if error.is_full() {
            return StorageError::Full {
                directory,
                cause: Arc::new(error),
            };
        }
        if error.is_lack_of_descriptors() {
            return StorageError::TooManyOpenFiles {
                cause: Arc::new(error),
            };
        }
        self.take_offline(error)
    }

    /// Syncs the whole file system of the directory.
    pub(crate) fn sync_file_system(&self) -> Result<(), StorageError> {
        self.judge(self.files.sync_file_system(&self.path))
    }

    /// Takes the directory offline, unless it is already. For an error that leaves its files in an unknown state, even
    /// if the disk is only full.
    pub fn take_offline(&self, error: FileError) -> StorageError {
        let cause = self.failure.get_or_init(|| Arc::new(error));
        self.offline(cause)
    }

    /// As [`LogDirectory::take_offline`], for an error that was judged already.
    pub fn give_up(&self, error: StorageError) -> StorageError {
        match error {
            StorageError::Full { cause, .. } | StorageError::TooManyOpenFiles { cause } => {
                self.offline(self.failure.get_or_init(|| cause))
            }
            error => error,
        }
    }

    fn offline(&self, cause: &Arc<FileError>) -> StorageError {
        StorageError::Offline {
            directory: self.path.clone(),
            cause: Arc::clone(cause),
        }
    }

    /// The file at `path`, from the open files, or opened now.
    pub fn open(&self, path: &Path, how: Open) -> Result<Arc<F::File>, FileError> {
        if let Some(file) = self.open.get(path) {
            return Ok(file);
        }
        self.open_and_keep(path, how)
    }

    /// Opens the file at `path`, and replaces what was open under this name.
    pub(crate) fn open_and_keep(&self, path: &Path, how: Open) -> Result<Arc<F::File>, FileError> {
        let file = Arc::new(self.open_anew(path, how)?);
        self.open.insert(path.to_path_buf(), Arc::clone(&file));
        Ok(file)
    }

    /// Opens the file at `path` for an owner who keeps it, outside of the open files. If descriptors are lacking, it
    /// closes the open files and tries once more.
    pub fn open_anew(&self, path: &Path, how: Open) -> Result<F::File, FileError> {
        match self.files.open(path, how) {
            Err(error) if error.is_lack_of_descriptors() => {
                self.open.clear();
                self.files.open(path, how)
            }
            outcome => outcome,
        }
    }

    /// Drops the open files of `path` and, for a directory, of all files in it. Call it before a removal or a rename.
    pub fn forget(&self, path: &Path) {
        self.open.remove(path);
    }
}
