//! One flush of a log: the list of what to sync. It is made under the partition's lock and run without it.
//!
//! There are two kinds. A flush syncs batches and the names of new files, so that acknowledged records survive. A
//! checkpoint also syncs indexes and snapshots, and so moves the recovery point. See `progress.rs`.
//!
//! It relies on assumptions 1, 2, 6 and 7 of `docs/formats.md`: a failed sync is final, and names are synced
//! separately.

use super::creation::Creation;
use crate::directory::{LogDirectory, StorageError};
use crate::epoch_file::EpochWrite;
use crate::files::{File, FileError, Files};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use ottla_protocol::ids::Offset;
use std::path::PathBuf;
use std::sync::Arc;

/// From this number of dirty files on, one sync of the file system is faster (measured). It also needs no open file,
/// and so no descriptors.
const MANY: usize = 8;

/// What one flush syncs.
#[derive(Debug)]
pub(super) enum Extent<H> {
    Files(Vec<Arc<H>>),
    FileSystem,
}

impl<H> Extent<H> {
    /// The extent for `logs` logs with `count` files each; `open` opens the files of one log.
    pub(super) fn of(
        count: usize,
        logs: usize,
        open: impl FnOnce() -> Result<Vec<Arc<H>>, FileError>,
    ) -> Result<Self, FileError> {
        if count.saturating_mul(logs) >= MANY {
            Ok(Self::FileSystem)
        } else {
            open().map(Self::Files)
        }
    }

    fn files(&self) -> usize {
        match self {
            Self::Files(files) => files.len(),
            Self::FileSystem => MANY,
        }
    }
}

/// What to sync to make a log durable up to `end`. Run it without the partition's lock.
#[derive(Debug)]
#[must_use = "what was taken to be synced must be synced"]
pub struct Flush<F: Files> {
    pub(super) directory: Arc<LogDirectory<F>>,
    pub(super) path: PathBuf,
    pub(super) extent: Extent<F::File>,
    /// The segments that the flush covers.
    pub(super) segments: Vec<Offset>,
    pub(super) has_new_names: bool,
    /// The leader epochs to write before the recovery point passes them; `None` if their file is up to date.
    pub(super) epochs: Option<EpochWrite>,
    /// What to write after everything else is durable.
    pub(super) creation: Creation,
    pub(super) end: LogPosition,
    pub(super) cuts: u64,
}

impl<F: Files> Flush<F> {
    /// The log is durable up to here after the flush has run.
    pub fn end(&self) -> LogPosition {
        self.end
    }

    /// Runs the flush. A failed sync takes the log directory offline and is never retried.
    pub fn run(&self) -> Result<(), StorageError> {
        self.directory.ensure_online()?;
        match &self.extent {
            Extent::FileSystem => self.directory.sync_file_system()?,
            Extent::Files(open) => self.sync_files(open)?,
        }
        self.write_epochs()?;
        self.creation.write(&self.directory, &self.path)
    }

    fn sync_files(&self, open: &[Arc<F::File>]) -> Result<(), StorageError> {
        for file in open {
            let synced = match file.sync_data() {
                Err(_) if is_planted(Bug::FailedSyncRetried) => file.sync_data(),
                outcome => outcome,
            };
            self.directory.judge(synced)?;
        }
        if self.has_new_names {
            let files = self.directory.files();
            let synced = unless_gone(files.sync_directory(&self.path));
            self.directory.judge(synced)?;
        }
        Ok(())
    }

    /// Writes the small files as temporary files, unsynced; returns whether there is one to rename.
    fn write_aside(&self) -> Result<bool, StorageError> {
        let is_created = self.creation.write_aside(&self.directory, &self.path)?;
        let Some(epochs) = &self.epochs else {
            return Ok(is_created);
        };
        let written = unless_gone(epochs.write_aside(self.directory.files(), &self.path));
        self.directory.judge(written).map(|()| true)
    }

    /// Renames the temporary files, which the caller has synced. The names are not synced.
    fn rename(&self) -> Result<(), StorageError> {
        if let Some(epochs) = &self.epochs {
            let renamed = unless_gone(epochs.rename(self.directory.files(), &self.path));
            self.directory.judge(renamed)?;
        }
        self.creation.rename(&self.directory, &self.path)
    }

    fn write_epochs(&self) -> Result<(), StorageError> {
        let Some(epochs) = &self.epochs else {
            return Ok(());
        };
        let written = unless_gone(epochs.run(self.directory.files(), &self.path));
        self.directory.judge(written)
    }
}

/// Ignores a missing file: a partition that was deleted meanwhile has been renamed, and its old name need not be
/// durable.
fn unless_gone(outcome: Result<(), FileError>) -> Result<(), FileError> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}

/// Runs the flushes of many logs of one directory: one by one, or with one sync of the file system if that is faster.
pub fn run_together<F: Files>(flushes: &[Flush<F>]) -> Result<(), StorageError> {
    let files: usize = flushes
        .iter()
        .map(|flush| flush.extent.files() + usize::from(flush.has_new_names))
        .sum();
    match flushes {
        [first, ..] if files >= MANY => {
            first.directory.ensure_online()?;
            let mut flushes_left = flushes.iter();
            let aside = flushes_left.try_fold(false, |have, flush| {
                Ok::<_, StorageError>(flush.write_aside()? || have)
            });
            // Batches are synced even if a small file could not be written.
            first.directory.sync_file_system()?;
            if aside? {
                flushes.iter().try_for_each(Flush::rename)?;
                first.directory.sync_file_system()?;
            }
            Ok(())
        }
        _ => flushes.iter().try_for_each(Flush::run),
    }
}
