//! A log directory: the one place where files are obtained, and where a failing disk is noticed.
//!
//! Handles of closed segments come from a bounded cache of open files, keyed by path. The first failed write, sync
//! or read takes the directory offline: from then on every call answers with that failure, and nothing is tried
//! again. A full disk and a lack of file descriptors are not failures of the disk and leave it online.

use crate::files::{FileError, Files, Open};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// One of `log.dirs`, shared by the logs in it.
#[derive(Debug)]
pub struct LogDirectory<F: Files> {
    files: F,
    path: PathBuf,
    failure: OnceLock<Arc<FileError>>,
    open: Mutex<OpenFiles<F::File>>,
}

/// What the disk cannot do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The log directory has failed; it stays offline until the broker is started again.
    #[error("log directory {} is offline: {cause}", directory.display())]
    Offline {
        /// The log directory.
        directory: PathBuf,
        /// Its first failure.
        cause: Arc<FileError>,
    },
    /// The disk is full; what it holds is sound.
    #[error("log directory {} is full: {cause}", directory.display())]
    Full {
        /// The log directory.
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
}

/// The files last used, bounded; the one unused for longest is closed first.
#[derive(Debug)]
struct OpenFiles<H> {
    limit: usize,
    clock: u64,
    files: BTreeMap<PathBuf, (Arc<H>, u64)>,
    by_use: BTreeMap<u64, PathBuf>,
}

/// Files kept open for closed segments and indexes, in one log directory, unless told otherwise.
pub const DEFAULT_OPEN_FILES: usize = 1000;

impl<F: Files> LogDirectory<F> {
    /// The directory at `path`, which must exist.
    pub fn new(files: F, path: impl Into<PathBuf>) -> Arc<Self> {
        Self::with_open_files(files, path, DEFAULT_OPEN_FILES)
    }

    /// The directory at `path` with at most `limit` files kept open for reading.
    pub fn with_open_files(files: F, path: impl Into<PathBuf>, limit: usize) -> Arc<Self> {
        let open = OpenFiles {
            limit: limit.max(1),
            clock: 0,
            files: BTreeMap::new(),
            by_use: BTreeMap::new(),
        };
        Arc::new(Self {
            files,
            path: path.into(),
            failure: OnceLock::new(),
            open: Mutex::new(open),
        })
    }

    /// The file system it lies on.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// Its path.
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

    /// Judges a failure: see [`LogDirectory::judge`].
    pub fn failed(&self, error: FileError) -> StorageError {
        let directory = self.path.clone();
        if error.is_full() {
            return StorageError::Full {
                directory,
                cause: Arc::new(error),
            };
        }
        if is_lack_of_descriptors(&error) {
            return StorageError::TooManyOpenFiles {
                cause: Arc::new(error),
            };
        }
        self.take_offline(error)
    }

    /// Takes the directory offline, unless it is already.
    pub(crate) fn take_offline(&self, error: FileError) -> StorageError {
        let cause = self.failure.get_or_init(|| Arc::new(error));
        self.offline(cause)
    }

    fn offline(&self, cause: &Arc<FileError>) -> StorageError {
        StorageError::Offline {
            directory: self.path.clone(),
            cause: Arc::clone(cause),
        }
    }

    /// The file at `path`, open for reading and writing, from the cache or from disk.
    pub fn open(&self, path: &Path, how: Open) -> Result<Arc<F::File>, FileError> {
        if let Some(file) = self.lock().get(path) {
            return Ok(file);
        }
        let file = Arc::new(self.open_anew(path, how)?);
        self.lock().insert(path.to_path_buf(), Arc::clone(&file));
        Ok(file)
    }

    /// The file at `path`, for an owner who keeps it open. Closes cached files when there are too many.
    pub fn open_anew(&self, path: &Path, how: Open) -> Result<F::File, FileError> {
        match self.files.open(path, how) {
            Err(error) if is_lack_of_descriptors(&error) => {
                self.lock().clear();
                self.files.open(path, how)
            }
            outcome => outcome,
        }
    }

    /// Forgets the cached handles of `path` and, when it is a directory, of all below it: it is removed or renamed.
    pub fn forget(&self, path: &Path) {
        self.lock().remove(path);
    }

    /// The files that the cache keeps open.
    pub fn cached_files(&self) -> usize {
        self.lock().files.len()
    }

    fn lock(&self) -> MutexGuard<'_, OpenFiles<F::File>> {
        // Held for a lookup only, never across a system call but the closing of a file.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_lack_of_descriptors(error: &FileError) -> bool {
    let errno = rustix::io::Errno::from_io_error(&error.source);
    matches!(
        errno,
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    )
}

impl<H> OpenFiles<H> {
    fn get(&mut self, path: &Path) -> Option<Arc<H>> {
        let (file, used) = self.files.get_mut(path)?;
        let path = self.by_use.remove(used)?;
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, path);
        Some(Arc::clone(file))
    }

    fn insert(&mut self, path: PathBuf, file: Arc<H>) {
        self.clock += 1;
        self.by_use.insert(self.clock, path.clone());
        if let Some((_, used)) = self.files.insert(path, (file, self.clock)) {
            self.by_use.remove(&used);
        }
        while self.files.len() > self.limit {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.files.remove(&oldest);
        }
    }

    fn remove(&mut self, path: &Path) {
        let gone: Vec<PathBuf> = self
            .files
            .range(path.to_path_buf()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(path))
            .cloned()
            .collect();
        for path in gone {
            if let Some((_, used)) = self.files.remove(&path) {
                self.by_use.remove(&used);
            }
        }
    }

    fn clear(&mut self) {
        self.files.clear();
        self.by_use.clear();
    }
}
