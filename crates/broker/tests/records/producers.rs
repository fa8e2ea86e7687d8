//! Idempotent producers: their sequence numbers, repetitions and expiry.

use std::time::Duration;

use ottla_broker::replicas::Found;
use ottla_metadata::{Changes, ConfigResource};
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::{BatchOptions, split_batches};

use crate::node::{
    PLENTY, batch_of, error, fetch_from, image, request, settled, start, start_with,
};

#[tokio::test]
async fn idempotent_producers_are_answered_with_the_first_offset_and_kept_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let sequence = |base_sequence, epoch| BatchOptions {
        producer_id: 77,
        producer_epoch: epoch,
        base_sequence,
        ..BatchOptions::default()
    };
    let numbered = |base_sequence, epoch, values: &[&str]| {
        batch_of(sequence(base_sequence, epoch), 1_700_000_000_000, values)
    };
    assert_eq!(
        node.produce(-1, numbered(0, 1, &["a", "b"]))
            .await
            .base_offset,
        0
    );
    assert_eq!(
        node.produce(-1, numbered(2, 1, &["c"])).await.base_offset,
        2
    );
    let again = node.produce(-1, numbered(0, 1, &["a", "b"])).await;
    assert_eq!((error(&again), again.base_offset), (ErrorCode::None, 0));
    assert_eq!(again.log_append_time_ms, 1_700_000_000_000, "as in Kafka");
    let gap = node.produce(-1, numbered(9, 1, &["x"])).await;
    assert_eq!(error(&gap), ErrorCode::OutOfOrderSequenceNumber);
    let fenced = node.produce(-1, numbered(0, 0, &["x"])).await;
    assert_eq!(error(&fenced), ErrorCode::InvalidProducerEpoch);
    assert_eq!(node.list(-1).await, (ErrorCode::None, 3, -1));
}

/// A batch of producer 77 with one record.
pub fn numbered(base_sequence: i32) -> Vec<u8> {
    numbered_of(77, base_sequence, &["x"])
}

fn numbered_of(producer_id: i64, base_sequence: i32, values: &[&str]) -> Vec<u8> {
    let options = BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        ..BatchOptions::default()
    };
    batch_of(options, 1_700_000_000_000, values)
}

#[tokio::test]
async fn a_repeated_batch_is_answered_with_the_time_that_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let mut node = start(directory.path(), image(0, &configs));
    let mut told = Vec::new();
    for sequence in 0..6 {
        let answer = node.produce(-1, numbered(sequence)).await;
        told.push(answer.log_append_time_ms);
        while node.broker.clock.now().wall.0 <= answer.log_append_time_ms {
            tokio::task::yield_now().await;
        }
    }
    // A producer snapshot, in Kafka's format, remembers only the last batch.
    for (epoch, remembered) in [(1, 1..6), (2, 5..6)] {
        for sequence in remembered {
            let again = node.produce(-1, numbered(sequence)).await;
            let at = usize::try_from(sequence).unwrap();
            let answered = (again.base_offset, again.log_append_time_ms);
            assert_eq!(answered, (i64::from(sequence), told[at]), "{sequence}");
        }
        let forgotten = node.produce(-1, numbered(0)).await;
        assert_eq!(error(&forgotten), ErrorCode::OutOfOrderSequenceNumber);
        node.broker.drivers.close(1).unwrap();
        node = start(directory.path(), image(epoch, &configs));
    }
    let fetched = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    let records = fetched.responses[0].partitions[0].records.clone().unwrap();
    let batches = split_batches(&records);
    let stored: Vec<i64> = batches
        .map(|batch| batch.unwrap().header().max_timestamp)
        .collect();
    assert_eq!(stored, told);
}

#[tokio::test]
async fn a_producers_first_batch_is_waited_for_on_a_partition_that_never_held_a_record() {
    let directory = tempfile::tempdir().unwrap();
    let configs = [("max.message.bytes", "200")];
    let node = start(directory.path(), image(0, &configs));
    let too_large = numbered_of(77, 0, &["x".repeat(100).as_str(); 2]);
    let both = node.start_produce(vec![request(-1, 0, too_large), request(-1, 0, numbered(2))]);
    let mut codes = Vec::new();
    for reply in both {
        codes.push(error(&settled(reply).await));
    }
    assert_eq!(
        codes,
        [
            ErrorCode::MessageTooLarge,
            ErrorCode::OutOfOrderSequenceNumber
        ]
    );
    for sequence in 0..3 {
        let answer = node.produce(-1, numbered(sequence)).await;
        let wanted = (ErrorCode::None, i64::from(sequence));
        assert_eq!((error(&answer), answer.base_offset), wanted);
    }
    // Elsewhere a producer that is not known may have been forgotten, also where nothing is left.
    let other = node.produce(-1, numbered_of(78, 7, &["x"])).await;
    assert_eq!((error(&other), other.base_offset), (ErrorCode::None, 3));
    assert_eq!(node.delete_records(-1).await, (ErrorCode::None, 4));
    let other = node.produce(-1, numbered_of(79, 7, &["x"])).await;
    assert_eq!((error(&other), other.base_offset), (ErrorCode::None, 4));
}

#[tokio::test]
async fn idle_producers_are_forgotten_as_often_and_as_soon_as_the_settings_say() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with(directory.path(), image(0, &[]), |config| {
        config.records.producer_id_expiration_check_interval = Duration::from_millis(5);
    });
    let key = "producer.id.expiration.ms";
    let expire_after = |milliseconds: &str| {
        let mut image = image(0, &[]);
        let cluster = ConfigResource::cluster();
        let own = image.configs.entry(cluster.clone()).or_default();
        own.insert(key.to_owned(), milliseconds.to_owned());
        let changes = Changes {
            configs: [cluster].into(),
            ..Changes::default()
        };
        assert_eq!(node.broker.drivers.apply(&image, &changes).len(), 0);
    };
    let Found::Here(partition) = node.broker.replicas.by_name("t", PartitionIndex(0)) else {
        panic!("the partition is here");
    };
    let now = node.broker.clock.now().wall.0;
    expire_after("86400000");
    let batch = |base_sequence| {
        let options = BatchOptions {
            producer_id: 77,
            producer_epoch: 0,
            base_sequence,
            ..BatchOptions::default()
        };
        batch_of(options, now, &["x"])
    };
    assert_eq!(error(&node.produce(-1, batch(0)).await), ErrorCode::None);
    let gap = node.produce(-1, batch(9)).await;
    assert_eq!(error(&gap), ErrorCode::OutOfOrderSequenceNumber);
    expire_after("1");
    let forgotten = async {
        let is_known =
            || partition.with_log(|log| !log.producers().producers().is_empty()) == Some(true);
        while is_known() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), forgotten).await;
    waited.expect("the producer is still known");
    assert_eq!(error(&node.produce(-1, batch(9)).await), ErrorCode::None);
}
