//! A partition's `leader-epoch-checkpoint` on disk, and the order of its writers.
//!
//! The file is written when a checkpoint moves the recovery point, when the log is truncated, and when it is closed. It
//! is not written when an epoch begins: recovery finds the epochs after the recovery point in the batches, and drops
//! epochs that begin at the end of the log or after it. Invariants:
//!
//! - The file has every epoch that begins below a recovery point on disk.
//! - A write that was decided before a truncation never replaces the file that the truncation wrote.

use crate::checkpoint::{rename_leader_epochs, write_leader_epochs, write_leader_epochs_aside};
use crate::files::{FileError, Files};
use crate::leader_epochs::LeaderEpochs;
use ottla_protocol::ids::Offset;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file of one partition.
#[derive(Debug)]
pub(crate) struct EpochFile {
    /// Locked while the file is written. A checkpoint writes it without the partition's lock.
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    epochs: LeaderEpochs,
    /// How often the log was truncated.
    truncations: u64,
}

/// Epochs to be written, decided under the partition's lock.
#[derive(Debug)]
pub(crate) struct EpochWrite {
    file: Arc<EpochFile>,
    epochs: LeaderEpochs,
    truncations: u64,
}

impl EpochFile {
    /// The file, which holds `epochs`.
    pub(crate) fn holding(epochs: LeaderEpochs) -> Arc<Self> {
        let written = Written {
            epochs,
            truncations: 0,
        };
        Arc::new(Self {
            written: Mutex::new(written),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The write that brings the file up to date with `epochs`. Epochs without an append are left out, so a log that
    /// was only opened and closed needs no write.
    pub(crate) fn catch_up(
        self: &Arc<Self>,
        epochs: &LeaderEpochs,
        log_end: Offset,
    ) -> Option<EpochWrite> {
        let mut epochs = epochs.clone();
        epochs.truncate_from_end(log_end);
        let written = self.lock();
        (written.epochs != epochs).then(|| EpochWrite {
            file: Arc::clone(self),
            epochs,
            truncations: written.truncations,
        })
    }

    /// Writes the epochs of a log that was truncated.
    pub(crate) fn truncate<F: Files>(
        &self,
        files: &F,
        partition: &Path,
        epochs: &LeaderEpochs,
    ) -> Result<(), FileError> {
        let mut written = self.lock();
        written.truncations += 1;
        if written.epochs != *epochs {
            write_leader_epochs(files, partition, epochs)?;
            written.epochs = epochs.clone();
        }
        Ok(())
    }
}

impl EpochFile {
    /// Lets no [`EpochWrite`] write any more: the partition is deleted, and a new one may soon have its directory's
    /// name.
    pub(crate) fn retire(&self) {
        self.lock().truncations += 1;
    }
}

impl EpochWrite {
    /// Writes the epochs into a temporary file, unless the log was truncated since. The files of many logs are written,
    /// synced and renamed together.
    pub(crate) fn write_aside<F: Files>(
        &self,
        files: &F,
        partition: &Path,
    ) -> Result<(), FileError> {
        let written = self.file.lock();
        if written.truncations == self.truncations {
            write_leader_epochs_aside(files, partition, &self.epochs)?;
        }
        Ok(())
    }

    /// Renames the temporary file, which the caller has synced, unless the log was truncated since.
    pub(crate) fn rename<F: Files>(&self, files: &F, partition: &Path) -> Result<(), FileError> {
        let mut written = self.file.lock();
        if written.truncations == self.truncations {
            rename_leader_epochs(files, partition)?;
            written.epochs = self.epochs.clone();
        }
        Ok(())
    }

    /// Writes the file durably, unless the log was truncated since.
    pub(crate) fn run<F: Files>(&self, files: &F, partition: &Path) -> Result<(), FileError> {
        let mut written = self.file.lock();
        if written.truncations == self.truncations {
            write_leader_epochs(files, partition, &self.epochs)?;
            written.epochs = self.epochs.clone();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::EpochFile;
    use crate::checkpoint::read_leader_epochs;
    use crate::files::Files;
    use crate::files::simulated::Simulated;
    use crate::leader_epochs::LeaderEpochs;
    use ottla_protocol::ids::{LeaderEpoch, Offset};
    use std::path::Path;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let entries = entries.iter();
        LeaderEpochs::from_entries(
            entries.map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start))),
        )
    }

    #[test]
    fn what_a_truncation_wrote_is_not_replaced_by_what_was_decided_before() {
        let (files, path) = (Simulated::new(), Path::new("/t-0"));
        files.create_directory(path).unwrap();
        let file = EpochFile::holding(LeaderEpochs::default());
        let long = epochs(&[(1, 0), (2, 90)]);
        let end = Offset(100);
        let before = file.catch_up(&long, end).unwrap();
        file.truncate(&files, path, &epochs(&[(1, 0)])).unwrap();
        before.run(&files, path).unwrap();
        assert_eq!(read_leader_epochs(&files, path).unwrap(), epochs(&[(1, 0)]));
        file.catch_up(&long, end)
            .unwrap()
            .run(&files, path)
            .unwrap();
        assert_eq!(read_leader_epochs(&files, path).unwrap(), long);
        let unused = epochs(&[(1, 0), (2, 90), (3, 100)]);
        assert!(file.catch_up(&unused, end).is_none());
    }
}
