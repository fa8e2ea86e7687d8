//! A coordinator whose partition is slow, damaged, or cannot take a record.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::replicas::Found;
use ottla_broker::replicas::partition::{Append, RequiredAcks};
use ottla_coordinator::partition_for;
use ottla_log::{Batch, Origin, PartitionLog};
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::{ErrorCode, OffsetCommitResponseData};
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};

use crate::node::{Node, start_with, text};

#[tokio::test]
async fn a_commit_that_is_not_on_disk_in_time_is_answered_as_not_available() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with(directory.path(), |config| {
        config.groups.commit_timeout = Duration::from_millis(20);
        config.storage.flush_max_delay = Duration::from_mins(1);
    });
    let code = |response: OffsetCommitResponseData| {
        let topic = response.topics.iter().find(|topic| topic.name == text("t"));
        let mut partitions = topic.unwrap().partitions.iter();
        let first = partitions.find(|partition| partition.partition_index == 0);
        first.unwrap().error_code
    };
    let index = PartitionIndex(partition_for("simple", 3));
    let Found::Here(partition) = node.broker.replicas.by_name("__consumer_offsets", index) else {
        panic!("the partition is here");
    };
    // A flush that has begun and does not end holds up all others, as a disk that hangs does.
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(0, Some(b"no key of a group"), None, &[]);
    let batch = builder.build().unwrap();
    let batch: Batch<'_> = split_batches(&batch).next().unwrap().unwrap().into();
    let now = node.broker.clock.now();
    let append = Append {
        batches: &[batch],
        acks: RequiredAcks::Leader,
    };
    partition.append(&[append], Origin::Coordinator, now);
    let flush = partition.with_log(PartitionLog::begin_flush);
    let flush = flush.unwrap().unwrap().unwrap();
    let late = loop {
        match ErrorCode::from(code(node.commit("simple", 5, None).await)) {
            ErrorCode::CoordinatorLoadInProgress => {}
            code => break code,
        }
    };
    assert_eq!(late, ErrorCode::CoordinatorNotAvailable);
    flush.run().unwrap();
    partition.with_log(|log| log.complete_flush(&flush));
    let later = loop {
        match ErrorCode::from(code(node.commit("simple", 6, None).await)) {
            ErrorCode::CoordinatorNotAvailable => {}
            code => break code,
        }
    };
    assert_eq!(later, ErrorCode::None);
}

/// A broker whose partitions have small segments.
fn start_with_small_segments(directory: &Path) -> Node {
    start_with(directory, |config| {
        let values = &mut config.statics.values;
        values.insert("log.segment.bytes".to_owned(), "300".to_owned());
        config.storage.flush_max_delay = Duration::from_millis(5);
    })
}

#[tokio::test]
async fn damage_that_a_coordinator_meets_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with_small_segments(directory.path());
    // In a segment that is closed: the last one is looked at by the start.
    for offset in 0..5 {
        node.commit("simple", offset, None).await;
    }
    node.broker.groups.stop();
    node.broker.drivers.close(1).unwrap();
    let index = partition_for("simple", 3);
    let log = format!("__consumer_offsets-{index}/00000000000000000000.log");
    let file = OpenOptions::new()
        .write(true)
        .open(directory.path().join(log));
    // The length of the first batch.
    file.unwrap().write_all_at(&[0xFF; 4], 8).unwrap();

    let node = start_with_small_segments(directory.path());
    let met = async {
        while node.broker.replicas.damage().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, met).await.unwrap();
    let known = node.broker.replicas.damage();
    assert_eq!(
        (&*known[0].topic, known[0].partition),
        ("__consumer_offsets", index)
    );
}

#[tokio::test]
async fn an_offset_that_has_rotted_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with_small_segments(directory.path());
    let index = partition_for("simple", 3);
    let committed = 0x0102_0304_0506_0708;
    node.commit("simple", 3, None).await;
    node.commit("simple", committed, None).await;
    let others = (0..).map(|number| format!("other-{number}"));
    let others = others.filter(|group| partition_for(group, 3) == index);
    for group in others.take(5) {
        node.commit(&group, 1, None).await;
    }
    node.broker.groups.stop();
    node.broker.drivers.close(1).unwrap();
    let partition = directory.path().join(format!("__consumer_offsets-{index}"));
    let mut changed = 0;
    for entry in std::fs::read_dir(partition).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let mut windows = bytes.windows(8);
        if let Some(at) = windows.position(|window| window == committed.to_be_bytes()) {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[0x7F], at as u64).unwrap();
            changed += 1;
        }
    }
    assert_eq!(changed, 1);

    let node = start_with_small_segments(directory.path());
    assert_eq!(node.fetch("simple", 9).await, (3, 0));
}

#[tokio::test]
async fn a_group_record_that_is_too_large_costs_nobody_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with(directory.path(), |config| {
        config.storage.flush_max_delay = Duration::from_millis(5);
        let values = &mut config.statics.values;
        values.insert("message.max.bytes".to_owned(), "1000".to_owned());
    });
    let told = node.join("", 9).await;
    let joined = node.join(told.member_id.as_str(), 9).await;
    let too_large: &str = "x".repeat(2000).leak();
    let refused = node.sync(&joined, too_large).await;
    assert_eq!(
        refused,
        (ErrorCode::UnknownServerError.code(), Bytes::new())
    );
    let rejoin = ErrorCode::RebalanceInProgress.code();
    assert_eq!(node.heartbeat(&joined).await, rejoin);
    let again = node.join(joined.member_id.as_str(), 9).await;
    assert_eq!((again.error_code, again.generation_id), (0, 2));
    assert_eq!(again.member_id, joined.member_id);
    assert_eq!(node.sync(&again, "mine").await, (0, "mine".into()));
    assert_eq!(node.heartbeat(&again).await, 0);
    assert_eq!(node.leave(&again).await, 0);
    assert_eq!(node.list().await, [("g".to_owned(), "Empty".to_owned())]);
}
