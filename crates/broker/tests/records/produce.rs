//! Produce: what is taken, what is refused, and when it is answered.

use bytes::Bytes;
use ottla_broker::handlers::produce::{self, ProduceReply};
use ottla_broker::replicas::Found;
use ottla_broker::replicas::partition::replicated;
use ottla_log::files::{FileError, Operation};
use ottla_protocol::ids::{Offset, PartitionIndex};
use ottla_protocol::messages::{ApiKey, ErrorCode, ProduceRequestData, produce_request};
use ottla_protocol::records::{BatchBuilder, BatchOptions, Compression, split_batches};

use crate::node::{
    PLENTY, answers, batch, batch_of, error, fetch_from, image, patient_fetch, request, settled,
    start, start_unhurried, topic_id, values,
};

#[tokio::test]
async fn what_is_acknowledged_is_read_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(3, &[]));
    let first = node.produce(-1, batch(&["a", "b"])).await;
    assert_eq!(
        (error(&first), first.base_offset, first.log_start_offset),
        (ErrorCode::None, 0, 0)
    );
    let second = node.produce(-1, batch(&["c"])).await;
    assert_eq!(second.base_offset, 2);
    let fetched = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    let partition = &fetched.responses[0].partitions[0];
    assert_eq!(values(partition.records.as_ref().unwrap()), ["a", "b", "c"]);
    assert_eq!(
        (partition.high_watermark, partition.last_stable_offset),
        (3, 3)
    );
    let epochs: Vec<i32> = split_batches(partition.records.as_ref().unwrap())
        .map(|batch| batch.unwrap().header().partition_leader_epoch)
        .collect();
    assert_eq!(epochs, [3, 3]);

    node.broker.drivers.close(5).unwrap();
    let late = node.produce(-1, batch(&["late"])).await;
    assert_eq!(error(&late), ErrorCode::NotLeaderOrFollower);
    let node = start(directory.path(), image(4, &[]));
    let fetched = node.fetch(fetch_from(1, &[0], PLENTY), 11).await;
    let partition = &fetched.responses[0].partitions[0];
    assert_eq!(
        values(partition.records.as_ref().unwrap()),
        ["a", "b", "c"],
        "whole batches"
    );
    assert_eq!(node.produce(1, batch(&["d"])).await.base_offset, 3);
}

#[test]
fn a_wait_for_a_failed_disk_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let disk = &node.broker.replicas.directories()[0].log;
    disk.failed(FileError::new(
        Operation::Sync,
        directory.path(),
        std::io::ErrorKind::Other,
    ));
    // The append was before the failure, the wait for it comes after.
    let Found::Here(partition) = node.broker.replicas.by_name("t", PartitionIndex(0)) else {
        panic!("the partition is here");
    };
    let mut replicated = replicated(&partition, Offset(1)).unwrap();
    let told = replicated.try_recv().expect("nobody answers");
    let refused = told.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::KafkaStorageError);
}

#[tokio::test]
async fn requests_that_arrive_together_are_appended_in_order_with_their_own_answers() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let mut broken = batch(&["broken"]);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let requests = vec![
        request(-1, 0, batch(&["a"])),
        request(-1, 0, broken),
        request(-1, 1, batch(&["other"])),
        request(1, 0, batch(&["b", "c"])),
        request(-1, 9, batch(&["nowhere"])),
        request(5, 0, batch(&["x"])),
        request(5, 9, batch(&["nowhere"])),
        request(5, 0, b"no batch".to_vec()),
        request(-1, 0, batch(&["d"])),
    ];
    let mut answers = Vec::new();
    for reply in node.start_produce(requests) {
        let answer = settled(reply).await;
        answers.push((error(&answer), answer.base_offset));
    }
    let expected = [
        (ErrorCode::None, 0),
        (ErrorCode::CorruptMessage, -1),
        (ErrorCode::None, 0),
        (ErrorCode::None, 1),
        (ErrorCode::UnknownTopicOrPartition, -1),
        (ErrorCode::InvalidRequiredAcks, -1),
        (ErrorCode::UnknownTopicOrPartition, -1),
        (ErrorCode::InvalidRecord, -1),
        (ErrorCode::None, 3),
    ];
    assert_eq!(answers, expected);
    let fetched = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    assert_eq!(
        values(fetched.responses[0].partitions[0].records.as_ref().unwrap()),
        ["a", "b", "c", "d"]
    );
}

