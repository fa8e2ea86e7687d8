//! Why a start is refused. Each message names the configuration key to look at, or the next step.

use std::io;
use std::path::PathBuf;

use ottla_log::files::FileError;
use ottla_protocol::ids::Uuid;
use ottla_quorum::{
    CheckpointError, ControllerLogError, MetaPropertiesError, NodeError, UnsupportedVersion,
    WriteError,
};

use super::lock::NotLocked;
use super::unserved_state::UnservedState;
use crate::cluster::lifecycle::NotRegistered;
use crate::cluster::observe::CannotFollow;
use crate::drivers::opening::LogsError;

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot listen on {host}:{port} (key ottla.http.listen; another port, or nothing for none): {source}"
    )]
    Http {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error("cannot listen on {host}:{port} (key listeners, listener {name}): {source}")]
    Listen {
        name: String,
        host: String,
        port: u16,
        source: io::Error,
    },
    /// The directories or the metadata log cannot be used.
    #[error(transparent)]
    Directories(#[from] DirectoryError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Logs(#[from] LogsError),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("{0}")]
    Unserved(UnservedState),
    #[error(
        "no controller at {0} has answered within initial.broker.registration.timeout.ms; check that they run, and \
         controller.quorum.bootstrap.servers"
    )]
    NoController(String),
    /// The controllers are of another cluster, or newer than this release.
    #[error(transparent)]
    Metadata(#[from] CannotFollow),
    /// Another controller does not belong to this one.
    #[error("{0}")]
    Controllers(String),
    /// The controller refused the registration.
    #[error(transparent)]
    Register(#[from] NotRegistered),
}

/// Why the directories of this node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process uses one, or it cannot be written.
    #[error(transparent)]
    Lock(#[from] NotLocked),
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// `meta.properties` cannot be read.
    #[error(transparent)]
    MetaProperties(#[from] MetaPropertiesError),
    /// A new directory cannot be formatted.
    #[error(transparent)]
    Format(#[from] WriteError),
    /// The first records of the cluster cannot be read.
    #[error(transparent)]
    Bootstrap(#[from] CheckpointError),
    /// The only controller cannot begin to lead.
    #[error(transparent)]
    Begin(ControllerLogError),
    #[error(
        "{directory} holds {file} and no meta.properties: it is not a log directory; choose an empty one (key \
         log.dirs)"
    )]
    Foreign {
        directory: PathBuf,
        /// One of its files.
        file: String,
    },
    #[error(
        "{directory} belongs to node {theirs}, not to node {ours}; set node.id={theirs} or choose another directory"
    )]
    OtherNode {
        directory: PathBuf,
        /// The node that the directory belongs to.
        theirs: i32,
        /// `node.id`.
        ours: i32,
    },
    #[error(
        "{directory} belongs to cluster {theirs}, the metadata log to cluster {ours}; remove one of them from log.dirs"
    )]
    OtherCluster {
        directory: PathBuf,
        theirs: String,
        ours: String,
    },
    /// The first records of the cluster are of a level that this release does not know.
    #[error(transparent)]
    MetadataVersion(#[from] UnsupportedVersion),
    #[error(
        "{partitions} partitions are in none of log.dirs, and the log directory with directory.id {missing} is \
         missing: is its disk mounted? A start without it would create them again, empty"
    )]
    DirectoryMissing {
        /// The id of the one that is missing.
        missing: Uuid,
        /// How many partitions are in no other directory.
        partitions: usize,
    },
    #[error(
        "{empty} is empty, and the log directory with directory.id {missing}, which has {partitions} partitions, is \
         missing: is its disk mounted? If it is gone for good, take {empty} out of log.dirs for one start; those \
         partitions then stay without a leader until their topics are deleted"
    )]
    DirectoryReplaced {
        /// The id of the one that is missing.
        missing: Uuid,
        /// The one that would be formatted.
        empty: PathBuf,
        /// How many partitions the missing one has.
        partitions: usize,
    },
    /// The metadata log cannot be opened.
    #[error(transparent)]
    Member(#[from] NodeError),
    #[error(
        "the log directories are new, and controller.quorum.bootstrap.servers names other controllers: format the directories \
         with kafka-storage format and --initial-controllers, or name all controllers in controller.quorum.voters"
    )]
    NotFormatted,
    /// The nodes of a new cluster would make up an id each.
    #[error(
        "the log directories are new, and all nodes of a cluster need the same id: set ottla.cluster.id on all of them, for \
         example to {0}"
    )]
    NoClusterId(Uuid),
    #[error(
        "ottla.cluster.id is {set}, and the log directories belong to cluster {found}; remove the key, or choose other directories"
    )]
    OtherClusterId { set: String, found: String },
    #[error(
        "the controllers are of cluster {theirs}, and the log directories belong to cluster {found}; check \
         controller.quorum.bootstrap.servers, or choose other directories (key log.dirs)"
    )]
    JoinsOtherCluster { theirs: String, found: String },
    /// None of `log.dirs` can be used.
    #[error("none of log.dirs can be used; the last failed with: {0}")]
    AllOffline(Box<DirectoryError>),
    /// The directory of the metadata log is new although others are not.
    #[error(
        "{metadata} has no metadata log, but {other} belongs to cluster {cluster}: is its disk mounted? set \
         metadata.log.dir to where the metadata log is"
    )]
    NoMetadata {
        /// Where the metadata log should be.
        metadata: PathBuf,
        /// A directory that is formatted, for the cluster `cluster`.
        other: PathBuf,
        cluster: String,
    },
}
