//! What makes a new log known on disk: the name of its directory, and the file that says whose it is.
//!
//! Both are made durable after all else, so that whoever finds the file finds the log: Kafka sets a directory without it
//! aside. Of many new logs the files are written, synced and renamed together.

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
    /// Whether anything is missing.
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
            // Also of a directory that was made just before a crash, and is there by name only.
            directory.judge(files.sync_directory(directory.path()))?;
        }
        Ok(())
    }

    /// Writes it beside its place; says whether there is anything to rename.
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

    /// Lets what was written beside its place, and synced since, take it; the name is not synced.
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
