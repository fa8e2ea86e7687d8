//! The metadata log of this node: its directories are locked, formatted when they are new, opened, and handed to the
//! controller as what it commits into.
//!
//! A directory that holds somebody else's files, another node's or another cluster's, is refused and left as it is.

mod activation;
mod directories;

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use ottla_controller::QuorumEvent;
use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{
    CheckpointError, Inspected, Location, METADATA_DIRECTORY, MetaPropertiesError, MetadataLog,
    OpenError, ProposeError, QuorumStatus, Settings, SnapshotSchedule, UnsupportedVersion, Voter,
    VoterEndpoint, WriteError, WrittenSnapshot, activate,
};
use tokio::sync::watch;

use self::activation::{FirstRecords, mend_late_beginning};
use self::directories::{
    Identified, Taken, Usable, check_complete, cluster, identified, prepare, usable,
};
use crate::config::BrokerConfig;
use crate::process::clock::Clock;
use crate::process::random::random_id;
use crate::start::lock::{DirectoryLock, NotLocked};

/// Why the directories of this node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
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
    /// The metadata log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first records of the cluster cannot be written.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// It holds files of something else.
    #[error(
        "{directory} holds {file} and no meta.properties: it is not a log directory; choose an empty one (key \
         log.dirs)"
    )]
    Foreign {
        /// The directory.
        directory: PathBuf,
        /// One of its files.
        file: String,
    },
    /// It belongs to another node.
    #[error(
        "{directory} belongs to node {theirs}, not to node {ours}; set node.id={theirs} or choose another directory"
    )]
    OtherNode {
        /// The directory.
        directory: PathBuf,
        /// Whose it is.
        theirs: i32,
        /// `node.id`.
        ours: i32,
    },
    /// Two directories are of different clusters.
    #[error(
        "{directory} belongs to cluster {theirs}, the metadata log to cluster {ours}; remove one of them from log.dirs"
    )]
    OtherCluster {
        /// The directory.
        directory: PathBuf,
        /// Its cluster.
        theirs: String,
        /// The metadata log's.
        ours: String,
    },
    /// The first records of the cluster are of a level that this release does not know.
    #[error(transparent)]
    MetadataVersion(#[from] UnsupportedVersion),
    /// A directory of this broker is not there, and partitions with it that would be made anew.
    #[error(
        "{partitions} partitions are in none of log.dirs, and the log directory with directory.id {missing} is not \
         there: is its disk mounted? A start without it would make them anew, empty"
    )]
    DirectoryMissing {
        /// The id of the one that is missing.
        missing: Uuid,
        /// How many partitions are nowhere else.
        partitions: usize,
    },
    /// A directory of this broker is not there, and an empty one is.
    #[error(
        "{empty} is empty, and the log directory with directory.id {missing} is not there, with {partitions} \
         partitions: is its disk mounted? If it is gone for good, take {empty} out of log.dirs for one start; those \
         partitions then stay without a leader until their topics are deleted"
    )]
    DirectoryReplaced {
        /// The id of the one that is missing.
        missing: Uuid,
        /// The one that would be formatted.
        empty: PathBuf,
        /// How many partitions are nowhere else.
        partitions: usize,
    },
    /// None of `log.dirs` can be used.
    #[error("none of log.dirs can be used; the last failed with: {0}")]
    AllOffline(Box<QuorumError>),
    /// The directory of the metadata log is new although others are not.
    #[error(
        "{metadata} has no metadata log, but {other} belongs to cluster {cluster}: is its disk mounted? set \
         metadata.log.dir to where the metadata log is"
    )]
    NoMetadata {
        /// Where the metadata log should be.
        metadata: PathBuf,
        /// A directory that is formatted.
        other: PathBuf,
        /// Its cluster.
        cluster: String,
    },
}

/// The opened metadata log, and what it says.
#[derive(Debug)]
pub struct Quorum {
    /// `cluster.id`.
    pub cluster_id: String,
    /// The ids of those of `log.dirs` that can be used, in their order.
    pub directories: Vec<Uuid>,
    /// Those of `log.dirs` that cannot be used.
    pub offline: Vec<PathBuf>,
    /// Whether the directories were new.
    pub is_new: bool,
    /// The metadata that was committed.
    pub image: MetadataImage,
    /// What the controller commits into.
    pub log: CommittedLog,
    /// Who leads, and how far.
    pub status: watch::Receiver<QuorumStatus>,
    /// To be kept as long as the directories are used.
    pub locks: Vec<DirectoryLock>,
}

