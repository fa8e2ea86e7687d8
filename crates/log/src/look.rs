//! How files are read while something is looked for: by waiting for the disk, or in the page cache only.
//!
//! A look at the page cache ends at the first byte that is not there. It says what is [`Missing`], so that the caller can
//! let go of its locks, have it loaded and look again. One look is for one caller; it is not shared.

use crate::directory::{LogDirectory, StorageError};
use crate::files::{File, FileError, Files, Operation};
use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// Something that is read at positions.
pub trait Reading {
    /// Fills `buffer` from `position`; returns fewer bytes only where the file ends.
    fn bytes_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError>;
}

impl<H: File> Reading for H {
    fn bytes_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError> {
        self.read_at(buffer, position)
    }
}

impl<H: File> Reading for Arc<H> {
    fn bytes_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError> {
        self.read_at(buffer, position)
    }
}

/// What a look needs that is not in the page cache.
#[derive(Debug)]
pub struct Missing<H> {
    pub file: Arc<H>,
    pub position: u64,
    pub length: usize,
}

impl<H> Clone for Missing<H> {
    fn clone(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            ..*self
        }
    }
}

/// A look at files.
#[derive(Debug)]
pub(crate) enum Look<H> {
    /// It waits for the disk.
    Waiting,
    /// It reads what is in the page cache, and notes what is missing.
    Cached(RefCell<Option<Missing<H>>>),
}

/// A file as a look reads it.
#[derive(Debug)]
pub(crate) struct LookedAt<'a, H> {
    look: &'a Look<H>,
    file: Arc<H>,
}

impl<H: File> Look<H> {
    /// A look that does not wait for the disk.
    pub(crate) fn cached() -> Self {
        Self::Cached(RefCell::new(None))
    }

    pub(crate) fn at(&self, file: Arc<H>) -> LookedAt<'_, H> {
        LookedAt { look: self, file }
    }

    /// Judges what was read, as [`LogDirectory::judge`] does; nothing where the look has missed something.
    pub(crate) fn judge<F: Files<File = H>, T>(
        &self,
        directory: &LogDirectory<F>,
        outcome: Result<T, FileError>,
    ) -> Result<Option<T>, StorageError> {
        match (outcome, self) {
            (Err(_), Self::Cached(missing)) if missing.borrow().is_some() => Ok(None),
            (outcome, _) => directory.judge(outcome).map(Some),
        }
    }

    /// What the look has missed.
    pub(crate) fn into_missing(self) -> Option<Missing<H>> {
        match self {
            Self::Waiting => None,
            Self::Cached(missing) => missing.into_inner(),
        }
    }
}

impl<H: File> Reading for LookedAt<'_, H> {
    fn bytes_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError> {
        let Look::Cached(missing) = self.look else {
            return self.file.read_at(buffer, position);
        };
        if let Some(read) = self.file.read_cached_at(buffer, position)? {
            return Ok(read);
        }
        *missing.borrow_mut() = Some(Missing {
            file: Arc::clone(&self.file),
            position,
            length: buffer.len(),
        });
        // Not a failure of the disk: the caller loads the missing bytes.
        let not_cached = ErrorKind::WouldBlock;
        Err(FileError::new(Operation::Read, Path::new(""), not_cached))
    }
}
