//! Starts on directories of others: the first records of a cluster reach the log, and a refused start leaves no trace.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests make and damage the files that a start finds"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;
use ottla_broker::{Running, StartError};
use ottla_controller::create_topics::NewTopic;
use ottla_controller::request::CreateTopics;
use ottla_log::files::disk::Disk;
use ottla_metadata::{ConfigResource, MetadataImage, MetadataVersion};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::{
    BeginTransactionRecord, FeatureLevelRecord, MetadataRecord,
};
use ottla_protocol::records::{Decompressor, split_batches};
use ottla_quorum::{Location, MetadataLog, Settings, Voter};

/// Formatted by Apache Kafka 4.4.0: `kafka-storage format --standalone --release-version 4.3 --add-scram …`.
const FORMATTED: &str = "kafka-4.4-format";
/// The same after the release of Ottla before this one served on it, which wrote none of the first records.
const WITHOUT_FIRST_RECORDS: &str = "without-first-records";
const LOG: &str = "__cluster_metadata-0/00000000000000000000.log";

fn config(root: &Path, directories: &[&str]) -> BrokerConfig {
    let mut config = BrokerConfig::embedded(root.join(directories[0]), 0);
    config.storage.log_dirs = directories.iter().map(|name| root.join(name)).collect();
    config
}

async fn start(config: BrokerConfig) -> Result<Running, StartError> {
    ottla_broker::start(config, Clock::start()).await
}

/// Starts and stops a broker; the metadata that it served.
async fn served(root: &Path, directories: &[&str]) -> MetadataImage {
    let running = start(config(root, directories)).await.unwrap();
    let image = MetadataImage::clone(&running.broker.controller.image());
    running.shut_down().await;
    image
}

fn fixture(name: &str, target: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    copy(&fixtures.join(name), target);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Everything below a directory: names, modes and contents.
fn everything(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        let content = if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, (mode, content));
    }
    found
}

/// The metadata records in the first segment of the log.
fn records(directory: &Path) -> Vec<MetadataRecord> {
    let log = fs::read(directory.join(LOG)).unwrap();
    let mut records = Vec::new();
    let mut decompressor = Decompressor::default();
    for batch in split_batches(&log) {
        let batch = batch.unwrap();
        if batch.header().is_control() {
            continue;
        }
        for record in batch.records(&mut decompressor, usize::MAX).unwrap() {
            let value = Bytes::copy_from_slice(record.unwrap().value.unwrap());
            records.push(MetadataRecord::decode(value).unwrap());
        }
    }
    records
}

fn is_begin(record: &MetadataRecord) -> bool {
    matches!(record, MetadataRecord::BeginTransaction(begin)
        if begin.name.as_deref() == Some("Bootstrap records"))
}

fn level(name: &str, feature_level: i16) -> MetadataRecord {
    let record = FeatureLevelRecord {
        name: name.to_owned(),
        feature_level,
        ..FeatureLevelRecord::default()
    };
    record.into()
}

fn levels(image: &MetadataImage) -> Vec<(&str, i16)> {
    let levels = image.features.iter();
    levels
        .map(|(name, level)| (name.as_str(), *level))
        .collect()
}

const LEVELS: &[(&str, i16)] = &[
    ("eligible.leader.replicas.version", 1),
    ("group.version", 1),
    ("metadata.version", 30),
    ("share.version", 1),
    ("streams.version", 1),
    ("transaction.version", 2),
];

#[tokio::test]
async fn first_records_of_kafka_4_4_are_written_into_the_log_as_kafka_writes_them() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("a");
    fixture(FORMATTED, &directory);
    let image = served(root.path(), &["a"]).await;
    assert_eq!(levels(&image), LEVELS);
    assert!(image.scram.keys().any(|(user, _)| user == "alice"));
    let cluster = ConfigResource::cluster();
    assert_eq!(image.config(&cluster, "min.insync.replicas"), Some("1"));

    let first = records(&directory);
    assert!(is_begin(&first[0]), "{first:?}");
    assert_eq!(first[1], level("metadata.version", 30));
    let end = first
        .iter()
        .position(|record| matches!(record, MetadataRecord::EndTransaction(_)));
    // Six levels, a credential and the config.
    assert_eq!(end, Some(9), "{first:?}");
    assert!(matches!(first[8], MetadataRecord::Config(_)), "{first:?}");

    assert_eq!(levels(&served(root.path(), &["a"]).await), LEVELS);
    let begun = records(&directory)
        .iter()
        .filter(|record| is_begin(record))
        .count();
    assert_eq!(begun, 1, "the log has its first records once");
}

