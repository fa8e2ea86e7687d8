//! A log directory: the one place where files are obtained, and where a failing disk is noticed.
//!
//! The files of segments come from the bounded [`OpenFiles`]. The first failed write, sync or read takes the
//! directory offline: from then on every call answers with that failure, and nothing is repeated (assumptions 2 and 11 of
//! `docs/formats.md`). A full disk, a lack of file descriptors, and damaged bytes leave the directory online.

use crate::damage::Damage;
use crate::files::{FileError, Files, Open};
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

/// What the disk cannot do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The log directory has failed; it stays offline until the broker is started again.
    #[error("log directory {} is offline: {cause}", directory.display())]
    Offline {
        directory: PathBuf,
        /// Its first failure.
        cause: Arc<FileError>,
    },
    /// The disk is full; what it holds is sound.
    #[error("log directory {} is full: {cause}", directory.display())]
    Full {
        directory: PathBuf,
        /// The write that did not fit.
        cause: Arc<FileError>,
    },
    /// The process has no file descriptors left; what the disk holds is sound.
    #[error("too many open files: {cause}")]
    TooManyOpenFiles {
        /// The open that failed.
        cause: Arc<FileError>,
    },
    /// Bytes of one segment are damaged; all others can be used.
    #[error(
        "{}: {damage}; consumers can seek past it, `ottla log repair {}` takes it out while the broker is stopped",
        path.display(),
        log_directory_of(path).display()
    )]
    Damaged {
        /// The segment's `.log` file.
        path: PathBuf,
        /// Where and what.
        damage: Damage,
    },
    /// Which transactions were aborted is not known for sure, so nobody can be told which records are committed.
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

/// What only saves a later start work may be missing while the disk is full.
pub(crate) fn unless_full(outcome: Result<(), StorageError>) -> Result<(), StorageError> {
    match outcome {
        Err(StorageError::Full { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// The log directory in whose partition `segment` lies.
fn log_directory_of(segment: &Path) -> &Path {
    segment.ancestors().nth(2).unwrap_or(segment)
}

impl<F: Files> LogDirectory<F> {
    /// The directory at `path`, which must exist, with open files of its own.
    pub fn new(files: F, path: impl Into<PathBuf>) -> Arc<Self> {
        Self::sharing(files, path, Arc::default())
    }

    /// The directory at `path`, which must exist; `open` bounds its open files together with those of others.
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

    /// Refuses to go on once the directory is offline.
    pub fn ensure_online(&self) -> Result<(), StorageError> {
        self.failure
            .get()
            .map_or(Ok(()), |cause| Err(self.offline(cause)))
    }

    /// Judges the outcome of something done to its files: a real failure takes the directory offline.
    pub fn judge<T>(&self, outcome: Result<T, FileError>) -> Result<T, StorageError> {
        outcome.map_err(|error| self.failed(error))
    }

    /// Judges a failure: see [`LogDirectory::judge`]. A failed sync always takes the directory offline, even with the
    /// error of a full disk: the kernel may have dropped what was to be synced. A sync that could not open its directory
    /// has not begun; its operation is `Open`, and it is judged by its cause.
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

    /// Makes everything on the file system of the directory durable.
    pub(crate) fn sync_file_system(&self) -> Result<(), StorageError> {
        self.judge(self.files.sync_file_system(&self.path))
    }

    /// Takes the directory offline, unless it is already: for an error after which it must not be used, be the disk only
    /// full.
    pub fn take_offline(&self, error: FileError) -> StorageError {
        let cause = self.failure.get_or_init(|| Arc::new(error));
        self.offline(cause)
    }

    /// Takes the directory offline for an error that leaves its files half-way, be the disk only full.
    pub(crate) fn give_up(&self, error: StorageError) -> StorageError {
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

    /// The file at `path`, open for reading and writing, from those that are open or from disk.
    pub fn open(&self, path: &Path, how: Open) -> Result<Arc<F::File>, FileError> {
        if let Some(file) = self.open.get(path) {
            return Ok(file);
        }
        self.open_and_keep(path, how)
    }

    /// The file at `path` from disk, whatever was open under this name.
    pub(crate) fn open_and_keep(&self, path: &Path, how: Open) -> Result<Arc<F::File>, FileError> {
        let file = Arc::new(self.open_anew(path, how)?);
        self.open.insert(path.to_path_buf(), Arc::clone(&file));
        Ok(file)
    }

    /// The file at `path`, for an owner who keeps it. Closes others when there are too many.
    pub fn open_anew(&self, path: &Path, how: Open) -> Result<F::File, FileError> {
        match self.files.open(path, how) {
            Err(error) if error.is_lack_of_descriptors() => {
                self.open.clear();
                self.files.open(path, how)
            }
            outcome => outcome,
        }
    }

    /// Forgets the open files of `path` and, when it is a directory, of all below it: it is removed or renamed.
    pub fn forget(&self, path: &Path) {
        self.open.remove(path);
    }
}
