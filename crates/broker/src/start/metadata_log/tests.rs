//! Opening and formatting log directories, one start after another.

use super::{DirectoryError, Disk, Location, open};
use crate::cluster::sessions::Sessions;
use crate::config::BrokerConfig;
use crate::drivers::controller::controller;
use crate::process::clock::Clock;
use crate::start::voter::voter;
use ottla_log::files::{Files, Open};
use ottla_metadata::{ConfigResource, MetadataImage, MetadataVersion, ottla_configs};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::{
    BeginTransactionRecord, FeatureLevelRecord, MetadataRecord, PartitionRecord,
    RegisterBrokerRecord, TopicRecord,
};
use ottla_quorum::{Format, MetadataLog, NodeError, OpenError, Settings};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a start has found, and its controller's first turn has made of it.
#[derive(Debug)]
struct Started {
    cluster_id: String,
    directories: Vec<Uuid>,
    offline: Vec<PathBuf>,
    image: MetadataImage,
    epoch: i32,
}

/// Opens the directories, begins to lead, and stops as if it was killed.
fn start(root: &Path, directories: &[&str]) -> Result<Started, DirectoryError> {
    let clock = Clock::start();
    let opened = open(&config(root, directories), None, clock)?;
    let quorum = opened.member.quorum;
    let status = quorum.follow_status();
    let sessions = Arc::new(Sessions::of_test(clock));
    let (handle, mut owner, follower) = controller(
        opened.member.metadata,
        ottla_controller::Settings::default(),
        *quorum,
        sessions,
    );
    owner.begin_alone().map_err(DirectoryError::Begin)?;
    follower.catch_up();
    let epoch = status.borrow().epoch.0;
    Ok(Started {
        cluster_id: opened.cluster_id,
        directories: opened.directories,
        offline: opened.offline,
        image: (*handle.image()).clone(),
        epoch,
    })
}

/// Goes on with a closed metadata log, as Kafka would.
fn append(root: &Path, directories: &[&str], started: &Started, records: &[MetadataRecord]) {
    let directory = root.join(directories[0]).join("__cluster_metadata-0");
    let location = Location {
        directory: &directory,
        cluster_id: &started.cluster_id,
    };
    let voter = voter(&config(root, directories), started.directories[0]);
    let now = Clock::start().now().wall;
    let opened = MetadataLog::open(Disk, location, voter, Settings::default(), now);
    let mut log = opened.unwrap().log;
    log.propose(records, MetadataVersion::LATEST, now).unwrap();
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
    let second = start(root.path(), &["deep/a", "deep/b"]).unwrap();
    assert_eq!(first.cluster_id, second.cluster_id);
    assert_eq!(first.directories, second.directories);
    assert_eq!(
        second.image.metadata_version(),
        MetadataVersion::OF_NEW_CLUSTERS
    );
    assert_eq!(first.image, second.image);
    assert_eq!((first.epoch, second.epoch), (1, 2));
}

/// How many settings of topics the metadata holds.
fn stored(image: &MetadataImage) -> usize {
    let names = image.configs[&ConfigResource::cluster()].keys();
    names.filter(|name| ottla_configs::is_stored(name)).count()
}

#[test]
fn settings_of_topics_that_kafka_has_deleted_are_gone_after_a_start() {
    let root = tempfile::tempdir().unwrap();
    let first = start(root.path(), &["a"]).unwrap();
    let mut records = create_topic(&first.directories, Vec::new());
    let [here, gone] = [Uuid::from_parts(7, 7), Uuid::from_parts(8, 8)];
    let cluster = ConfigResource::cluster();
    let settings = [here, gone].map(|id| {
        let name = ottla_configs::stored_name(id, "ottla.ack.durability");
        ottla_configs::record(&cluster, name, Some("page-cache".to_owned())).into()
    });
    records.extend(settings);
    append(root.path(), &["a"], &first, &records);
    for _ in 0..2 {
        let image = start(root.path(), &["a"]).unwrap().image;
        assert_eq!(stored(&image), 1);
        assert_eq!(ottla_configs::of_topic(&image, here).len(), 1);
    }
}

#[test]
fn metadata_of_a_later_release_is_refused_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let first = start(root.path(), &["a"]).unwrap();
    let level = MetadataVersion::LATEST.0 + 1;
    // A start that went on would end the transaction.
    let records = [version(level), BeginTransactionRecord::default().into()];
    append(root.path(), &["a"], &first, &records);
    let path = root.path().join("a/__cluster_metadata-0");
    let files = || {
        ["00000000000000000000.log", "quorum-state", "raft-log"].map(|name| read(&path.join(name)))
    };
    let before = files();
    let refused = start(root.path(), &["a"]).unwrap_err();
    let DirectoryError::Member(NodeError::Open(OpenError::MetadataVersion(refused))) = refused
    else {
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
        voters: &[voter(&config, id)],
        bootstrap: &[version(level)],
        version: MetadataVersion::LATEST,
        now: Clock::start().now().wall,
    };
    ottla_quorum::format(&Disk, &format).unwrap();
    for _ in 0..2 {
        let refused = start(root.path(), &["a"]).unwrap_err();
        let DirectoryError::MetadataVersion(refused) = refused else {
            panic!("{refused}");
        };
        assert_eq!(refused.level, level);
    }
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
    assert!(
        matches!(refused, DirectoryError::Foreign { .. }),
        "{refused}"
    );
    drop(start(root.path(), &["b"]).unwrap());
    let mut other = config(root.path(), &["b"]);
    other.node_id = NodeId(9);
    let refused = open(&other, None, Clock::start()).unwrap_err();
    assert!(
        matches!(refused, DirectoryError::OtherNode { .. }),
        "{refused}"
    );
}

#[test]
fn a_metadata_directory_that_is_suddenly_empty_is_not_formatted_again() {
    let root = tempfile::tempdir().unwrap();
    drop(start(root.path(), &["a", "b"]).unwrap());
    let refused = start(root.path(), &["c", "b"]).unwrap_err();
    assert!(
        matches!(refused, DirectoryError::NoMetadata { .. }),
        "{refused}"
    );
}

#[test]
fn partitions_that_may_be_in_a_directory_that_is_away_refuse_the_start() {
    let root = tempfile::tempdir().unwrap();
    let first = start(root.path(), &["a", "b"]).unwrap();
    let topic = create_topic(&first.directories, Vec::new());
    append(root.path(), &["a", "b"], &first, &topic);
    let refused = start(root.path(), &["a"]).unwrap_err();
    assert!(
        matches!(
            refused,
            DirectoryError::DirectoryMissing { partitions: 1, .. }
        ),
        "{refused}"
    );
    Disk.create_directory(&root.path().join("a/t-0")).unwrap();
    start(root.path(), &["a"]).unwrap();
}

#[test]
fn an_empty_directory_does_not_take_the_place_of_one_that_is_away() {
    let root = tempfile::tempdir().unwrap();
    let first = start(root.path(), &["a", "b"]).unwrap();
    let topic = create_topic(&first.directories, vec![first.directories[1]]);
    append(root.path(), &["a", "b"], &first, &topic);
    for _ in 0..2 {
        let refused = start(root.path(), &["a", "c"]).unwrap_err();
        assert!(
            matches!(
                refused,
                DirectoryError::DirectoryReplaced { partitions: 1, .. }
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

/// The records of a broker and a topic.
fn create_topic(directories: &[Uuid], of_replicas: Vec<Uuid>) -> Vec<MetadataRecord> {
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
    vec![broker.into(), topic.into(), partition.into()]
}
