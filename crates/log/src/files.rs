//! The disk as this crate sees it: positioned reads and writes, syncs, and names in directories.
//!
//! There are two implementations, [`disk::Disk`] and [`simulated::Simulated`], which loses what was not synced. Both
//! pass the same conformance suite. A write is durable after `sync_data` of its file. A name (created, renamed,
//! removed) is durable after `sync_directory` of its directory.

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

/// A file system, real or simulated.
pub trait Files: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file of this file system.
    type File: File;

    /// Opens the file at `path`.
    fn open(&self, path: &Path, how: Open) -> Result<Self::File, FileError>;
    /// Makes the directory at `path` unless it exists; its parent must exist.
    fn create_directory(&self, path: &Path) -> Result<(), FileError>;
    /// The entries of the directory at `path`, sorted by name.
    fn list(&self, path: &Path) -> Result<Vec<Entry>, FileError>;
    /// Length and age of the file at `path`, or `None` when there is none.
    fn status(&self, path: &Path) -> Result<Option<Status>, FileError>;
    /// Renames `from` to `to` atomically, replacing a file there. Durable after `sync_directory` of both parents.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError>;
    /// Removes the file at `path`. Open handles stay usable.
    fn remove(&self, path: &Path) -> Result<(), FileError>;
    /// Removes the empty directory at `path`.
    fn remove_directory(&self, path: &Path) -> Result<(), FileError>;
    /// Makes the names in the directory at `path` durable.
    fn sync_directory(&self, path: &Path) -> Result<(), FileError>;
    /// Makes all data and names of the file system that holds `path` durable.
    fn sync_file_system(&self, path: &Path) -> Result<(), FileError>;
    /// The size and the free space of the file system that holds `path`.
    fn space(&self, path: &Path) -> Result<Space, FileError>;
}

/// An open file. Reads and writes name their position, so any number of threads may share it.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Fills `buffer` from `position`; returns fewer bytes only where the file ends.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError>;
    /// Writes all of `slices` one after the other from `position` on. After an error, any part may have been written.
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
    /// Advises the system to drop these bytes from the page cache, because they will not be read soon.
    fn forget_cached(&self, position: u64, length: u64);
    /// Whether reading these bytes is unlikely to wait for the disk. An estimate from samples; true if the system
    /// cannot tell. Linux begins to read what a sample does not find.
    fn is_cached(&self, position: u64, length: u64) -> bool;
    /// As [`File::read_at`], but returns `None` where it would wait for the disk; `buffer` is then undefined. It waits
    /// if the system cannot tell.
    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> Result<Option<usize>, FileError>;
    /// As [`File::read_at`], but leaves the page cache as it is. Where the system cannot, it reads the bytes into the page
    /// cache and drops them again. Fastest if `buffer` and `position` are multiples of [`DIRECT_ALIGNMENT`].
    fn read_past_cache_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError>;
    /// Advises the system to read these bytes, and no others, into the page cache. From then on the system reads nothing
    /// ahead for any user of this open file, however the file is read.
    fn prefetch(&self, position: u64, length: u64);
}

/// Address, position and length of a read past the page cache are multiples of this. It fits every common disk.
pub const DIRECT_ALIGNMENT: usize = 4096;

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

/// Properties of a file that can be read without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its length in bytes.
    pub length: u64,
    /// When it was last written, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

/// The space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// Bytes that may still be written.
    pub free: u64,
    /// Its inodes, if their number is fixed.
    pub inodes: Option<Inodes>,
}

/// The number of files that a file system can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inodes {
    /// In all.
    pub total: u64,
    /// Files that may still be created.
    pub free: u64,
}

/// The operation during which the disk failed.
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
    /// Whether it makes something durable. After a failed sync it is unknown what is on stable storage.
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

/// A failed operation on a file or directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}: {source}")]
pub struct FileError {
    pub operation: Operation,
    pub path: PathBuf,
    pub source: io::Error,
}

impl FileError {
    pub fn new(operation: Operation, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            path: path.to_path_buf(),
            source: source.into(),
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the disk, or a quota on it, is full. This is the one error of a write after which the disk is still
    /// sound.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Whether the file could be read, and its content is not in the expected format.
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

/// The content of the file at `path`; `None` if there is none. A file longer than `limit` is an error.
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

/// Bytes of one step of [`copy`].
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

/// Replaces the file at `path` by `content`, atomically and durably: a crash leaves the old or the new content.
pub fn replace_durably<F: Files>(files: &F, path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_aside(files, path, content)?.sync_data()?;
    files.rename(&aside(path), path)?;
    if is_planted(Bug::RenameWithoutDirectorySync) {
        return Ok(());
    }
    files.sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Writes `content` into the temporary file of `path`, unsynced.
pub(crate) fn write_aside<F: Files>(
    files: &F,
    path: &Path,
    content: &[u8],
) -> Result<F::File, FileError> {
    let file = files.open(&aside(path), Open::Replace)?;
    file.write_at(&[IoSlice::new(content)], 0)?;
    Ok(file)
}

/// The temporary file that will be renamed to `path`.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_os_string();
    temporary.push(".tmp");
    PathBuf::from(temporary)
}