#[tokio::test]
async fn topic_configs_decide_what_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let configs = [
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "200"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    let node = start(directory.path(), image(0, &configs));
    let mut keyless = BatchBuilder::new(BatchOptions::default());
    keyless.append(1, Some(b"k"), Some(b"v"), &[]);
    keyless.append(1, None, Some(b"v"), &[]);
    let refused = node.produce(-1, keyless.build().unwrap()).await;
    assert_eq!(error(&refused), ErrorCode::InvalidRecord);
    assert_eq!(refused.record_errors.len(), 1);
    assert_eq!(refused.record_errors[0].batch_index, 1);
    assert!(refused.error_message.is_some());
    let large = node.produce(-1, batch(&[&"x".repeat(200)])).await;
    assert_eq!(error(&large), ErrorCode::MessageTooLarge);
    let stamped = node.produce(-1, batch(&["a"])).await;
    assert!(stamped.log_append_time_ms > 1_700_000_000_000);
    let fetched = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    let records = fetched.responses[0].partitions[0].records.clone().unwrap();
    let batch = split_batches(&records).next().unwrap().unwrap();
    assert!(batch.is_crc_valid());
    let record = batch.plain_records().unwrap().next().unwrap().unwrap();
    assert_eq!(record.timestamp, stamped.log_append_time_ms);
}

#[tokio::test]
async fn acks_0_is_answered_by_nothing_or_by_closing() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let mut replies = node.start_produce(vec![
        request(0, 0, batch(&["a"])),
        request(0, 7, batch(&["a"])),
    ]);
    let refused = replies.pop().unwrap();
    assert!(matches!(refused, ProduceReply::Close(reason) if reason == "UnknownTopicOrPartition"));
    assert!(matches!(replies.pop().unwrap(), ProduceReply::None));
}

#[tokio::test]
async fn a_record_larger_than_max_decompressed_message_bytes_is_refused_where_it_is_compressed() {
    let sized = |bytes: usize, compression: Compression| {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression,
            level: compression.default_level(),
            ..BatchOptions::default()
        });
        builder.append(1_700_000_000_000, None, Some(b"small"), &[]);
        builder.append(1_700_000_000_005, None, Some(&vec![b'x'; bytes]), &[]);
        builder.build().unwrap()
    };
    let limit = ("max.decompressed.message.bytes", "1000");
    // Beside its value such a record has 7 bytes.
    let (fits, too_large) = (993, 994);
    for (target, source, is_refused) in [
        ("producer", Compression::Gzip, true),
        ("uncompressed", Compression::Gzip, true),
        ("zstd", Compression::None, true),
        ("producer", Compression::None, false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let configs = [limit, ("compression.type", target)];
        let node = start(directory.path(), image(0, &configs));
        let taken = node.produce(-1, sized(fits, source)).await;
        assert_eq!(error(&taken), ErrorCode::None, "{target} {source:?}");
        let answer = node.produce(-1, sized(too_large, source)).await;
        let wanted = if is_refused {
            ErrorCode::InvalidRecord
        } else {
            ErrorCode::None
        };
        assert_eq!(error(&answer), wanted, "{target} {source:?}");
        assert_eq!(answer.record_errors.len(), 0, "it is the whole batch's");
    }
    // What was taken before is not found by its time, as in Kafka.
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    node.produce(-1, sized(too_large, Compression::Gzip)).await;
    assert_eq!(node.list(1_700_000_000_005).await.0, ErrorCode::None);
    let later = batch_of(BatchOptions::default(), 1_700_000_000_010, &["x"]);
    node.produce(-1, later).await;
    node.broker.drivers.close(1).unwrap();
    let node = start(directory.path(), image(1, &[limit]));
    let first = (ErrorCode::None, 0, 1_700_000_000_000);
    assert_eq!(node.list(1).await, first, "the search ends before it");
    assert_eq!(
        node.list(1_700_000_000_005).await.0,
        ErrorCode::InvalidRecord
    );
    let behind = (ErrorCode::None, 2, 1_700_000_000_010);
    assert_eq!(
        node.list(1_700_000_000_010).await,
        behind,
        "its batch is older"
    );
    assert_eq!(node.list(-3).await, behind);
}

#[tokio::test]
async fn refusals_of_the_partition_itself_tell_its_log_start() {
    let directory = tempfile::tempdir().unwrap();
    let configs = [
        ("max.message.bytes", "300"),
        ("message.timestamp.before.max.ms", "1000"),
    ];
    let node = start(directory.path(), image(0, &configs));
    let now = node.broker.clock.now().wall.0;
    let sound = |values: &[&str]| batch_of(BatchOptions::default(), now, values);
    for value in ["a", "b", "c"] {
        node.produce(-1, sound(&[value])).await;
    }
    assert_eq!(node.delete_records(2).await, (ErrorCode::None, 2));
    let numbered = |epoch: i16, sequence: i32| {
        let options = BatchOptions {
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence: sequence,
            ..BatchOptions::default()
        };
        batch_of(options, now, &["d"])
    };
    assert_eq!(node.produce(-1, numbered(1, 0)).await.log_start_offset, 2);
    let mut torn = sound(&["x"]);
    *torn.last_mut().unwrap() ^= 1;
    let long = "x".repeat(400);
    for (records, code, log_start) in [
        (
            batch_of(BatchOptions::default(), 1000, &["x"]),
            ErrorCode::InvalidTimestamp,
            2,
        ),
        (numbered(1, 5), ErrorCode::OutOfOrderSequenceNumber, 2),
        (numbered(0, 1), ErrorCode::InvalidProducerEpoch, 2),
        (sound(&[&long]), ErrorCode::MessageTooLarge, -1),
        (torn, ErrorCode::CorruptMessage, -1),
        (Vec::new(), ErrorCode::InvalidRecord, -1),
    ] {
        let refused = node.produce(-1, records).await;
        let told = (
            error(&refused),
            refused.base_offset,
            refused.log_start_offset,
        );
        assert_eq!(told, (code, -1, log_start));
    }
    let late = request(7, 0, sound(&["x"]));
    let refused = settled(node.start_produce(vec![late]).pop().unwrap()).await;
    let told = (error(&refused), refused.log_start_offset);
    assert_eq!(told, (ErrorCode::InvalidRequiredAcks, -1));
}

