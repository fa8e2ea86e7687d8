//! The metadata log of this node: its directories are locked, formatted when they are new, opened, and handed to the
//! controller as what it commits into.
//!
//! A directory that holds somebody else's files, another node's or another cluster's, is refused and left as it is.

mod activation;
mod directories;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{
    CheckpointError, Inspected, Location, METADATA_DIRECTORY, MetaPropertiesError, MetadataLog,
    OpenError, ProposeError, QuorumStatus, Settings, UnsupportedVersion, Voter, VoterEndpoint,
    WriteError, WrittenSnapshot,
};
use tokio::sync::watch;

use self::activation::{FirstRecords, activate, mend_late_beginning};
use self::directories::{
    Identified, Taken, Usable, check_complete, cluster, identified, prepare, usable,
};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::controller::QuorumEvent;
use crate::directory_lock::{DirectoryLock, NotLocked};
use crate::random::random_id;

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
            snapshot_interval: config.metadata.snapshot_interval,
            last_snapshot: now,
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
    activate(&mut log, &mut loader, found.first, now)?;
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

impl crate::controller::Quorum for CommittedLog {
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
mod tests {
    use super::activation::settle_configs;
    use super::{
        Disk, Location, MetadataLog, OpenError, Quorum, QuorumError, Settings, open, voter,
    };
    use crate::clock::Clock;
    use crate::config::BrokerConfig;
    use ottla_log::files::{Files, Open};
    use ottla_metadata::{ConfigResource, MetadataImage, MetadataVersion, ottla_configs};
    use ottla_protocol::ids::{NodeId, Uuid};
    use ottla_protocol::messages::metadata::{
        BeginTransactionRecord, FeatureLevelRecord, MetadataRecord, PartitionRecord,
        RegisterBrokerRecord, TopicRecord,
    };
    use ottla_quorum::Format;
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
        assert_eq!(
            second.image.metadata_version(),
            MetadataVersion::OF_NEW_CLUSTERS
        );
        assert_eq!(second.status.borrow().epoch.0, 2);
    }

    /// How many settings of topics the metadata holds.
    fn stored(image: &MetadataImage) -> usize {
        let names = image.configs[&ConfigResource::cluster()].keys();
        names.filter(|name| ottla_configs::is_stored(name)).count()
    }

    #[test]
    fn settings_of_topics_that_kafka_has_deleted_are_gone_after_a_start() {
        let root = tempfile::tempdir().unwrap();
        let mut first = start(root.path(), &["a"]).unwrap();
        create_topic(&mut first.log.log, &first.directories, Vec::new());
        let [here, gone] = [Uuid::from_parts(7, 7), Uuid::from_parts(8, 8)];
        let cluster = ConfigResource::cluster();
        let settings = [here, gone].map(|id| {
            let name = ottla_configs::stored_name(id, "ottla.ack.durability");
            ottla_configs::record(&cluster, name, Some("page-cache".to_owned())).into()
        });
        let now = Clock::start().now().wall;
        let log = &mut first.log.log;
        log.propose(&settings, MetadataVersion::LATEST, now)
            .unwrap();
        drop(first);
        for _ in 0..2 {
            let image = start(root.path(), &["a"]).unwrap().image;
            assert_eq!(stored(&image), 1);
            assert_eq!(ottla_configs::of_topic(&image, here).len(), 1);
        }
    }

