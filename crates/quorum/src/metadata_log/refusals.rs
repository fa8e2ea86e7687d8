//! Why a metadata log is not opened.

use super::ProposeError;
use crate::batches::DecodeError;
use crate::checkpoint::CheckpointError;
use crate::quorum_state::QuorumStateError;
use ottla_log::files::FileError;
use ottla_metadata::{MetadataImage, MetadataVersion};
use ottla_protocol::ids::Offset;
use std::path::PathBuf;

/// Why the metadata log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// `quorum-state` cannot be read.
    #[error(transparent)]
    QuorumState(#[from] QuorumStateError),
    /// No snapshot can be read, and the log does not begin at 0.
    #[error(
        "the metadata log begins at offset {log_start}, and no snapshot covers what was before: {problem}"
    )]
    NoSnapshot {
        /// Where the log begins.
        log_start: Offset,
        /// What is wrong with the newest snapshot.
        problem: String,
    },
    /// Committed batches are damaged, or missing.
    #[error(
        "{path} is damaged at position {position} ({problem}), with committed batches behind it; restore the \
         directory from a copy"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        position: u64,
        problem: String,
    },
    /// A snapshot cannot be understood.
    #[error(transparent)]
    Snapshot(#[from] CheckpointError),
    /// A batch cannot be understood.
    #[error(
        "{path} holds a record at offset {offset} that this release does not understand: {source}"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// The batch's offset.
        offset: Offset,
        source: DecodeError,
    },
    /// The voters in the log are not this node alone.
    #[error(
        "the voters of the metadata quorum are {voters}, not this node alone (node.id {node_id}, directory \
         {directory_id}); start with the directory and the node.id of that voter; a log of several voters is taken over only \
         from Ottla"
    )]
    OtherVoters {
        voters: String,
        node_id: i32,
        directory_id: String,
    },
    /// `kraft.version` says that the voters are in the log, and they are not.
    #[error("kraft.version is {0}, but no voters stand in the log or a snapshot")]
    NoVoters(i16),
    /// This release does not know the metadata's level.
    #[error(transparent)]
    MetadataVersion(#[from] UnsupportedVersion),
    /// The first batch of the new epoch cannot be written.
    #[error(transparent)]
    StartEpoch(#[from] ProposeError),
}

/// The metadata is of a level that this release does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata.version is {level} in the metadata log, and this release reads {} to {}: start the release that \
     wrote it, or a later Ottla",
    MetadataVersion::MINIMUM.0,
    MetadataVersion::LATEST.0
)]
pub struct UnsupportedVersion {
    /// What the cluster has finalised.
    pub level: i16,
}

/// Refuses metadata of a level that this release does not know.
pub fn check_version(image: &MetadataImage) -> Result<(), UnsupportedVersion> {
    let version = image.metadata_version();
    if (MetadataVersion::MINIMUM..=MetadataVersion::LATEST).contains(&version) {
        return Ok(());
    }
    Err(UnsupportedVersion { level: version.0 })
}
