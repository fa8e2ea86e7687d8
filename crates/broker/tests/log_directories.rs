//! A broker with several log directories: where its replicas lie is known, kept, and honoured when one is away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::partition::{Append, RequiredAcks};
use ottla_broker::replicas::{Found, Partition};
use ottla_broker::{Running, StartError};
use ottla_controller::bootstrap;
use ottla_controller::configs::Change;
use ottla_controller::create_topics::NewTopic;
use ottla_controller::delete_topics::TopicReference;
use ottla_controller::request::{CreateTopics, DeleteTopics, IncrementalAlterConfigs};
use ottla_log::files::disk::Disk;
use ottla_log::files::{Files, Open};
use ottla_log::{Batch, Origin};
use ottla_metadata::{Changes, ConfigResource, MetadataImage, MetadataVersion, Topic};
use ottla_protocol::ids::{NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView};
use ottla_quorum::{Format, Voter};

const NODE: NodeId = NodeId(1);

async fn start(root: &Path, directories: &[&str]) -> Running {
    try_start(root, directories).await.unwrap()
}

async fn try_start(root: &Path, directories: &[&str]) -> Result<Running, StartError> {
    let mut config = BrokerConfig::embedded(root.join(directories[0]), 0);
    let backoff = ("log.cleaner.backoff.ms".to_owned(), "10".to_owned());
    config.statics.values.extend([backoff]);
    config.storage.log_dirs = directories.iter().map(|name| root.join(name)).collect();
    ottla_broker::start(config, Clock::start()).await
}

fn id_of(name: &str) -> Uuid {
    Uuid::from_parts(7, name.bytes().map(u64::from).sum())
}

async fn create(running: &Running, name: &str, partitions: i32) {
    let topic = NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: Vec::new(),
        id: id_of(name),
    };
    let create = CreateTopics {
        topics: vec![topic],
        validate_only: false,
    };
    let reply = running.broker.controller.ask(create).await.unwrap();
    assert!(reply[0].1.is_ok());
}

/// The metadata once it says of every partition of `t` what `is_so` asks for.
async fn when(running: &Running, is_so: impl Fn(&Topic) -> bool) -> Arc<MetadataImage> {
    let mut images = running.broker.controller.follow();
    let waited = images.wait_for(|image| image.topic("t").is_some_and(|topic| is_so(topic)));
    let limit = Duration::from_secs(20);
    let found = tokio::time::timeout(limit, waited).await;
    Arc::clone(&found.expect("the metadata does not come").unwrap())
}

fn is_located(topic: &Topic) -> bool {
    let mut partitions = topic.partitions.values();
    partitions.all(|partition| partition.directory_of(NODE).is_some())
}

/// The partitions of `t` that lie in a directory.
fn found_in(directory: &PathBuf) -> BTreeSet<i32> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_prefix("t-")?.parse().ok())
        .collect()
}

#[tokio::test]
async fn every_replica_is_recorded_in_the_directory_that_holds_it_and_led_while_that_is_there() {
    let root = tempfile::tempdir().unwrap();
    let running = start(root.path(), &["a", "b"]).await;
    create(&running, "t", 4).await;
    let image = when(&running, is_located).await;
    let registered = image.brokers[&NODE].directories.clone();
    for (name, id) in ["a", "b"].iter().zip(registered) {
        let recorded = image.topic("t").unwrap().partitions.iter();
        let recorded = recorded.filter(|(_, state)| state.directory_of(NODE) == Some(id));
        let recorded: BTreeSet<i32> = recorded.map(|(index, _)| index.0).collect();
        assert_eq!(recorded, found_in(&root.path().join(name)));
        assert_eq!(recorded.len(), 2);
    }
    running.shut_down().await;

    // Without one of them: what lies there has no leader, and is not made anew elsewhere.
    let in_a = found_in(&root.path().join("a"));
    let running = start(root.path(), &["a"]).await;
    let image = running.broker.controller.image();
    for (index, state) in &image.topic("t").unwrap().partitions {
        assert_eq!(state.leader.is_some(), in_a.contains(&index.0));
    }
    assert_eq!(found_in(&root.path().join("a")), in_a);
    running.shut_down().await;

    let running = start(root.path(), &["a", "b"]).await;
    let has_leaders = |topic: &Topic| {
        topic
            .partitions
            .values()
            .all(|state| state.leader.is_some())
    };
    when(&running, has_leaders).await;
    running.shut_down().await;
}

