//! A snapshot that a controller fetches from its leader, piece by piece, into the directory of its log.
//!
//! The file has its name only when it is whole and synced. A start removes what is not.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use ottla_log::files::{File, FileError, Files, Open};

use crate::checkpoint::SnapshotId;

/// A snapshot that is being fetched.
#[derive(Debug)]
pub struct SnapshotDownload<F: Files> {
    files: F,
    path: PathBuf,
    part: PathBuf,
    file: F::File,
    size: u64,
    position: u64,
}

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BadPiece {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the leader's pieces do not make the snapshot that it announced")]
    Other,
}

impl<F: Files> SnapshotDownload<F> {
    /// Begins to fetch a snapshot of `size` bytes.
    pub fn begin(files: F, directory: &Path, id: SnapshotId, size: u64) -> Result<Self, FileError> {
        let path = directory.join(id.file_name());
        let part = path.with_extension("checkpoint.part");
        Ok(Self {
            file: files.open(&part, Open::Replace)?,
            files,
            path,
            part,
            size,
            position: 0,
        })
    }

    /// Where the next piece begins, unless the snapshot is whole.
    pub fn wanted(&self) -> Option<u64> {
        (self.position < self.size).then_some(self.position)
    }

    /// Writes a piece of a snapshot that has `size` bytes, as the leader says.
    pub fn on_piece(&mut self, position: u64, size: u64, bytes: &[u8]) -> Result<(), BadPiece> {
        let end = position + bytes.len() as u64;
        let is_next = position == self.position && size == self.size;
        if !is_next || bytes.is_empty() || end > self.size {
            return Err(BadPiece::Other);
        }
        self.file.write_at(&[IoSlice::new(bytes)], position)?;
        self.position = end;
        Ok(())
    }

    /// Syncs the whole snapshot, and gives the file its name.
    pub fn finish(self) -> Result<(), FileError> {
        self.file.sync_data()?;
        self.files.rename(&self.part, &self.path)?;
        let directory = self.path.parent().expect("it is in a directory");
        self.files.sync_directory(directory)
    }

    /// Removes what was fetched. A failure leaves it to the next start.
    pub fn abandon(self) {
        let Self { files, part, .. } = self;
        let _ = files.remove(&part);
    }
}
