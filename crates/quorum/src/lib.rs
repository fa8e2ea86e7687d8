//! The replicated metadata log, kept over Raft by one voter or by several.
//!
//! Files and formats are Kafka's (`__cluster_metadata-0`, `quorum-state`, `*.checkpoint`, `bootstrap.checkpoint`,
//! `meta.properties`), so that either program starts on the other's directory.

#![deny(clippy::indexing_slicing)]

mod batches;
mod checkpoint;
mod controller_log;
mod directory;
mod epoch_checkpoint;
mod leader_search;
mod meta_properties;
mod metadata_log;
mod observer;
mod quorum_state;
mod raft;
mod segment;
mod snapshot_download;
mod snapshot_schedule;
mod voter;

pub use batches::{BadBatch, DecodeError};
pub use checkpoint::{CheckpointError, SnapshotId, WriteError};
pub use controller_log::{Arrived, ControllerLog, ControllerLogError, NeededSnapshot, Outgoing};
pub use directory::{
    BOOTSTRAP_CHECKPOINT, DirectoryState, Format, METADATA_DIRECTORY, directory_state, format,
    read_bootstrap,
};
pub use leader_search::{Contradiction, LeaderSearch};
pub use meta_properties::{META_PROPERTIES, MetaProperties, MetaPropertiesError};
pub use metadata_log::{
    ApplyError, Fetched, FollowerEnd, Inspected, Location, LogView, MetadataLog, OpenError, Opened,
    ProposeError, QuorumStatus, Settings, SnapshotJob, SnapshotPiece, SnapshotUnreadable,
    UnsupportedVersion, WrittenSnapshot, check_version,
};
pub use observer::{ObserveError, Observer, Wanted};
pub use quorum_state::QuorumStateError;
pub use raft::{
    Effects, Envelope, InspectedNode, Malformed, Member, NodeError, NotProposed, QuorumNews,
    RaftLogError, RaftNode, Replica, Replicas, Survivor, VoterChange, VotersRefused, has_raft_log,
    is_sent_by,
};
pub use snapshot_download::{BadPiece, SnapshotDownload};
pub use snapshot_schedule::SnapshotSchedule;
pub use voter::{DYNAMIC_VOTERS, Voter, VoterEndpoint};
