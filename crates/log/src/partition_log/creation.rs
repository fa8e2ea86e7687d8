//! What makes a new log known on disk: the name of its directory, and `partition.metadata` with its topic's id.
//!
//! Both become durable after all else (assumptions 6 and 7 of `docs/formats.md`), so a start that finds the file finds the
//! whole log. Kafka sets a directory without it aside. The files of many new logs are written, synced and renamed together.

use crate::checkpoint::{rename_topic_id, write_topic_id, write_topic_id_aside};
use crate::directory::{LogDirectory, StorageError};
use crate::files::Files;
use ottla_protocol::ids::Uuid;
use std::path::Path;

/// What is missing of a log on disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Creation {
    /// The topic's id, where it is not written down.
    pub(crate) topic_id: Option<Uuid>,
    /// Whether its directory is new in the log directory.
    pub(crate) is_new: bool,
}

impl Creation {
    /// Whether anything is missing on disk.
    pub(crate) fn is_due(self) -> bool {
        self.is_new || self.topic_id.is_some()
    }

    /// Writes what is missing, durably.
    pub(super) fn write<F: Files>(
        self,
        directory: &LogDirectory<F>,
        path: &Path,
    ) -> Result<(), StorageError> {
        let files = directory.files();
        if let Some(id) = self.topic_id {
            directory.judge(write_topic_id(files, path, id))?;
        }
        if self.is_due() {
            // A directory that was made just before a crash may be there by name only.
            directory.judge(files.sync_directory(directory.path()))?;
        }
        Ok(())
    }

    /// Writes the topic's id beside its place; returns whether there is a file to rename.
    pub(super) fn write_aside<F: Files>(
        self,
        directory: &LogDirectory<F>,
        path: &Path,
    ) -> Result<bool, StorageError> {
        if let Some(id) = self.topic_id {
            directory.judge(write_topic_id_aside(directory.files(), path, id))?;
        }
        Ok(self.topic_id.is_some())
    }

    /// Renames the file that was written beside its place, and synced since, into it. The name is not synced.
    pub(super) fn rename<F: Files>(
        self,
        directory: &LogDirectory<F>,
        path: &Path,
    ) -> Result<(), StorageError> {
        if self.topic_id.is_some() {
            directory.judge(rename_topic_id(directory.files(), path))?;
        }
        Ok(())
    }
}
