//! Why a pass of compaction ends early.

use crate::directory::{LogDirectory, StorageError};
use crate::files::{FileError, Files};

/// Why a pass ended early. Segments that it has replaced by then stay replaced.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompactionError {
    /// `pace` ended it.
    #[error("compaction was stopped")]
    Stopped,
    /// The log was truncated, or its segments removed, in the meantime.
    #[error("the log changed while it was compacted")]
    Changed,
    /// The log was due when the pass was planned, and is not any more.
    #[error("the log is not due for compaction any more")]
    NotDue,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl CompactionError {
    /// A missing file means that its segment or its partition was removed.
    pub(super) fn of<F: Files>(directory: &LogDirectory<F>, error: FileError) -> Self {
        if error.is_not_found() {
            Self::Changed
        } else {
            Self::Storage(directory.failed(error))
        }
    }
}