/// What a request holds for these partitions, each in a topic entry of its own or all in one.
fn request_of(by_id: bool, topics: Vec<Vec<(i32, Vec<u8>)>>) -> ProduceRequestData {
    let topics = topics.into_iter().map(|partitions| {
        let partitions = partitions.into_iter().map(|(index, records)| {
            produce_request::PartitionProduceData::default()
                .with_index(index)
                .with_records(Some(Bytes::from(records)))
        });
        let topic = produce_request::TopicProduceData::default();
        let topic = if by_id {
            topic.with_topic_id(topic_id())
        } else {
            topic.with_name("t".to_owned().into())
        };
        topic.with_partition_data(partitions.collect())
    });
    ProduceRequestData::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(topics.collect())
}

/// As Apache Kafka 4.3.1 ends when it is asked the same.
#[tokio::test]
async fn a_partition_that_a_request_names_twice_has_one_answer_and_its_last_batch() {
    for (version, by_id) in [(9, false), (13, true)] {
        let directory = tempfile::tempdir().unwrap();
        let node = start(directory.path(), image(0, &[]));
        let context = node.context(ApiKey::Produce, version);
        let ask = async |topics| {
            let request = request_of(by_id, topics);
            let mut replies = answers(
                &node.broker,
                vec![produce::Request::new(context.clone(), request)],
            );
            let response = match replies.pop().unwrap() {
                ProduceReply::Ready(response) => response,
                ProduceReply::Later(response) => response.await,
                ProduceReply::None | ProduceReply::Close(_) => panic!("an answer was asked for"),
            };
            let topics = response.responses.iter().map(|topic| {
                let partitions = topic.partition_responses.iter();
                let told = partitions.map(|told| (told.index, error(told), told.base_offset));
                told.collect::<Vec<_>>()
            });
            topics.collect::<Vec<_>>()
        };
        let mut torn = batch(&["torn"]);
        *torn.last_mut().unwrap() ^= 1;
        let ok = ErrorCode::None;
        let (nothing, invalid) = (Vec::new(), ErrorCode::InvalidRecord);
        let twice = vec![vec![(0, batch(&["a1"])), (0, batch(&["a2"]))]];
        assert_eq!(ask(twice).await, [[(0, ok, 0)]]);
        let apart = vec![
            vec![(0, batch(&["b1"])), (1, batch(&["c1"]))],
            vec![(0, batch(&["b2"]))],
        ];
        assert_eq!(ask(apart).await, [[(0, ok, 1), (1, ok, 0)]]);
        let second_is_none = vec![vec![(0, batch(&["d1"])), (0, nothing.clone())]];
        assert_eq!(ask(second_is_none).await, [[(0, invalid, -1)]]);
        let first_is_none = vec![vec![(0, nothing), (0, batch(&["e2"]))]];
        assert_eq!(ask(first_is_none).await, [[(0, invalid, -1)]]);
        let second_is_torn = vec![vec![(0, batch(&["f1"])), (0, torn.clone())]];
        assert_eq!(
            ask(second_is_torn).await,
            [[(0, ErrorCode::CorruptMessage, -1)]]
        );
        let first_is_torn = vec![vec![(0, torn), (0, batch(&["g2"]))]];
        assert_eq!(ask(first_is_torn).await, [[(0, ok, 4)]]);
        let unknown = vec![vec![(7, batch(&["h1"])), (7, batch(&["h2"]))]];
        assert_eq!(
            ask(unknown).await,
            [[(7, ErrorCode::UnknownTopicOrPartition, -1)]]
        );
        let read = node.values(patient_fetch(1)).await;
        assert_eq!(read, [vec!["a2", "b2", "d1", "e2", "g2"], vec!["c1"]]);
    }
}

#[tokio::test]
async fn an_answer_that_came_too_late_says_where_the_records_are() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_unhurried(directory.path());
    node.append(1, 0, "x");
    node.broker.replicas.directories()[0].flusher.stop();
    loop {
        let mut request = request(-1, 0, batch(&["y"]));
        request.timeout_ms = 1;
        let end = node.partition(0).offsets().unwrap().log_end.0;
        let told = settled(node.start_produce(vec![request]).pop().unwrap()).await;
        assert_eq!((told.base_offset, told.log_start_offset), (end, 0));
        if error(&told) == ErrorCode::RequestTimedOut {
            break;
        }
    }
}
