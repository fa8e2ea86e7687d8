//! The metadata log of this node: its directories are locked, formatted when they are new, opened, and handed to the
//! controller as what it commits into.
//!
//! A directory that holds somebody else's files, another node's or another cluster's, is refused and left as it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use ottla_controller::bootstrap;
use ottla_log::files::disk::Disk;
use ottla_log::files::{FileError, Files};
use ottla_metadata::{Loader, MetadataImage, MetadataVersion};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::messages::metadata::{AbortTransactionRecord, MetadataRecord};
use ottla_protocol::time::Timestamp;
use ottla_quorum::{
    CheckpointError, DirectoryState, Format, Location, METADATA_DIRECTORY, MetaProperties,
    MetaPropertiesError, MetadataLog, OpenError, ProposeError, QuorumStatus, Settings, Voter,
    VoterEndpoint, WriteError, WrittenSnapshot,
};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{BrokerConfig, StorageConfig};
use crate::controller::Commit;
use crate::directory_lock::{DirectoryLock, NotLocked};
use crate::topics::random_id;

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
    /// A directory of this broker is not there, and partitions with it.
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
    /// The ids of `log.dirs`, in their order.
    pub directories: Vec<Uuid>,
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
pub fn open(config: &BrokerConfig, clock: Clock) -> Result<Quorum, QuorumError> {
    let now = clock.now().wall;
    let storage = &config.storage;
    let mut locks = Vec::new();
    let mut states = Vec::new();
    for path in paths(storage) {
        make(&path)?;
        locks.push(DirectoryLock::take(&path)?);
        states.push((path.clone(), state(&path)?));
    }
    let cluster = cluster(config, &states)?;
    let is_new = cluster.is_none();
    let cluster_id = cluster.unwrap_or_else(|| unreserved_id().to_string());
    let directories = format_new(config, &cluster_id, &mut states, now)?;
    let id_of = |path: &Path| {
        let known = directories.iter().find(|(known, _)| known == path);
        known.expect("every directory has an id").1
    };
    let opened = MetadataLog::open(
        Disk,
        Location {
            directory: &storage.metadata_log_dir.join(METADATA_DIRECTORY),
            cluster_id: &cluster_id,
        },
        voter(config, id_of(&storage.metadata_log_dir)),
        Settings {
            snapshot_bytes: config.metadata.snapshot_bytes,
            ..Settings::default()
        },
        now,
    )?;
    if opened.cut_bytes > 0 {
        tracing::info!(
            bytes = opened.cut_bytes,
            "cut an unfinished write off the metadata log"
        );
    }
    let mut log = opened.log;
    let mut loader = opened.loader;
    activate(&mut log, &mut loader, &storage.metadata_log_dir, now)?;
    check_complete(config, loader.image(), &directories)?;
    let (publish, published) = watch::channel(log.status());
    Ok(Quorum {
        cluster_id,
        directories: storage.log_dirs.iter().map(|path| id_of(path)).collect(),
        is_new,
        image: loader.image().clone(),
        log: CommittedLog {
            log,
            clock,
            snapshot_interval: config.metadata.snapshot_interval,
            last_snapshot: now,
            writing: None,
            status: publish,
        },
        status: published,
        locks,
    })
}

/// `log.dirs`, and the directory of the metadata log if it is none of them.
fn paths(storage: &StorageConfig) -> Vec<PathBuf> {
    let mut paths = storage.log_dirs.clone();
    if !paths.contains(&storage.metadata_log_dir) {
        paths.push(storage.metadata_log_dir.clone());
    }
    paths
}

/// Makes a directory and those above it.
fn make(path: &Path) -> Result<(), FileError> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if ancestor == Path::new("") || Disk.status(ancestor)?.is_some() {
            break;
        }
        missing.push(ancestor);
    }
    missing
        .into_iter()
        .rev()
        .try_for_each(|directory| Disk.create_directory(directory))
}

fn state(path: &Path) -> Result<Option<MetaProperties>, QuorumError> {
    match ottla_quorum::directory_state(&Disk, path)? {
        DirectoryState::New => Ok(None),
        DirectoryState::Formatted(meta) => Ok(Some(meta)),
        DirectoryState::Foreign(file) => Err(QuorumError::Foreign {
            directory: path.to_owned(),
            file,
        }),
    }
}