#[tokio::test]
async fn a_replica_that_was_moved_while_the_broker_was_down_is_recorded_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let running = start(root.path(), &["a", "b"]).await;
    create(&running, "t", 1).await;
    let image = when(&running, is_located).await;
    let before = image
        .topic("t")
        .unwrap()
        .partitions
        .values()
        .next()
        .unwrap()
        .directory_of(NODE);
    running.shut_down().await;
    let (from, to) = if root.path().join("a/t-0").exists() {
        ("a", "b")
    } else {
        ("b", "a")
    };
    let moved = Files::rename(
        &Disk,
        &root.path().join(from).join("t-0"),
        &root.path().join(to).join("t-0"),
    );
    moved.unwrap();
    let running = start(root.path(), &["a", "b"]).await;
    when(&running, |topic| {
        let mut partitions = topic.partitions.values();
        is_located(topic) && partitions.all(|state| state.directory_of(NODE) != before)
    })
    .await;
    running.shut_down().await;
}

/// A new node, in a cluster of a level that does not record in which directory a replica is.
fn format_without_assignment(root: &Path, directories: &[&str]) {
    let ids = (1..).map(|number| Uuid::from_parts(31, number));
    let paths: Vec<PathBuf> = directories.iter().map(|name| root.join(name)).collect();
    let directories: Vec<_> = paths.iter().map(PathBuf::as_path).zip(ids).collect();
    let version = MetadataVersion(16);
    let voter = Voter {
        node_id: NODE,
        directory_id: directories[0].1,
        endpoints: Vec::new(),
    };
    let format = Format {
        cluster_id: "cluster",
        node_id: NODE,
        directories: &directories,
        metadata_directory: directories[0].0,
        voters: &[voter],
        bootstrap: &bootstrap::checkpoint(version)[..1],
        version,
        now: Clock::start().now().wall,
    };
    ottla_quorum::format(&Disk, &format).unwrap();
}

/// Takes a directory away as a disk that fails: there is a file in its place.
fn take_away(root: &Path, name: &str) {
    Disk.rename(&root.join(name), &root.join("away")).unwrap();
    drop(Disk.open(&root.join(name), Open::Create).unwrap());
}

fn bring_back(root: &Path, name: &str) {
    Disk.remove(&root.join(name)).unwrap();
    Disk.rename(&root.join("away"), &root.join(name)).unwrap();
}

#[tokio::test]
async fn a_replica_is_not_made_anew_where_it_is_not_known_in_which_directory_it_is() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    format_without_assignment(root, &["a", "b"]);
    let running = start(root, &["a", "b"]).await;
    create(&running, "t", 2).await;
    for partition in running.broker.replicas.all() {
        append(&partition, 1000);
    }
    running.shut_down().await;
    let in_a = found_in(&root.join("a"));

    take_away(root, "b");
    let running = start(root, &["a", "b"]).await;
    assert_eq!(found_in(&root.join("a")), in_a, "nothing is made anew");
    create(&running, "u", 1).await;
    assert!(
        root.join("a/u-0").exists(),
        "what is new goes to the other disk"
    );
    running.shut_down().await;

    bring_back(root, "b");
    let running = start(root, &["a", "b"]).await;
    for partition in running.broker.replicas.all() {
        let end = partition.with_log(|log| log.log_end_offset());
        assert!(&*partition.topic == "u" || end == Some(Offset(1)));
    }
    assert_eq!(running.broker.replicas.all().len(), 3);
    running.shut_down().await;
}

