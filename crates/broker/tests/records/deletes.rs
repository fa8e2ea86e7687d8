//! Deleted records, partitions and topics, and retention.

use std::path::Path;
use std::time::Duration;

use ottla_broker::replicas::Found;
use ottla_metadata::ConfigResource;
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::{BatchBuilder, BatchOptions};

use crate::node::{PLENTY, batch, error, fetch_from, image, start, start_with, values};

#[tokio::test]
async fn what_a_stop_left_of_deleted_partitions_goes_after_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("gone-0.0a1b-delete");
    let not_ours = directory.path().join("notes-delete");
    for path in [&gone, &not_ours] {
        std::fs::create_dir(path).unwrap();
    }
    let mut image = image(0, &[]);
    image
        .configs
        .entry(ConfigResource::cluster())
        .or_default()
        .insert("log.segment.delete.delay.ms".to_owned(), "0".to_owned());
    let _node = start(directory.path(), image);
    let removed = async {
        while gone.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), removed).await;
    waited.expect("the directory is still there");
    assert!(not_ours.exists(), "whatever it is, it is not Ottla's");
}

#[tokio::test]
async fn deleted_records_stay_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    for value in ["a", "b", "c"] {
        node.produce(-1, batch(&[value])).await;
    }
    assert_eq!(
        node.delete_records(4).await,
        (ErrorCode::OffsetOutOfRange, -1)
    );
    assert_eq!(node.delete_records(2).await, (ErrorCode::None, 2));
    let gone = node.fetch(fetch_from(1, &[0], PLENTY), 11).await;
    assert_eq!(
        gone.responses[0].partitions[0].error_code,
        ErrorCode::OffsetOutOfRange.code()
    );
    // Not closed: as after a crash.
    let copy = tempfile::tempdir().unwrap();
    copy_tree(directory.path(), copy.path());
    let node = start(copy.path(), image(1, &[]));
    assert_eq!(node.list(-2).await, (ErrorCode::None, 2, -1));
    assert_eq!(node.list(-1).await, (ErrorCode::None, 3, -1));
}

#[tokio::test]
async fn a_delete_records_that_outlives_the_stop_leaves_the_log_starts_as_they_were_closed() {
    let root = tempfile::tempdir().unwrap();
    let node = start(root.path(), image(0, &[]));
    for value in ["a", "b", "c"] {
        node.produce(-1, batch(&[value])).await;
    }
    assert_eq!(node.delete_records(2).await, (ErrorCode::None, 2));
    let replicas = &node.broker.replicas;
    node.broker.drivers.close(1).unwrap();
    let directory = &replicas.directories()[0];
    replicas.write_log_starts(directory).unwrap();
    let node = start(root.path(), image(1, &[]));
    assert_eq!(node.list(-2).await, (ErrorCode::None, 2, -1));
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test copies what a crash would leave"
)]
fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::write(&target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_deleted_topic_is_gone_and_comes_back_empty() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    node.produce(-1, batch(&["a"])).await;
    let mut request = fetch_from(1, &[0], PLENTY);
    request.max_wait_ms = 30_000;
    let (fetched, ()) = tokio::join!(node.fetch(request, 11), async {
        tokio::task::yield_now().await;
        node.delete_topic();
    });
    assert_ne!(fetched.responses[0].partitions[0].error_code, 0);
    assert_eq!(
        error(&node.produce(-1, batch(&["b"])).await),
        ErrorCode::UnknownTopicOrPartition
    );
    node.create_topic();
    assert_eq!(node.produce(-1, batch(&["c"])).await.base_offset, 0);
}

#[tokio::test]
async fn a_topic_that_came_back_keeps_its_records_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    for value in ["a", "b", "c"] {
        node.produce(-1, batch(&[value])).await;
    }
    assert_eq!(node.delete_records(2).await, (ErrorCode::None, 2));
    node.delete_topic();
    node.create_topic();
    assert_eq!(node.produce(-1, batch(&["new"])).await.base_offset, 0);
    // Not closed: as after a crash.
    let copy = tempfile::tempdir().unwrap();
    copy_tree(directory.path(), copy.path());
    let node = start(copy.path(), image(1, &[]));
    let fetched = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    let records = fetched.responses[0].partitions[0].records.as_ref();
    assert_eq!(values(records.unwrap()), ["new"]);
}

#[tokio::test]
async fn deleted_partitions_go_at_once_where_space_is_short() {
    let directory = tempfile::tempdir().unwrap();
    let never = [("file.delete.delay.ms", "86400000")];
    let node = start_with(directory.path(), image(0, &never), |config| {
        config.storage.disk_reserve = Some(u64::MAX);
    });
    let names = || {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("t-")).count()
    };
    assert_eq!(names(), 2);
    node.delete_topic();
    let removed = async {
        while names() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), removed).await;
    waited.expect("the files are still there");
}

#[tokio::test]
async fn only_compaction_alone_forbids_to_delete_records() {
    for (policy, wanted) in [
        ("", (ErrorCode::None, 1)),
        ("delete", (ErrorCode::None, 1)),
        ("compact,delete", (ErrorCode::None, 1)),
        ("compact", (ErrorCode::PolicyViolation, -1)),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let node = start(directory.path(), image(0, &[("cleanup.policy", policy)]));
        for value in ["a", "b"] {
            node.produce(-1, batch(&[value])).await;
        }
        assert_eq!(node.delete_records(1).await, wanted, "{policy:?}");
    }
}

#[tokio::test]
async fn without_a_policy_records_stay_for_ever_and_need_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let configs = [
        ("cleanup.policy", ""),
        ("retention.ms", "0"),
        ("retention.bytes", "0"),
    ];
    let node = start(directory.path(), image(0, &configs));
    let mut keyless = BatchBuilder::new(BatchOptions::default());
    keyless.append(1, None, Some(b"v"), &[]);
    let taken = node.produce(-1, keyless.build().unwrap()).await;
    assert_eq!(error(&taken), ErrorCode::None);
    let Found::Here(partition) = node.broker.replicas.by_name("t", PartitionIndex(0)) else {
        panic!("the partition is here");
    };
    let now = node.broker.clock.now().wall;
    let removed = partition.with_log(|log| log.apply_retention(now));
    assert_eq!(removed.unwrap().unwrap().segments, 0);
    assert_eq!(node.list(-2).await, (ErrorCode::None, 0, -1));
}
