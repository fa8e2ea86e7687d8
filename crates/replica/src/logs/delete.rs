//! Deletes the log of a partition.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use ottla_log::files::{FileError, Files};

use super::LogsError;
use super::names::{DELETE_SUFFIX, aside_name, directory_name};
use crate::{Host, Partition};

/// Renames the directory of a deleted partition; returns its new path, which is removed later, or `None` if the log is
/// gone already. Blocks on the disk, and on a pass of the cleaner.
pub fn delete<F: Files, H: Host>(
    partition: &Partition<F, H>,
) -> Result<Option<PathBuf>, LogsError> {
    let Some(log) = partition.take_log() else {
        return Ok(None);
    };
    let path = log.path().to_path_buf();
    let directory = Arc::clone(log.directory());
    log.retire();
    // Waits for a pass of the cleaner, which must not write into the directory of a new partition with this name.
    drop(
        partition
            .cleaning
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    directory.forget(&path);
    let name = directory_name(&partition.topic, partition.index);
    let renamed = directory
        .path()
        .join(aside_name(&name, partition.topic_id, DELETE_SUFFIX));
    let files = directory.files();
    files.rename(&path, &renamed)?;
    directory.judge(files.sync_directory(directory.path()))?;
    Ok(Some(renamed))
}

/// Removes a partition's directory and its files. `removed` is called after each file, because a large one takes long.
pub fn remove_directory<F: Files>(
    files: &F,
    path: &Path,
    removed: impl Fn(),
) -> Result<(), FileError> {
    for entry in files.list(path)? {
        files.remove(&path.join(entry.name))?;
        removed();
    }
    files.remove_directory(path)
}