/// Starts a thread that holds the lock of `partition` and waits for its disk, as a write to a stalled disk does, until the
/// sender is dropped.
fn hold_up(partition: &Arc<Partition>) -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (goes_on, disk) = mpsc::channel();
    let (say_held, held) = mpsc::channel();
    let partition = Arc::clone(partition);
    let write = move || {
        let _ = partition.with_log(|_| {
            say_held.send(()).unwrap();
            disk.recv()
        });
    };
    let thread = std::thread::Builder::new().spawn(write).unwrap();
    held.recv().unwrap();
    (goes_on, thread)
}

fn append(partition: &Arc<Partition>, timestamp: i64) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(timestamp, Some(b"key"), Some(b"value"), &[]);
    let bytes = builder.build().unwrap();
    let batch = Batch::from(BatchView::first(&bytes).unwrap());
    let append = Append {
        batches: &[batch],
        acks: RequiredAcks::All,
    };
    let appended = partition.append(&[append], Origin::Client, Clock::start().now());
    assert!(appended[0].is_ok());
}

/// A directory that stood still while it made a partition, which was then deleted, and made in another, once left a log
/// that took the place of the one with the records.
#[tokio::test]
async fn a_log_that_was_not_made_to_its_end_gives_way_to_the_one_with_the_records() {
    let root = tempfile::tempdir().unwrap();
    let at = |directory: &str, index: i32| root.path().join(format!("{directory}/t-{index}"));
    let running = start(root.path(), &["a", "b"]).await;
    create(&running, "t", 2).await;
    for partition in running.broker.replicas.all() {
        append(&partition, 1000);
    }
    running.shut_down().await;
    let (in_a, in_b) = if at("a", 0).exists() { (0, 1) } else { (1, 0) };
    let half_made = [at("b", in_a), at("a", in_b)];
    for path in &half_made {
        std::fs::create_dir(path).unwrap();
    }
    let running = start(root.path(), &["a", "b"]).await;
    for partition in running.broker.replicas.all() {
        let end = partition.with_log(|log| log.log_end_offset());
        assert_eq!(end, Some(Offset(1)));
    }
    assert!(half_made.iter().all(|path| !path.exists()));
    running.shut_down().await;

    // Where both name an owner, neither can be believed.
    std::fs::create_dir(at("b", in_a)).unwrap();
    for entry in std::fs::read_dir(at("a", in_a)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, at("b", in_a).join(path.file_name().unwrap())).unwrap();
    }
    let refused = try_start(root.path(), &["a", "b"]).await.err().unwrap();
    assert!(refused.to_string().contains("lies in"), "{refused}");
    assert!(at("a", in_a).exists() && at("b", in_a).exists());
}

