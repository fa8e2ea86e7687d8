//! Two ways to read files during a search: waiting for the disk, or only what is in the page cache.
//!
//! A look at the page cache ends at the first byte that is not there. It returns what is [`Missing`], so that the caller
//! can release its locks, have the bytes loaded and look again. A look belongs to one caller.

use crate::files::{File, FileError, Operation};
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

/// The bytes that a look needs and that are not in the page cache.
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

/// A way to read files.
#[derive(Debug)]
pub(crate) enum Look<H> {
    /// It waits for the disk.
    Waiting,
    /// It reads what is in the page cache, and records what is missing.
    Cached(RefCell<Option<Missing<H>>>),
}

/// A file that is read by a look.
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

    /// Whether the look has missed something, so that the error of a read is not the disk's.
    pub(crate) fn has_missed(&self) -> bool {
        match self {
            Self::Waiting => false,
            Self::Cached(missing) => missing.borrow().is_some(),
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