/// Opens the directories of this node. Blocks on the disk.
///
/// A start that is refused leaves every directory as it was: what can refuse it is looked at before anything is written.
pub fn open(config: &BrokerConfig, clock: Clock) -> Result<Quorum, QuorumError> {
    let now = clock.now().wall;
    let mut taken = Taken::default();
    let accepted = match accept(config, &mut taken) {
        Ok(accepted) => accepted,
        Err(refused) => {
            taken.undo();
            return Err(refused);
        }
    };
    let Accepted {
        usable,
        cluster_id,
        directories,
        found,
    } = accepted;
    let is_new = found.is_none();
    if !is_new {
        let added = usable.states.iter().filter(|(_, meta)| meta.is_none());
        for (directory, _) in added {
            tracing::warn!(directory = %directory.display(), cluster_id, "formatting a log directory that was added");
        }
    }
    prepare(config, &cluster_id, (&usable.states, &directories), now)?;
    let found = match found {
        Some(found) => found,
        None => find_log(config, &cluster_id, &directories)?,
    };
    let (log, loader) = lead(config, found, now)?;
    let (publish, published) = watch::channel(log.status());
    Ok(Quorum {
        cluster_id,
        directories: config
            .storage
            .log_dirs
            .iter()
            .filter_map(|path| id_of(&directories, path))
            .collect(),
        offline: usable.offline,
        is_new,
        image: loader.image().clone(),
        log: CommittedLog {
            log,
            clock,
            snapshots: SnapshotSchedule::new(config.metadata.snapshot_interval, now),
            writing: None,
            status: publish,
        },
        status: published,
        locks: taken.keep(),
    })
}

/// Directories on which this node may start.
struct Accepted {
    usable: Usable,
    cluster_id: String,
    /// Their ids, in the order of `usable`.
    directories: Vec<Identified>,
    /// The metadata log; none where all directories are new.
    found: Option<FoundLog>,
}

/// A metadata log as it was found, and what its first leader is to write.
struct FoundLog {
    inspected: Inspected<Disk>,
    first: Option<FirstRecords>,
}

/// Looks at the directories, and refuses what cannot be served. Nothing is written but what is in `taken`.
fn accept(config: &BrokerConfig, taken: &mut Taken) -> Result<Accepted, QuorumError> {
    let usable = usable(&config.storage, taken)?;
    let cluster = cluster(config, &usable.states)?;
    let is_new = cluster.is_none();
    let cluster_id = cluster.unwrap_or_else(|| unreserved_id().to_string());
    let directories = identified(&usable.states);
    let found = if is_new {
        None
    } else {
        let found = find_log(config, &cluster_id, &directories)?;
        check_complete(
            config,
            found.inspected.image(),
            (&usable.states, &directories),
        )?;
        Some(found)
    };
    Ok(Accepted {
        usable,
        cluster_id,
        directories,
        found,
    })
}

fn id_of(directories: &[Identified], path: &Path) -> Option<Uuid> {
    let known = directories.iter().find(|(known, _)| known == path);
    known.map(|(_, id)| *id)
}

/// Reads the metadata log, and what its first leader is to write.
fn find_log(
    config: &BrokerConfig,
    cluster_id: &str,
    directories: &[Identified],
) -> Result<FoundLog, QuorumError> {
    let directory = &config.storage.metadata_log_dir;
    let id = id_of(directories, directory).expect("the metadata log has a directory");
    let location = Location {
        directory: &directory.join(METADATA_DIRECTORY),
        cluster_id,
    };
    let inspected = MetadataLog::inspect(Disk, location, voter(config, id))?;
    let first = FirstRecords::of(config, &inspected)?;
    Ok(FoundLog { inspected, first })
}

