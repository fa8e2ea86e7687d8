//! Why a driver could not do something, and whether that ends its process.

use ottla_log::files::FileError;
use ottla_log::{AppendError, StorageError};
use ottla_replica::logs::LogsError;
use ottla_replica::partition::FollowFailure;

#[derive(Debug)]
pub enum Failed {
    Storage(StorageError),
    /// A file beside the logs.
    File(FileError),
    Logs(LogsError),
    /// The metadata log.
    Metadata(String),
    /// What a leader sent could not be taken over.
    Following(FollowFailure),
}

impl Failed {
    /// Whether a log directory is offline, or the metadata log has ended.
    pub fn is_offline(&self) -> bool {
        match self {
            Self::Storage(error) | Self::Logs(LogsError::Storage(error)) => {
                matches!(error, StorageError::Offline { .. })
            }
            Self::Following(
                FollowFailure::Storage(error) | FollowFailure::Append(AppendError::Storage(error)),
            ) => matches!(error, StorageError::Offline { .. }),
            Self::Metadata(_) => true,
            Self::File(_) | Self::Logs(_) | Self::Following(FollowFailure::Append(_)) => false,
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Logs(error) => error.fmt(f),
            Self::Metadata(error) => error.fmt(f),
            Self::Following(error) => error.fmt(f),
        }
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<FileError> for Failed {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<LogsError> for Failed {
    fn from(error: LogsError) -> Self {
        Self::Logs(error)
    }
}
