//! The disk as this crate sees it: positioned reads and writes, syncs, and names in directories.
//!
//! Two implementations: [`disk::Disk`] and [`simulated::Simulated`], which loses what was not synced. Both pass
//! the same conformance suite. A write is durable after `sync_data` of its file, and a name (created, renamed,
//! removed) only after `sync_directory` of its directory: code that needs both asks for both.

pub mod disk;
pub mod simulated;

#[cfg(test)]
mod conformance;

use crate::planted::{Bug, is_planted};
use rustix::io::Errno;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file system, or its double.
pub trait Files: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file of this file system.
    type File: File;

    /// Opens the file at `path`.
    fn open(&self, path: &Path, how: Open) -> Result<Self::File, FileError>;
    /// Makes the directory at `path` unless it exists; its parent must exist.
    fn create_directory(&self, path: &Path) -> Result<(), FileError>;
    /// What the directory at `path` holds, sorted by name.
    fn list(&self, path: &Path) -> Result<Vec<Entry>, FileError>;
    /// Length and age of the file at `path`, or `None` when there is none.
    fn status(&self, path: &Path) -> Result<Option<Status>, FileError>;
    /// Moves `from` to `to` at once, replacing what was there. Durable after `sync_directory` of both parents.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError>;
    /// Removes the file at `path`; open handles go on working.
    fn remove(&self, path: &Path) -> Result<(), FileError>;
    /// Removes the empty directory at `path`.
    fn remove_directory(&self, path: &Path) -> Result<(), FileError>;
    /// Makes the names in the directory at `path` durable.
    fn sync_directory(&self, path: &Path) -> Result<(), FileError>;
    /// Makes all data and names of the file system that holds `path` durable, in one pass.
    fn sync_file_system(&self, path: &Path) -> Result<(), FileError>;
    /// How large the file system that holds `path` is, and what is left of it.
    fn space(&self, path: &Path) -> Result<Space, FileError>;
}

/// An open file. Positioned, so that any number of threads may share it.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Fills `buffer` from `position`; returns fewer bytes only where the file ends.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError>;
    /// Writes all of `slices` one after the other from `position`. On an error any part may have been written.
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> Result<(), FileError>;
    /// Makes the content and the length durable. After an error the content is unknown: never call it again.
    fn sync_data(&self) -> Result<(), FileError>;
    /// The length in bytes.
    fn length(&self) -> Result<u64, FileError>;
    /// Cuts the file, or extends it with zeros, to `length`.
    fn truncate(&self, length: u64) -> Result<(), FileError>;
    /// Reserves space for `length` bytes from `position` and keeps the file's length. Where the file system
    /// cannot, it does nothing.
    fn reserve(&self, position: u64, length: u64) -> Result<(), FileError>;
    /// Lets the system forget what it keeps in memory of these bytes: nobody reads them soon. Only advice.
    fn forget_cached(&self, position: u64, length: u64);
    /// Whether reading these bytes is unlikely to wait for the disk. An estimate from samples; where the system does
    /// not tell, the answer is yes.
    fn is_cached(&self, position: u64, length: u64) -> bool;
    /// As [`File::read_at`], unless it would wait for the disk: then nothing, and what is in `buffer` means nothing. Where
    /// the system does not tell, it waits.
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> Result<Option<usize>, FileError>;
    /// Starts reading these bytes, and no others, into the system's memory. Only advice.
    fn prefetch(&self, position: u64, length: u64);
}

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made when it does not exist.
    Create,
    /// For reading and writing; made, or emptied when it exists.
    Replace,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The last part of its path.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// What is known of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its length in bytes.
    pub length: u64,
    /// When it was last written, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

/// What a file system holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// What may still be written.
    pub free: u64,
    /// How many files it holds, where it has room for a fixed number.
    pub inodes: Option<Inodes>,
}

/// How many files a file system holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inodes {
    /// In all.
    pub total: u64,
    /// What may still be made.
    pub free: u64,
}

