//! Opening and formatting log directories, one start after another.

use super::{DirectoryError, Disk, Location, MetadataLog, OpenedLog, Settings, open, voter};
use crate::config::BrokerConfig;
use crate::process::clock::Clock;
use ottla_log::files::{Files, Open};
use ottla_metadata::{ConfigResource, MetadataImage, MetadataVersion, ottla_configs};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::{
    BeginTransactionRecord, FeatureLevelRecord, MetadataRecord, PartitionRecord,
    RegisterBrokerRecord, TopicRecord,
};
use ottla_quorum::{Format, OpenError, settle_configs};
use std::path::Path;

fn start(root: &Path, directories: &[&str]) -> Result<OpenedLog, DirectoryError> {
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
    assert_eq!(second.log.follow_status().borrow().epoch.0, 2);
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
    create_topic(first.log.log(), &first.directories, Vec::new());
    let [here, gone] = [Uuid::from_parts(7, 7), Uuid::from_parts(8, 8)];
    let cluster = ConfigResource::cluster();
    let settings = [here, gone].map(|id| {
        let name = ottla_configs::stored_name(id, "ottla.ack.durability");
        ottla_configs::record(&cluster, name, Some("page-cache".to_owned())).into()
    });
    let now = Clock::start().now().wall;
    let log = first.log.log();
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
    let log = first.log.log();
    log.propose(&records, MetadataVersion::LATEST, now).unwrap();
    drop(first);
    let path = root.path().join("a/__cluster_metadata-0");
    let files = || ["00000000000000000000.log", "quorum-state"].map(|name| read(&path.join(name)));
    let before = files();
    let refused = start(root.path(), &["a"]).unwrap_err();
    let DirectoryError::Open(OpenError::MetadataVersion(refused)) = refused else {
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
    assert!(
        matches!(refused, DirectoryError::Foreign { .. }),
        "{refused}"
    );
    drop(start(root.path(), &["b"]).unwrap());
    let mut other = config(root.path(), &["b"]);
    other.node_id = NodeId(9);
    let refused = open(&other, Clock::start()).unwrap_err();
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
    let mut first = start(root.path(), &["a", "b"]).unwrap();
    create_topic(first.log.log(), &first.directories, Vec::new());
    drop(first);
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
    let mut first = start(root.path(), &["a", "b"]).unwrap();
    let in_b = vec![first.directories[1]];
    create_topic(first.log.log(), &first.directories, in_b);
    drop(first);
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