/// Makes this node the leader of the metadata log.
fn lead(
    config: &BrokerConfig,
    found: FoundLog,
    now: Timestamp,
) -> Result<(MetadataLog<Disk>, Loader), QuorumError> {
    let settings = Settings {
        snapshot_bytes: config.metadata.snapshot_bytes,
        ..Settings::default()
    };
    let begins_late = found.inspected.begins_late();
    let opened = found.inspected.lead(settings, now)?;
    if opened.cut_bytes > 0 {
        tracing::info!(
            bytes = opened.cut_bytes,
            "cut an unfinished write off the metadata log"
        );
    }
    let (mut log, mut loader) = (opened.log, opened.loader);
    let first = found.first.map(FirstRecords::into_batch);
    activate(&mut log, &mut loader, first, now)?;
    if begins_late {
        mend_late_beginning(&mut log, &loader, now)?;
    }
    Ok((log, loader))
}

/// Whether the configuration names the voters, and not the log (`kraft.version` 0).
fn has_static_voters(config: &BrokerConfig) -> bool {
    let voters = config.statics.values.get("controller.quorum.voters");
    voters.is_some_and(|voters| !voters.trim().is_empty())
}

/// This node as the quorum's only voter, found by its controller listeners.
fn voter(config: &BrokerConfig, directory_id: Uuid) -> Voter {
    let endpoints = config.network.controller_listeners.iter().map(|listener| {
        let address = listener.advertised.as_ref().unwrap_or(&listener.bind);
        let host = match address.host.as_str() {
            "" | "0.0.0.0" | "::" => "localhost",
            host => host,
        };
        VoterEndpoint {
            listener: listener.name.clone(),
            host: host.to_owned(),
            port: address.port,
        }
    });
    Voter {
        node_id: config.node_id,
        directory_id,
        endpoints: endpoints.collect(),
    }
}

/// A random id that is none of Kafka's reserved ones and does not look like an option of a command.
fn unreserved_id() -> Uuid {
    loop {
        let id = random_id();
        let text = id.to_string();
        // The first hundred are reserved; they begin with zeros.
        if !text.starts_with('-') && !text.starts_with("AAAAAAAAAA") {
            return id;
        }
    }
}

/// The metadata log as the controller's thread writes it.
#[derive(Debug)]
pub struct CommittedLog {
    log: MetadataLog<Disk>,
    clock: Clock,
    snapshots: SnapshotSchedule,
    writing: Option<mpsc::Receiver<Result<WrittenSnapshot, WriteError>>>,
    status: watch::Sender<QuorumStatus>,
}

impl CommittedLog {
    /// Begins a snapshot when one is due, on a thread of its own, and takes over the one that is done.
    fn snapshot(&mut self, image: &MetadataImage, now: Timestamp) -> Result<(), FileError> {
        if let Some(writing) = &self.writing {
            match writing.try_recv() {
                Ok(Ok(written)) => self.log.adopt_snapshot(written)?,
                Ok(Err(error)) => tracing::warn!(%error, "cannot write a snapshot of the metadata"),
                Err(mpsc::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::TryRecvError::Disconnected) => {}
            }
            self.writing = None;
        }
        let Some(job) = self.snapshots.begin_if_due(&mut self.log, image, now)? else {
            return Ok(());
        };
        let (done, writing) = mpsc::channel();
        let thread = std::thread::Builder::new().name("metadata-snapshot".to_owned());
        match thread.spawn(move || done.send(job.write())) {
            Ok(_) => self.writing = Some(writing),
            Err(error) => {
                tracing::warn!(%error, "cannot start a thread for a snapshot of the metadata");
            }
        }
        Ok(())
    }
}

impl ottla_controller::Quorum for CommittedLog {
    type Error = QuorumError;

    /// A full disk may have room again later.
    fn is_final(error: &QuorumError) -> bool {
        !matches!(
            error,
            QuorumError::Propose(
                ProposeError::Full(_) | ProposeError::TooLarge | ProposeError::Record(_)
            )
        )
    }

    fn next_offset(&self) -> Offset {
        self.log.end_offset()
    }

    /// A quorum of one commits what is on its own disk.
    fn propose(
        &mut self,
        records: &[MetadataRecord],
        image: &MetadataImage,
    ) -> Result<Vec<QuorumEvent>, QuorumError> {
        let now = self.clock.now().wall;
        self.log.propose(records, image.metadata_version(), now)?;
        self.status.send_replace(self.log.status());
        self.snapshot(image, now)?;
        Ok(vec![QuorumEvent::Committed(self.log.end_offset())])
    }
}

#[cfg(test)]
mod tests;
