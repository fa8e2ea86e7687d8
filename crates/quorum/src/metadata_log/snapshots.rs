//! Snapshots of the metadata log: when one is due, writing it, and removing what it makes superfluous.
//!
//! The newest two stay, with the log since the older: should the newest turn out damaged, nothing is lost. The
//! log rolls where a snapshot begins, so that whole files can go.

use super::MetadataLog;
use crate::checkpoint::{self, Contents, SnapshotId, WriteError};
use crate::segment;
use ottla_log::files::{FileError, Files};
use ottla_metadata::{Loader, MetadataImage, snapshot};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::time::Timestamp;
use std::path::PathBuf;

/// A snapshot to be written, on any thread, while the log goes on.
#[derive(Debug)]
pub struct SnapshotJob<F> {
    files: F,
    directory: PathBuf,
    id: SnapshotId,
    image: MetadataImage,
    control: Vec<ControlRecord>,
    last_contained: Timestamp,
    now: Timestamp,
}

/// A snapshot that is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenSnapshot {
    id: SnapshotId,
    size: u64,
}

impl<F: Files> SnapshotJob<F> {
    /// Writes the snapshot; what it returns goes to [`MetadataLog::adopt_snapshot`].
    pub fn write(self) -> Result<WrittenSnapshot, WriteError> {
        let records = snapshot::records(&self.image);
        let contents = Contents {
            epoch: self.id.epoch,
            last_contained: self.last_contained,
            now: self.now,
            control: self.control,
            version: self.image.metadata_version(),
            records: &records,
        };
        let path = self.directory.join(self.id.file_name());
        let size = checkpoint::write(&self.files, &path, &contents)?;
        Ok(WrittenSnapshot { id: self.id, size })
    }
}

impl<F: Files> MetadataLog<F> {
    /// Whether so much has been written since the last snapshot that another is due. A large image waits for a
    /// log of its own size, so that snapshots never cost more than the log.
    pub fn is_snapshot_due(&self) -> bool {
        let newest = self.snapshots.last_key_value().map_or(0, |(_, size)| *size);
        self.bytes_since_snapshot >= self.settings.snapshot_bytes.max(newest)
    }

    /// A snapshot of the state that `loader` has reached, which must be that of all this log.
    ///
    /// None while a metadata transaction is open, and none where the newest snapshot is of this state already.
    pub fn begin_snapshot(
        &mut self,
        loader: &Loader,
        now: Timestamp,
    ) -> Result<Option<SnapshotJob<F>>, FileError> {
        let id = SnapshotId {
            end_offset: self.end,
            epoch: self.epoch,
        };
        if loader.in_transaction() || self.snapshots.contains_key(&id) || self.failed.is_some() {
            return Ok(None);
        }
        if self.active_size > 0 {
            self.roll()?;
        }
        self.bytes_since_snapshot = 0;
        Ok(Some(SnapshotJob {
            files: self.files.clone(),
            directory: self.directory.clone(),
            id,
            image: loader.image().clone(),
            control: self.control.to_records(),
            last_contained: self.last_append,
            now,
        }))
    }

    /// Takes over a written snapshot and removes the snapshots and segments that it makes superfluous.
    pub fn adopt_snapshot(&mut self, written: WrittenSnapshot) -> Result<(), FileError> {
        self.snapshots.insert(written.id, written.size);
        let kept_from = self
            .snapshots
            .keys()
            .rev()
            .nth(1)
            .map_or(Offset(0), |id| id.end_offset);
        let old: Vec<SnapshotId> = self
            .snapshots
            .keys()
            .filter(|id| id.end_offset < kept_from)
            .copied()
            .collect();
        // Segments go first, oldest first: a snapshot may outlive the log before it, never the reverse.
        while let [first, second, ..] = *self.segments.as_slice()
            && second <= kept_from
        {
            segment::remove(&self.files, &self.directory, first)?;
            self.segments.remove(0);
        }
        for id in old {
            self.files.remove(&self.directory.join(id.file_name()))?;
            self.snapshots.remove(&id);
        }
        self.files.sync_directory(&self.directory)?;
        let log_start = self.log_start();
        self.epoch_starts
            .write(&self.files, &self.directory, log_start)
    }
}