#[tokio::test]
async fn a_log_without_its_first_records_is_mended_by_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("a");
    fixture(WITHOUT_FIRST_RECORDS, &directory);
    assert!(!records(&directory).iter().any(is_begin));
    for _ in 0..2 {
        let image = served(root.path(), &["a"]).await;
        assert_eq!(levels(&image), LEVELS);
        assert!(image.scram.keys().any(|(user, _)| user == "alice"));
        assert!(image.topic("orders").is_some());
    }
    // Kafka reads from there on, where the level is known.
    let snapshots = snapshots(&directory);
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
}

/// The names of the snapshots of a metadata log, the oldest first.
fn snapshots(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("__cluster_metadata-0")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut snapshots: Vec<String> = names.filter(|name| name.ends_with(".checkpoint")).collect();
    snapshots.sort();
    snapshots
}

#[tokio::test]
async fn a_mending_that_stopped_before_its_snapshot_is_ended_by_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("a");
    fixture(WITHOUT_FIRST_RECORDS, &directory);
    served(root.path(), &["a"]).await;
    let written = snapshots(&directory);
    fs::remove_file(directory.join("__cluster_metadata-0").join(&written[1])).unwrap();
    for _ in 0..2 {
        assert_eq!(levels(&served(root.path(), &["a"]).await), LEVELS);
        let again = snapshots(&directory);
        assert_eq!(again.len(), 2, "{again:?}");
        assert_eq!(again[0], written[0]);
        assert!(again[1] > written[1], "{again:?}");
    }
    let begun = records(&directory)
        .iter()
        .filter(|record| is_begin(record))
        .count();
    assert_eq!(begun, 1, "the log has its first records once");
}

#[tokio::test]
async fn what_was_changed_since_does_not_come_back_with_late_first_records() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("a");
    fixture(WITHOUT_FIRST_RECORDS, &directory);
    append(
        &directory,
        voter_of(WITHOUT_FIRST_RECORDS),
        &[level("group.version", 0)],
    );
    let image = served(root.path(), &["a"]).await;
    assert!(!image.features.contains_key("group.version"));
    assert_eq!(image.features["share.version"], 1);
    assert_eq!(levels(&served(root.path(), &["a"]).await), levels(&image));
}

/// The voter in a fixture.
fn voter_of(name: &str) -> Voter {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = fs::read_to_string(fixtures.join(name).join("meta.properties")).unwrap();
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("directory.id="))
        .unwrap();
    Voter {
        node_id: NodeId(1),
        directory_id: Uuid::from_base64(id).unwrap(),
        endpoints: Vec::new(),
    }
}

/// Appends records to a metadata log that is closed.
fn append(directory: &Path, voter: Voter, records: &[MetadataRecord]) {
    let now = Clock::start().now().wall;
    let location = Location {
        directory: &directory.join("__cluster_metadata-0"),
        cluster_id: "cluster",
    };
    let opened = MetadataLog::open(Disk, location, voter, Settings::default(), now);
    let mut log = opened.unwrap().log;
    log.propose(records, MetadataVersion::LATEST, now).unwrap();
}

/// Starts must be refused with these words, and must leave everything below `root` as it is.
async fn refused(root: &Path, config: BrokerConfig, words: &str) {
    let before = everything(root);
    for _ in 0..2 {
        let refused = start(config.clone()).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
        let after = everything(root);
        let differing: Vec<&PathBuf> = before
            .keys()
            .chain(after.keys())
            .filter(|path| before.get(*path) != after.get(*path))
            .collect();
        assert!(differing.is_empty(), "{words}: {differing:?} differ");
    }
}

/// A directory that a broker has formatted and closed, without what only says that a broker was here.
async fn formatted(root: &Path, directories: &[&str]) {
    served(root, directories).await;
    for name in directories {
        fs::remove_file(root.join(name).join(".lock")).unwrap();
    }
}

#[tokio::test]
async fn directories_of_others_are_refused_and_left_as_they_are() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::create_dir_all(root.join("photos/2026")).unwrap();
    refused(root, config(root, &["photos"]), "is not a log directory").await;
    formatted(root, &["a"]).await;
    formatted(root, &["b"]).await;
    let mut other = config(root, &["a"]);
    other.node_id = NodeId(9);
    refused(root, other, "belongs to node 1").await;
    refused(root, config(root, &["a", "b"]), "belongs to cluster").await;
    refused(
        root,
        config(root, &["deep/new", "a"]),
        "has no metadata log",
    )
    .await;
    fs::write(root.join("b/meta.properties"), "version=1\n").unwrap();
    refused(root, config(root, &["b"]), "node.id").await;
}

