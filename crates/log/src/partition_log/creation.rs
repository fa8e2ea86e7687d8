//! The last writes that make a new log exist on disk: the name of its directory, and `partition.metadata` with its
//! topic's id.
//!
//! Both become durable after everything else (assumptions 6 and 7 of `docs/formats.md`), so a start that finds the file
//! finds the whole log. Kafka renames a directory without this file to `-stray`. The files of many new logs are
//! written, synced and renamed together.

use crate::checkpoint::{rename_topic_id, write_topic_id, write_topic_id_aside};
use crate::directory::{LogDirectory, StorageError};
use crate::files::Files;
use ottla_protocol::ids::Uuid;
use std::path::Path;

/// What of a new log is not on disk yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Creation {
    /// The topic's id, if `partition.metadata` is missing.
    pub(crate) topic_id: Option<Uuid>,
    /// Whether the name of its directory is not synced.
    pub(crate) is_new: bool,
}

impl Creation {
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
            // After a crash a start may have found a directory whose name was never synced.
            directory.judge(files.sync_directory(directory.path()))?;
        }
        Ok(())
    }

    /// Writes the topic's id into a temporary file; returns whether there is a file to rename.
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

    /// Renames the temporary file, which the caller has synced. The name is not synced.
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