/// The cluster that the directories belong to; none when all are new.
fn cluster(
    config: &BrokerConfig,
    states: &[(PathBuf, Option<MetaProperties>)],
) -> Result<Option<String>, QuorumError> {
    let metadata = &config.storage.metadata_log_dir;
    let ours = states
        .iter()
        .find(|(path, _)| path == metadata)
        .and_then(|(_, meta)| meta.as_ref());
    for (directory, meta) in states {
        let Some(meta) = meta else { continue };
        if meta.node_id != config.node_id {
            return Err(QuorumError::OtherNode {
                directory: directory.clone(),
                theirs: meta.node_id.0,
                ours: config.node_id.0,
            });
        }
        let Some(ours) = ours else {
            return Err(QuorumError::NoMetadata {
                metadata: metadata.clone(),
                other: directory.clone(),
                cluster: meta.cluster_id.clone(),
            });
        };
        if meta.cluster_id != ours.cluster_id {
            return Err(QuorumError::OtherCluster {
                directory: directory.clone(),
                theirs: meta.cluster_id.clone(),
                ours: ours.cluster_id.clone(),
            });
        }
    }
    Ok(ours.map(|meta| meta.cluster_id.clone()))
}

/// Formats the directories that are new. Returns the ids of all.
fn format_new(
    config: &BrokerConfig,
    cluster_id: &str,
    states: &mut [(PathBuf, Option<MetaProperties>)],
    now: Timestamp,
) -> Result<Vec<(PathBuf, Uuid)>, QuorumError> {
    let version = MetadataVersion::LATEST;
    let mut ids = Vec::new();
    for (path, meta) in states {
        let known = meta.as_ref().and_then(|meta| meta.directory_id);
        let id = known.unwrap_or_else(unreserved_id);
        ids.push((path.clone(), id));
        if let Some(meta) = meta {
            if known.is_none() {
                // A directory of Kafka before 3.7 has no id yet; Kafka gives it one as well.
                meta.directory_id = Some(id);
                meta.write(&Disk, path)?;
            }
            continue;
        }
        let voter = voter(config, id);
        let format = Format {
            cluster_id,
            node_id: config.node_id,
            directories: &[(path.as_path(), id)],
            metadata_directory: &config.storage.metadata_log_dir,
            voter: (!has_static_voters(config)).then_some(&voter),
            bootstrap: &bootstrap::checkpoint(version),
            version,
            now,
        };
        ottla_quorum::format(&Disk, &format)?;
    }
    Ok(ids)
}

/// Refuses a start while a directory of this broker is away that holds partitions.
fn check_complete(
    config: &BrokerConfig,
    image: &MetadataImage,
    directories: &[(PathBuf, Uuid)],
) -> Result<(), QuorumError> {
    let is_here = |id: &Uuid| directories.iter().any(|(_, known)| known == id);
    let registered = image.brokers.get(&config.node_id);
    let missing = registered
        .into_iter()
        .flat_map(|broker| &broker.directories)
        .find(|id| !is_here(id));
    let Some(missing) = missing else {
        return Ok(());
    };
    let mut found = BTreeSet::new();
    for (path, _) in directories {
        found.extend(Disk.list(path)?.into_iter().map(|entry| entry.name));
    }
    let ours = image.topics.values().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        let here = partitions.filter(|(_, partition)| partition.replicas.contains(&config.node_id));
        here.map(|(index, _)| format!("{}-{index}", topic.name))
    });
    match ours.filter(|name| !found.contains(name)).count() {
        0 => Ok(()),
        partitions => Err(QuorumError::DirectoryMissing {
            missing: *missing,
            partitions,
        }),
    }
}

/// Whether the configuration names the voters, and not the log (`kraft.version` 0).
fn has_static_voters(config: &BrokerConfig) -> bool {
    let voters = config.statics.values.get("controller.quorum.voters");
    voters.is_some_and(|voters| !voters.trim().is_empty())
}