#[tokio::test]
async fn metadata_of_later_releases_is_refused_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let directory = root.join("a");
    let later = MetadataVersion::LATEST.0 + 1;
    fixture(FORMATTED, &directory);
    let checkpoint =
        directory.join("__cluster_metadata-0/00000000000000000000-0000000000.checkpoint");
    let first = raised(&fs::read(&checkpoint).unwrap(), later);
    fs::write(&checkpoint, first).unwrap();
    let words = format!("metadata.version is {later}");
    refused(root, config(root, &["a"]), &words).await;

    // A start that went on would end the transaction, and cut off what was not written whole.
    let log = root.join("b");
    fixture(WITHOUT_FIRST_RECORDS, &log);
    let open = BeginTransactionRecord::default().into();
    let records = [level("metadata.version", later), open];
    append(&log, voter_of(WITHOUT_FIRST_RECORDS), &records);
    let mut torn = fs::read(log.join(LOG)).unwrap();
    torn.extend([0; 30]);
    fs::write(log.join(LOG), torn).unwrap();
    fs::write(
        log.join("__cluster_metadata-0/00000000000000000009-0000000001.checkpoint.part"),
        "",
    )
    .unwrap();
    fs::write(
        log.join("__cluster_metadata-0/00000000000000000000.index"),
        "",
    )
    .unwrap();
    refused(root, config(root, &["b", "added"]), &words).await;
}

/// A checkpoint whose `metadata.version` is another one.
fn raised(checkpoint: &[u8], level: i16) -> Vec<u8> {
    let name = b"metadata.version";
    let at = checkpoint
        .windows(name.len())
        .position(|bytes| bytes == name)
        .unwrap();
    let mut raised = checkpoint.to_vec();
    raised[at + name.len()..][..2].copy_from_slice(&level.to_be_bytes());
    // The batch's CRC-32C is of what follows it.
    let mut start = 0;
    loop {
        let length = i32::from_be_bytes(raised[start + 8..][..4].try_into().unwrap());
        let end = start + 12 + usize::try_from(length).unwrap();
        if (start..end).contains(&at) {
            let crc = crc32c(&raised[start + 21..end]);
            raised[start + 17..][..4].copy_from_slice(&crc.to_be_bytes());
            return raised;
        }
        start = end;
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}

#[tokio::test]
async fn metadata_that_cannot_be_read_is_refused_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let directory = root.join("a");
    fixture(WITHOUT_FIRST_RECORDS, &directory);
    let log = fs::read(directory.join(LOG)).unwrap();
    let mut damaged = log.clone();
    damaged[100] ^= 1;
    fs::write(directory.join(LOG), damaged).unwrap();
    refused(
        root,
        config(root, &["a"]),
        "with committed batches behind it",
    )
    .await;
    fs::write(directory.join(LOG), log).unwrap();

    let state = directory.join("__cluster_metadata-0/quorum-state");
    let sound = fs::read(&state).unwrap();
    fs::write(&state, "{}").unwrap();
    refused(root, config(root, &["a"]), "is not a quorum state").await;
    fs::write(&state, sound).unwrap();

    let meta = directory.join("meta.properties");
    let text = fs::read_to_string(&meta).unwrap();
    let other: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("directory.id"))
        .collect();
    fs::write(&meta, other.join("\n")).unwrap();
    refused(
        root,
        config(root, &["a"]),
        "is not among the voters of the metadata quorum",
    )
    .await;
    fs::write(&meta, text).unwrap();

    fs::rename(
        directory.join(LOG),
        directory.join("__cluster_metadata-0/00000000000000000050.log"),
    )
    .unwrap();
    refused(
        root,
        config(root, &["a"]),
        "no snapshot covers what was before",
    )
    .await;
}

#[tokio::test]
async fn directories_that_are_away_are_missed_and_nothing_is_made_in_their_place() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = start(config(root, &["a", "b"])).await.unwrap();
    for number in 1..=2 {
        let topic = NewTopic {
            name: format!("t{number}"),
            partitions: 2,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
            id: Uuid::from_parts(7, number),
        };
        let create = CreateTopics {
            topics: vec![topic],
            validate_only: false,
        };
        running.broker.controller.ask(create).await.unwrap();
    }
    let mut images = running.broker.controller.follow();
    let is_located = |image: &std::sync::Arc<MetadataImage>| {
        let topic = image.topic("t2");
        topic.is_some_and(|topic| {
            let mut partitions = topic.partitions.values();
            partitions.all(|partition| partition.directory_of(NodeId(1)).is_some())
        })
    };
    images.wait_for(is_located).await.unwrap();
    running.shut_down().await;
    fs::rename(root.join("b"), root.join("away")).unwrap();
    let words = "is empty, and the log directory with directory.id";
    refused(root, config(root, &["a", "deep/new"]), words).await;
    fs::write(root.join("file"), "").unwrap();
    let mut nowhere = config(root, &["file"]);
    nowhere.storage.metadata_log_dir = root.join("a");
    refused(root, nowhere, "none of log.dirs can be used").await;
}

#[tokio::test]
async fn a_port_that_is_taken_refuses_the_start_before_a_directory_is_made() {
    let root = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = BrokerConfig::embedded(root.path().join("a"), port);
    refused(root.path(), config, "cannot listen on").await;
}
