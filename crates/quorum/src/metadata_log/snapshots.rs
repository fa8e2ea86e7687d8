//! Snapshots of the metadata log: when one is due, how it is written, and what can be removed after it.
//!
//! The newest two snapshots are kept, and the log after the older one, so that nothing is lost if the newest is damaged.
//! The log rolls at the end offset of a snapshot, so that whole segments can be removed.

use super::MetadataLog;
use crate::checkpoint::{self, Contents, SnapshotId, WriteError};
use crate::segment;
use ottla_log::files::{FileError, Files};
use ottla_metadata::{Loader, MetadataImage, snapshot};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::time::Timestamp;
use std::path::PathBuf;

/// A snapshot to write. It can be written on any thread, while the log takes proposals.
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

impl WrittenSnapshot {
    pub const fn id(&self) -> SnapshotId {
        self.id
    }

    /// In bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }
}

impl<F: Files> SnapshotJob<F> {
    pub const fn id(&self) -> SnapshotId {
        self.id
    }

    /// Writes the snapshot. The result is for [`MetadataLog::adopt_snapshot`].
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
    /// Whether a snapshot is due by the bytes written since the last one. After a large snapshot as many bytes of log must
    /// come first, so that snapshots never write more than the log does.
    pub fn is_snapshot_due(&self) -> bool {
        let newest = self.snapshots.last_key_value().map_or(0, |(_, size)| *size);
        self.bytes_since_snapshot >= self.settings.snapshot_bytes.max(newest)
    }

    /// Begins a snapshot of the image of `loader`, which must have replayed the whole log.
    ///
    /// `None` while a metadata transaction is open, the disk is full, or segments follow that are not known to be committed;
    /// and if there is a snapshot of this end already.
    pub fn begin_snapshot(
        &mut self,
        loader: &Loader,
        now: Timestamp,
    ) -> Result<Option<SnapshotJob<F>>, FileError> {
        let id = SnapshotId {
            end_offset: self.end,
            epoch: self.epoch,
        };
        if self.ahead.later_segments().next().is_some() {
            return Ok(None);
        }
        if loader.in_transaction() || self.snapshots.contains_key(&id) || self.failed.is_some() {
            return Ok(None);
        }
        if self.active_size > 0 {
            match self.roll() {
                // There is no room for a snapshot.
                Err(error) if error.is_full() => return Ok(None),
                rolled => rolled?,
            }
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

    /// Adds a written snapshot, and removes the snapshots and segments that are no longer needed.
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
        // Segments are removed first, the oldest first. A snapshot may outlive the log before it, but never the reverse.
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
        self.write_epoch_starts()
    }
}