/// The first leader of a cluster writes its first records; a transaction that the last leader did not end is aborted.
fn activate(
    log: &mut MetadataLog<Disk>,
    loader: &mut Loader,
    metadata_directory: &Path,
    now: Timestamp,
) -> Result<(), QuorumError> {
    if loader.in_transaction() {
        let abort = [AbortTransactionRecord::default().into()];
        log.propose(&abort, loader.image().metadata_version(), now)?;
        loader.load(&abort);
    }
    if !loader.image().features.is_empty() {
        return Ok(());
    }
    let version = MetadataVersion::LATEST;
    let checkpoint = ottla_quorum::read_bootstrap(&Disk, metadata_directory)?
        .unwrap_or_else(|| bootstrap::checkpoint(version));
    let records = bootstrap::activation(checkpoint, version);
    log.propose(&records, version, now)?;
    loader.load(&records);
    Ok(())
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
    snapshot_interval: Option<Duration>,
    last_snapshot: Timestamp,
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
        let age = Duration::from_millis(now.0.saturating_sub(self.last_snapshot.0).max(0) as u64);
        let is_old = self
            .snapshot_interval
            .is_some_and(|interval| age >= interval);
        if !self.log.is_snapshot_due() && !is_old {
            return Ok(());
        }
        self.last_snapshot = now;
        let loader = Loader::new(image.clone());
        let Some(job) = self.log.begin_snapshot(&loader, now)? else {
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

impl Commit for CommittedLog {
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

    fn commit(
        &mut self,
        records: &[MetadataRecord],
        image: &MetadataImage,
    ) -> Result<(), QuorumError> {
        let now = self.clock.now().wall;
        self.log.propose(records, image.metadata_version(), now)?;
        self.status.send_replace(self.log.status());
        self.snapshot(image, now)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, Files, MetadataLog, Quorum, QuorumError, open};
    use crate::clock::Clock;
    use crate::config::BrokerConfig;
    use ottla_metadata::MetadataVersion;
    use ottla_protocol::ids::{NodeId, Uuid};
    use ottla_protocol::messages::metadata::{
        MetadataRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord,
    };
    use std::path::Path;

    fn start(root: &Path, directories: &[&str]) -> Result<Quorum, QuorumError> {
        open(&config(root, directories), Clock::start())
    }

    fn config(root: &Path, directories: &[&str]) -> BrokerConfig {
        let mut config = BrokerConfig::embedded(root.join(directories[0]), 0);
        config.storage.log_dirs = directories.iter().map(|name| root.join(name)).collect();
        config
    }

    #[test]
    fn the_second_start_finds_what_the_first_formatted() {
        let root = tempfile::tempdir().unwrap();
        let first = start(root.path(), &["deep/a", "deep/b"]).unwrap();
        let (cluster, directories) = (first.cluster_id.clone(), first.directories.clone());
        drop(first);
        let second = start(root.path(), &["deep/a", "deep/b"]).unwrap();
        assert_eq!(cluster, second.cluster_id);
        assert_eq!(directories, second.directories);
        assert_eq!(second.image.metadata_version(), MetadataVersion::LATEST);
        assert_eq!(second.status.borrow().epoch.0, 2);
    }

    #[test]
    fn a_directory_with_other_files_or_of_another_node_is_refused() {
        let root = tempfile::tempdir().unwrap();
        Disk.create_directory(&root.path().join("a")).unwrap();
        Disk.create_directory(&root.path().join("a/photos"))
            .unwrap();
        let refused = start(root.path(), &["a"]).unwrap_err();
        assert!(matches!(refused, QuorumError::Foreign { .. }), "{refused}");
        drop(start(root.path(), &["b"]).unwrap());
        let mut other = config(root.path(), &["b"]);
        other.node_id = NodeId(9);
        let refused = open(&other, Clock::start()).unwrap_err();
        assert!(
            matches!(refused, QuorumError::OtherNode { .. }),
            "{refused}"
        );
    }

    #[test]
    fn a_metadata_directory_that_is_suddenly_empty_is_not_formatted_again() {
        let root = tempfile::tempdir().unwrap();
        drop(start(root.path(), &["a", "b"]).unwrap());
        let refused = start(root.path(), &["c", "b"]).unwrap_err();
        assert!(
            matches!(refused, QuorumError::NoMetadata { .. }),
            "{refused}"
        );
    }

    #[test]
    fn partitions_in_a_directory_that_is_away_refuse_the_start() {
        let root = tempfile::tempdir().unwrap();
        let mut first = start(root.path(), &["a", "b"]).unwrap();
        create_topic(&mut first.log.log, &first.directories);
        drop(first);
        let refused = start(root.path(), &["a"]).unwrap_err();
        assert!(
            matches!(refused, QuorumError::DirectoryMissing { partitions: 1, .. }),
            "{refused}"
        );
        Disk.create_directory(&root.path().join("a/t-0")).unwrap();
        start(root.path(), &["a"]).unwrap();
    }

    fn create_topic(log: &mut MetadataLog<Disk>, directories: &[Uuid]) {
        let topic_id = Uuid::from_parts(7, 7);
        let broker = RegisterBrokerRecord {
            broker_id: 1,
            log_dirs: directories.to_vec(),
            ..RegisterBrokerRecord::default()
        };
        let topic = TopicRecord {
            name: "t".into(),
            topic_id,
            ..TopicRecord::default()
        };
        let partition = PartitionRecord {
            topic_id,
            partition_id: 0,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            ..PartitionRecord::default()
        };
        let records: [MetadataRecord; 3] = [broker.into(), topic.into(), partition.into()];
        let now = Clock::start().now().wall;
        log.propose(&records, MetadataVersion::LATEST, now).unwrap();
    }
}
