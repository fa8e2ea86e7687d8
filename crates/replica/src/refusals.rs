//! Errors of a partition's operations, and their error codes for clients.

use std::path::PathBuf;

use ottla_log::{AppendError, ProducerError, StorageError};
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::messages::ErrorCode;

/// Why a partition cannot serve, or not this caller.
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
    FencedEpoch { current: LeaderEpoch },
    /// The caller knows a newer leader epoch.
    #[error("the leader epoch is {current}, the request's is newer")]
    UnknownEpoch { current: LeaderEpoch },
    /// The node that fetches as a follower has no replica, as far as is known here.
    #[error("the node that fetches has no replica of the partition")]
    NotAReplica,
    /// The fetch comes from an earlier start of a broker's process.
    #[error("the broker that fetches has been started again since")]
    StaleBroker,
    /// The records are committed, and too few replicas are in sync since.
    #[error(
        "fewer replicas are in sync than min.insync.replicas asks for, since the records were appended"
    )]
    TooFewAfterAppend,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Unavailable {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Gone | Self::NotLeader | Self::StaleBroker => ErrorCode::NotLeaderOrFollower,
            Self::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownEpoch { .. } | Self::NotAReplica => ErrorCode::UnknownLeaderEpoch,
            Self::TooFewAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
            Self::Storage(error) => storage_code(error),
        }
    }
}

/// The code of a full disk lets producers retry. KAFKA_STORAGE_ERROR, for a failed disk, would make them refresh their
/// metadata.
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
        /// The size of the ISR.
        in_sync: usize,
        /// The effective `min.insync.replicas`.
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
    #[error(transparent)]
    Log(#[from] AppendError),
}

impl Refused {
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
