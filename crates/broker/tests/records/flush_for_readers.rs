//! Records that were answered before they were flushed: readers, and requests for the end of a log, cause the flush.

use std::sync::Arc;

use ottla_log::files::{FileError, Operation};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::BatchOptions;

use crate::node::{
    PLENTY, batch, batch_of, fetch_from, image, in_time, never_flushes, patient_fetch, request,
    start_unhurried, start_with,
};

#[tokio::test]
async fn a_reader_that_waits_has_what_is_answered_before_it_is_flushed() {
    for acks in [1, 0] {
        let directory = tempfile::tempdir().unwrap();
        let node = start_unhurried(directory.path());
        let (read, ()) = tokio::join!(node.values(patient_fetch(1)), async {
            tokio::task::yield_now().await;
            node.append(acks, 1, "while it waits");
        });
        assert_eq!(read, [vec![], vec!["while it waits"]]);

        node.append(acks, 0, "before it waits");
        let mut later = patient_fetch(1);
        later.topics[0].partitions[1].fetch_offset = 1;
        assert_eq!(node.values(later).await, [vec!["before it waits"], vec![]]);
    }
}

#[tokio::test]
async fn who_takes_what_is_there_has_what_is_answered_before_it_is_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_unhurried(directory.path());
    let mut at_once = fetch_from(0, &[0], PLENTY);
    for (number, (min_bytes, max_wait_ms)) in [(1, 0), (0, 1000), (1 << 20, 1)].iter().enumerate() {
        let value = number.to_string();
        node.append(1, 0, &value);
        at_once.topics[0].partitions[0].fetch_offset = i64::try_from(number).unwrap();
        (at_once.min_bytes, at_once.max_wait_ms) = (*min_bytes, *max_wait_ms);
        assert_eq!(node.values(at_once.clone()).await, [[value]]);
    }
}

#[tokio::test]
async fn a_reader_of_two_directories_has_its_least_bytes_as_soon_as_they_are_appended() {
    let root = tempfile::tempdir().unwrap();
    let node = start_with(root.path(), image(0, &[]), |config| {
        let directories = ["a", "b"].map(|name| root.path().join(name));
        for directory in &directories {
            std::fs::create_dir(directory).unwrap();
        }
        config.storage.log_dirs = directories.to_vec();
        never_flushes(config);
    });
    let directories = [0, 1].map(|index| Arc::clone(node.partition(index).directory()));
    assert!(!Arc::ptr_eq(&directories[0], &directories[1]));
    let two = 2 * batch(&["x"]).len();
    let (read, ()) = tokio::join!(node.values(patient_fetch(two)), async {
        tokio::task::yield_now().await;
        node.append(1, 0, "1");
        tokio::task::yield_now().await;
        node.append(0, 1, "2");
    });
    assert_eq!(read, [["1"], ["2"]]);
    // The same for one that comes when they are there.
    node.append(0, 0, "3");
    node.append(1, 1, "4");
    let mut later = patient_fetch(two);
    for partition in &mut later.topics[0].partitions {
        partition.fetch_offset = 1;
    }
    assert_eq!(node.values(later).await, [["3"], ["4"]]);
}

/// The answer is for another partition; the next one is not to wait for a timer.
#[tokio::test]
async fn a_reader_that_is_answered_at_once_has_its_other_partitions_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_unhurried(directory.path());
    node.produce(-1, batch(&["old"])).await;
    node.append(1, 1, "new");
    while node.partition(1).offsets().unwrap().high_watermark != Offset(1) {
        let read = node.values(patient_fetch(1)).await;
        assert_eq!(read[0], ["old"]);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_for_the_end_sees_all_appended_records() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_unhurried(directory.path());
    let ok = ErrorCode::None;
    for (end, acks) in [(1, 1), (2, 0)] {
        node.append(acks, 0, "x");
        assert_eq!(in_time(node.list(-1)).await, (ok, end, -1));
    }
    let append_at = |timestamp| {
        let records = batch_of(BatchOptions::default(), timestamp, &["x"]);
        node.start_produce(vec![request(1, 0, records)]);
    };
    let newer = 1_700_000_000_007;
    append_at(newer);
    assert_eq!(in_time(node.list(-3)).await, (ok, 2, newer));
    append_at(newer + 1);
    assert_eq!(in_time(node.list(newer + 1)).await, (ok, 3, newer + 1));
    node.append(0, 0, "x");
    assert_eq!(in_time(node.end_of_epoch()).await, (ok, 5));
    let offsets = node.partition(0).offsets().unwrap();
    assert_eq!(offsets.high_watermark, Offset(5), "it cannot be cut off");
}

#[tokio::test]
async fn records_can_be_deleted_as_soon_as_they_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_unhurried(directory.path());
    for end in 1..=3 {
        node.append(1, 0, "x");
        let deleted = in_time(node.delete_records(end)).await;
        assert_eq!(deleted, (ErrorCode::None, end));
    }
    for acks in [0, 1] {
        node.append(acks, 0, "x");
    }
    let beyond = in_time(node.delete_records(6)).await;
    assert_eq!(beyond, (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(in_time(node.delete_records(-1)).await, (ErrorCode::None, 5));
}

#[tokio::test]
async fn a_disk_that_does_not_answer_holds_nobody_up_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_unhurried(directory.path());
    // Without its thread nothing is flushed any more; what comes before it has ended still is.
    node.broker.replicas.directories()[0].flusher.stop();
    let mut end = 0;
    loop {
        node.append(1, 0, "x");
        end += 1;
        match in_time(node.delete_records(-1)).await {
            (ErrorCode::None, start) => assert_eq!(start, end),
            refused => {
                assert_eq!(refused, (ErrorCode::RequestTimedOut, -1));
                break;
            }
        }
    }
    let mut at_the_end = fetch_from(end - 1, &[0], PLENTY);
    at_the_end.max_wait_ms = 1;
    let (read, listed, before, epoch) = tokio::join!(
        node.values(at_the_end),
        node.list(-1),
        node.list_in(4, -1),
        node.end_of_epoch()
    );
    assert_eq!(read, [[""; 0]]);
    assert_eq!(listed, (ErrorCode::OffsetNotAvailable, -1, -1));
    let before = &before.topics[0].partitions[0];
    assert_eq!(before.error_code, ErrorCode::LeaderNotAvailable.code());
    assert_eq!(epoch, (ErrorCode::OffsetNotAvailable, -1));
    assert_eq!(node.list(-2).await, (ErrorCode::None, end - 1, -1));
}

#[tokio::test]
async fn a_request_for_the_end_fails_with_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_unhurried(directory.path());
    node.append(1, 0, "x");
    let disk = &node.broker.replicas.directories()[0].log;
    disk.failed(FileError::new(
        Operation::Sync,
        directory.path(),
        std::io::ErrorKind::Other,
    ));
    let failed = ErrorCode::KafkaStorageError;
    assert_eq!(in_time(node.list(-1)).await, (failed, -1, -1));
    assert_eq!(in_time(node.delete_records(-1)).await, (failed, -1));
    assert_eq!(in_time(node.end_of_epoch()).await, (failed, -1));
    let fetched = in_time(node.fetch(patient_fetch(1), 11)).await;
    assert_eq!(fetched.responses[0].partitions[0].error_code, failed.code());
}