async fn set_config(running: &Running, topic: &str, key: &str, value: &str) {
    let change = (key.to_owned(), Change::Set(value.to_owned()));
    let resource = ConfigResource::topic(topic);
    let alter = IncrementalAlterConfigs {
        resources: vec![(resource, vec![change])],
        validate_only: false,
    };
    let reply = running.broker.controller.ask(alter).await.unwrap();
    assert!(reply[0].1.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_changed_while_one_of_two_directories_stands_still() {
    let root = tempfile::tempdir().unwrap();
    let running = start(root.path(), &["a", "b"]).await;
    create(&running, "t", 2).await;
    when(&running, is_located).await;
    let replicas = &running.broker.replicas;
    let in_b = replicas.all_in(&replicas.directories()[1]);
    let (goes_on, held_up) = hold_up(&in_b[0]);

    let limit = Duration::from_mins(1);
    let changed = tokio::time::timeout(limit, async {
        set_config(&running, "t", "retention.ms", "12345").await;
        create(&running, "u", 2).await;
    });
    changed.await.expect("the metadata waits for the directory");
    assert!(root.path().join("a/u-0").exists() && root.path().join("a/u-1").exists());
    let delete = DeleteTopics(vec![TopicReference::Name("u".to_owned())]);
    let reply = running.broker.controller.ask(delete).await.unwrap();
    assert!(reply[0].1.is_ok());
    assert!(!root.path().join("a/u-0").exists());
    let retention = |partition: &Partition| partition.settings().log.retention;
    let in_a = &replicas.all_in(&replicas.directories()[0])[0];
    assert_eq!(retention(in_a), Some(Duration::from_millis(12345)));
    assert_ne!(retention(&in_b[0]), retention(in_a));

    let mut late = replicas.follow_late_changes();
    drop(goes_on);
    held_up.join().unwrap();
    late.changed().await.unwrap();
    assert_eq!(retention(&in_b[0]), retention(in_a));
    running.shut_down().await;
}

/// Waits until there is such a file.
async fn appears(path: PathBuf) {
    let appeared = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while !path.exists() {
            looks.tick().await;
        }
    };
    let limit = Duration::from_mins(1);
    let found = tokio::time::timeout(limit, appeared).await;
    found.expect("a log directory is not closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_what_answers_while_one_directory_stands_still() {
    let root = tempfile::tempdir().unwrap();
    let running = start(root.path(), &["a", "b"]).await;
    create(&running, "t", 2).await;
    let replicas = &running.broker.replicas;
    let in_b = replicas.all_in(&replicas.directories()[1]);
    let (goes_on, held_up) = hold_up(&in_b[0]);
    let stop = tokio::spawn(running.shut_down());
    appears(root.path().join("a/.kafka_cleanshutdown")).await;
    assert!(!root.path().join("b/.kafka_cleanshutdown").exists());
    drop(goes_on);
    held_up.join().unwrap();
    stop.await.unwrap();
    assert!(root.path().join("b/.kafka_cleanshutdown").exists());
}

#[tokio::test]
async fn a_partition_that_cannot_be_changed_keeps_no_other_from_it() {
    let root = tempfile::tempdir().unwrap();
    let running = start(root.path(), &["a"]).await;
    for topic in ["t", "u"] {
        create(&running, topic, 1).await;
    }
    let drivers = &running.broker.drivers;
    let image = running.broker.controller.image();
    let mut without = (*image).clone();
    let mut changes = Changes::default();
    for topic in ["t", "u"] {
        without.topics.remove(&id_of(topic));
        changes
            .deleted_topics
            .insert(id_of(topic), topic.to_owned());
    }
    // The files of one partition are removed; the order of the partitions must not matter.
    for (taken, left) in [("t", "u"), ("u", "t")] {
        let (taken, left) = (format!("a/{taken}-0"), format!("a/{left}-0"));
        let (taken, left) = (root.path().join(taken), root.path().join(left));
        let away = root.path().join("away");
        Disk.rename(&taken, &away).unwrap();
        assert_eq!(drivers.apply(&without, &changes).len(), 1);
        assert!(!left.exists());
        Disk.rename(&away, &taken).unwrap();
        let made = Changes {
            partitions: BTreeSet::from([
                (id_of("t"), PartitionIndex(0)),
                (id_of("u"), PartitionIndex(0)),
            ]),
            ..Changes::default()
        };
        assert_eq!(drivers.apply(&image, &made).len(), 0);
        assert!(left.exists());
    }
    running.shut_down().await;
}

#[tokio::test]
async fn the_cleaner_takes_no_partition_for_one_of_another_directory() {
    let root = tempfile::tempdir().unwrap();
    let running = start(root.path(), &["a", "b"]).await;
    create(&running, "t", 2).await;
    for (key, value) in [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0"),
        ("segment.ms", "1"),
    ] {
        set_config(&running, "t", key, value).await;
    }
    let (replicas, drivers) = (&running.broker.replicas, &running.broker.drivers);
    let Found::Here(partition) = replicas.by_name("t", PartitionIndex(0)) else {
        panic!("it is here");
    };
    for timestamp in [1000, 2000, 3000] {
        append(&partition, timestamp);
    }
    let compacted_at = || {
        let reports = drivers.compaction(|partition| &*partition.topic == "t");
        let compacted = reports
            .iter()
            .map(|report| report.history.compacted_at.is_some());
        compacted.collect::<Vec<_>>()
    };
    let compacted = async {
        while !compacted_at().contains(&true) {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, compacted).await.unwrap();
    assert_eq!(compacted_at(), [true, false]);
    running.shut_down().await;
}
