//! Why a partition does not do what it is asked, and the error code that says so to a client.

use std::path::PathBuf;

use ottla_log::{AppendError, ProducerError, StorageError};
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::messages::ErrorCode;

/// Why a partition cannot serve at all, or not this caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unavailable {
    /// The partition was deleted or is closed.
    #[error("the partition is gone")]
    Gone,
    /// Another node leads it.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// The caller knows an older leader epoch.
    #[error("the leader epoch is {current}, the request's is older")]
    FencedEpoch {
        /// The epoch here.
        current: LeaderEpoch,
    },
    /// The caller knows a newer leader epoch.
    #[error("the leader epoch is {current}, the request's is newer")]
    UnknownEpoch {
        /// The epoch here.
        current: LeaderEpoch,
    },
    /// The disk cannot.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Unavailable {
    /// The error code for clients.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Gone | Self::NotLeader => ErrorCode::NotLeaderOrFollower,
            Self::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::Storage(error) => storage_code(error),
        }
    }
}

/// A full disk, unlike a failed one, lets producers try again: another code would set off refreshes of metadata.
fn storage_code(error: &StorageError) -> ErrorCode {
    match error {
        StorageError::Offline { .. } => ErrorCode::KafkaStorageError,
        StorageError::Damaged { .. } | StorageError::DamagedTransactionIndex { .. } => {
            ErrorCode::CorruptMessage
        }
        StorageError::Full { .. } | StorageError::TooManyOpenFiles { .. } => {
            ErrorCode::NotEnoughReplicas
        }
    }
}

/// Why records were not appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// The partition cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Fewer replicas are in sync than `min.insync.replicas` asks for.
    #[error("{in_sync} replicas are in sync, min.insync.replicas asks for {needed}")]
    TooFewInSync {
        /// Now in sync.
        in_sync: usize,
        /// Asked for.
        needed: usize,
    },
    /// The log directory has less space left than it keeps in reserve.
    #[error(
        "log directory {} has less free space than ottla.disk.reserve: free some, then try again",
        .0.display()
    )]
    DiskReserve(PathBuf),
    /// The file system of the log directory has fewer inodes left than are kept in reserve.
    #[error(
        "log directory {} has few inodes left: delete topics or records, or make segments larger, then try again",
        .0.display()
    )]
    InodeReserve(PathBuf),
    /// The log does not take them.
    #[error(transparent)]
    Log(#[from] AppendError),
}

impl Refused {
    /// The error code for producers.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable(unavailable) => unavailable.code(),
            Self::TooFewInSync { .. } | Self::DiskReserve(_) | Self::InodeReserve(_) => {
                ErrorCode::NotEnoughReplicas
            }
            Self::Log(AppendError::Producer(error)) => match error {
                ProducerError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
                ProducerError::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
                ProducerError::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
                ProducerError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            },
            Self::Log(AppendError::LargerThanSegment { .. }) => ErrorCode::RecordListTooLarge,
            Self::Log(AppendError::UnexpectedOffset { .. }) => ErrorCode::UnknownServerError,
            Self::Log(AppendError::Invalid(_)) => ErrorCode::CorruptMessage,
            Self::Log(AppendError::Storage(error)) => storage_code(error),
        }
    }
}

/// Why a read was not planned.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unreadable {
    /// The partition cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The offset is not in the log.
    #[error("the offset is outside of the log")]
    OutOfRange,
}

impl Unreadable {
    /// The error code for consumers.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable(unavailable) => unavailable.code(),
            Self::OutOfRange => ErrorCode::OffsetOutOfRange,
        }
    }
}

impl From<StorageError> for Unreadable {
    fn from(error: StorageError) -> Self {
        Self::Unavailable(error.into())
    }
}