/// What was being done when the disk failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Opening or making a file.
    Open,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Making a file's content durable.
    Sync,
    /// Cutting or extending a file.
    Truncate,
    /// Reserving space.
    Reserve,
    /// Asking for length, age or free space.
    Status,
    /// Making a directory.
    CreateDirectory,
    /// Listing a directory.
    List,
    /// Renaming a file.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// Making names durable.
    SyncDirectory,
    /// Making a whole file system durable.
    SyncFileSystem,
}

impl Operation {
    /// Whether it makes something durable. After a failure nobody knows what is on stable storage.
    pub fn is_sync(self) -> bool {
        matches!(
            self,
            Self::Sync | Self::SyncDirectory | Self::SyncFileSystem
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Truncate => "truncate",
            Self::Reserve => "reserve space for",
            Self::Status => "get the status of",
            Self::CreateDirectory => "create directory",
            Self::List => "list directory",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDirectory => "sync directory",
            Self::SyncFileSystem => "sync the file system of",
        })
    }
}

/// A failure of the disk: what was done, where, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}: {source}")]
pub struct FileError {
    /// What was being done.
    pub operation: Operation,
    /// The file or directory it was done to.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// An error of `operation` on `path`.
    pub fn new(operation: Operation, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            path: path.to_path_buf(),
            source: source.into(),
        }
    }

    /// Whether there is no such file.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the disk, or a quota on it, is full: the one write error after which the disk may still be sound.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Whether the file was read, and holds something else than belongs there.
    pub fn is_malformed(&self) -> bool {
        self.source.kind() == io::ErrorKind::InvalidData
    }

    /// Whether the process, or the system, has no file descriptors left.
    pub fn is_lack_of_descriptors(&self) -> bool {
        matches!(
            Errno::from_io_error(&self.source),
            Some(Errno::MFILE | Errno::NFILE)
        )
    }
}

/// Reads the whole file at `path`, or `None` when there is none; refuses one longer than `limit`.
pub fn read_whole<F: Files>(
    files: &F,
    path: &Path,
    limit: u64,
) -> Result<Option<Vec<u8>>, FileError> {
    let file = match files.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.length()?;
    if length > limit {
        let source = io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes, at most {limit} expected"),
        );
        return Err(FileError::new(Operation::Read, path, source));
    }
    let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = file.read_at(&mut content, 0)?;
    content.truncate(read);
    Ok(Some(content))
}

/// Bytes that [`copy`] copies at a time.
const COPY_BYTES: usize = 1 << 20;

/// Copies the bytes at `positions` of `source`, as far as there are any, to `target` from `at` on.
pub(crate) fn copy<H: File>(
    source: &H,
    positions: Range<u64>,
    target: &H,
    at: u64,
) -> Result<(), FileError> {
    let mut buffer = Vec::new();
    let mut position = positions.start;
    while position < positions.end {
        let left = usize::try_from(positions.end - position).unwrap_or(usize::MAX);
        buffer.resize(left.min(COPY_BYTES), 0);
        let read = source.read_at(&mut buffer, position)?;
        buffer.truncate(read);
        if read == 0 {
            break;
        }
        target.write_at(&[IoSlice::new(&buffer)], at + (position - positions.start))?;
        position += read as u64;
    }
    Ok(())
}

/// Replaces the file at `path` by `content` at once and durably: a crash leaves the old or the new, never a mix.
pub fn replace_durably<F: Files>(files: &F, path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_aside(files, path, content)?.sync_data()?;
    files.rename(&aside(path), path)?;
    if is_planted(Bug::RenameWithoutDirectorySync) {
        return Ok(());
    }
    files.sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Writes `content` into the file that is to take the place of `path`, unsynced.
pub(crate) fn write_aside<F: Files>(
    files: &F,
    path: &Path,
    content: &[u8],
) -> Result<F::File, FileError> {
    let file = files.open(&aside(path), Open::Replace)?;
    file.write_at(&[IoSlice::new(content)], 0)?;
    Ok(file)
}

/// Where what is to take the place of `path` is written.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_os_string();
    temporary.push(".tmp");
    PathBuf::from(temporary)
}