    #[test]
    fn metadata_of_a_later_release_is_refused_and_left_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let mut first = start(root.path(), &["a"]).unwrap();
        let level = MetadataVersion::LATEST.0 + 1;
        // A start that went on would end the transaction.
        let records = [version(level), BeginTransactionRecord::default().into()];
        let now = Clock::start().now().wall;
        let log = &mut first.log.log;
        log.propose(&records, MetadataVersion::LATEST, now).unwrap();
        drop(first);
        let path = root.path().join("a/__cluster_metadata-0");
        let files =
            || ["00000000000000000000.log", "quorum-state"].map(|name| read(&path.join(name)));
        let before = files();
        let refused = start(root.path(), &["a"]).unwrap_err();
        let QuorumError::Open(OpenError::MetadataVersion(refused)) = refused else {
            panic!("{refused}");
        };
        assert_eq!(refused.level, level);
        assert!(files() == before, "nothing is written");
    }

    #[test]
    fn first_records_of_a_later_release_are_not_written_into_the_log() {
        let root = tempfile::tempdir().unwrap();
        let config = config(root.path(), &["a"]);
        let directory = root.path().join("a");
        let id = Uuid::from_parts(5, 5);
        let level = MetadataVersion::LATEST.0 + 1;
        let format = Format {
            cluster_id: "cluster",
            node_id: config.node_id,
            directories: &[(&directory, id)],
            metadata_directory: &directory,
            voter: Some(&voter(&config, id)),
            bootstrap: &[version(level)],
            version: MetadataVersion::LATEST,
            now: Clock::start().now().wall,
        };
        ottla_quorum::format(&Disk, &format).unwrap();
        for _ in 0..2 {
            let refused = start(root.path(), &["a"]).unwrap_err();
            let QuorumError::MetadataVersion(refused) = refused else {
                panic!("{refused}");
            };
            assert_eq!(refused.level, level);
        }
    }

    #[test]
    fn settings_that_are_too_many_for_one_batch_are_left_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        let first = start(root.path(), &["a"]).unwrap();
        let voter = voter(&config(root.path(), &["a"]), first.directories[0]);
        drop(first);
        let now = Clock::start().now().wall;
        let location = Location {
            directory: &root.path().join("a/__cluster_metadata-0"),
            cluster_id: "cluster",
        };
        let settings = Settings {
            batch_bytes: 200,
            ..Settings::default()
        };
        let opened = MetadataLog::open(Disk, location, voter, settings, now).unwrap();
        let (mut log, mut loader) = (opened.log, opened.loader);
        let cluster = ConfigResource::cluster();
        let of_gone = |number| {
            let id = Uuid::from_parts(8, number);
            let name = ottla_configs::stored_name(id, "ottla.ack.durability");
            ottla_configs::record(&cluster, name, Some("page-cache".to_owned())).into()
        };
        let mut records: Vec<MetadataRecord> = (0..10).map(of_gone).collect();
        records.push(version(MetadataVersion::MINIMUM.0));
        loader.load(&records);
        settle_configs(&mut log, &mut loader, now).unwrap();
        assert_eq!(stored(loader.image()), 10);
    }

    fn version(level: i16) -> MetadataRecord {
        let level = FeatureLevelRecord {
            name: "metadata.version".to_owned(),
            feature_level: level,
            ..FeatureLevelRecord::default()
        };
        level.into()
    }

    fn read(path: &Path) -> Vec<u8> {
        let read = ottla_log::files::read_whole(&Disk, path, u64::MAX);
        read.unwrap().unwrap()
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
    fn partitions_that_may_be_in_a_directory_that_is_away_refuse_the_start() {
        let root = tempfile::tempdir().unwrap();
        let mut first = start(root.path(), &["a", "b"]).unwrap();
        create_topic(&mut first.log.log, &first.directories, Vec::new());
        drop(first);
        let refused = start(root.path(), &["a"]).unwrap_err();
        assert!(
            matches!(refused, QuorumError::DirectoryMissing { partitions: 1, .. }),
            "{refused}"
        );
        Disk.create_directory(&root.path().join("a/t-0")).unwrap();
        start(root.path(), &["a"]).unwrap();
    }

    #[test]
    fn an_empty_directory_does_not_take_the_place_of_one_that_is_away() {
        let root = tempfile::tempdir().unwrap();
        let mut first = start(root.path(), &["a", "b"]).unwrap();
        let in_b = vec![first.directories[1]];
        create_topic(&mut first.log.log, &first.directories, in_b);
        drop(first);
        for _ in 0..2 {
            let refused = start(root.path(), &["a", "c"]).unwrap_err();
            assert!(
                matches!(
                    refused,
                    QuorumError::DirectoryReplaced { partitions: 1, .. }
                ),
                "{refused}"
            );
        }
        let gone_for_good = start(root.path(), &["a"]).unwrap();
        assert_eq!(gone_for_good.directories.len(), 1);
    }

    #[test]
    fn a_log_directory_that_cannot_be_used_is_left_out_unless_it_is_the_metadata_logs() {
        let root = tempfile::tempdir().unwrap();
        drop(start(root.path(), &["a", "b"]).unwrap());
        let away = root.path().join("away");
        Disk.rename(&root.path().join("b"), &away).unwrap();
        // A file where a directory should be, for a disk that fails.
        drop(Disk.open(&root.path().join("b"), Open::Create).unwrap());
        let started = start(root.path(), &["a", "b"]).unwrap();
        assert_eq!(started.offline, [root.path().join("b")]);
        assert_eq!(started.directories.len(), 1);
        drop(started);
        assert!(start(root.path(), &["b", "a"]).is_err());
    }

    fn create_topic(log: &mut MetadataLog<Disk>, directories: &[Uuid], of_replicas: Vec<Uuid>) {
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
            directories: of_replicas,
            ..PartitionRecord::default()
        };
        let records: [MetadataRecord; 3] = [broker.into(), topic.into(), partition.into()];
        let now = Clock::start().now().wall;
        log.propose(&records, MetadataVersion::LATEST, now).unwrap();
    }
}
