//! Produce, Fetch and their kin over real partitions in a temporary directory, without sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod images;
mod nowhere;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::Broker;
use ottla_broker::config::BrokerConfig;
use ottla_broker::context::{Connection, RequestContext};
use ottla_broker::drivers::controller::controller;
use ottla_broker::handlers::produce::{self, ProduceReply};
use ottla_broker::handlers::{
    SERVED, delete_records, fetch, list_offsets, offset_for_leader_epoch,
};
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::Found;
use ottla_broker::replicas::partition::{Append, Partition, RequiredAcks, replicated};
use ottla_broker::reply::Part;
use ottla_controller::Settings;
use ottla_log::files::{FileError, Operation};
use ottla_log::{Batch, Origin};
use ottla_metadata::{Changes, ConfigResource, MetadataDelta, MetadataImage};
use ottla_protocol::ids::{Offset, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{RegisterBrokerRecord, RemoveTopicRecord};
use ottla_protocol::messages::produce_response::PartitionProduceResponse;
use ottla_protocol::messages::{
    ApiKey, DeleteRecordsRequestData, EndTxnMarkerData, ErrorCode, FetchRequestData,
    FetchResponseData, ListOffsetsRequestData, ListOffsetsResponseData,
    OffsetForLeaderEpochRequestData, ProduceRequestData, delete_records_request, fetch_request,
    list_offsets_request, offset_for_leader_epoch_request, produce_request,
};
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView, Compression, split_batches};
use ottla_protocol::time::MonotonicTime;
use ottla_replica::housekeeping::Intervals;

use images::add_topic;
use nowhere::Nowhere;

fn topic_id() -> Uuid {
    Uuid::from_parts(7, 7)
}

/// One topic, `t`, with two partitions that this node leads in `epoch`, and these configs.
fn image(epoch: i32, configs: &[(&str, &str)]) -> MetadataImage {
    let mut delta = MetadataDelta::new(MetadataImage::default());
    let broker = RegisterBrokerRecord {
        broker_id: 1,
        ..RegisterBrokerRecord::default()
    };
    delta.replay(&broker.into());
    add_topic(&mut delta, ("t", topic_id()), 2, epoch);
    let mut image = delta.finish().0;
    let own = image.configs.entry(ConfigResource::topic("t")).or_default();
    for (name, value) in configs {
        own.insert((*name).to_owned(), (*value).to_owned());
    }
    image
}

struct Node {
    broker: Arc<Broker>,
    image: MetadataImage,
    connection: Arc<Connection>,
}

fn start(directory: &Path, image: MetadataImage) -> Node {
    start_with(directory, image, |_| {})
}

fn start_with(
    directory: &Path,
    image: MetadataImage,
    adjust: impl FnOnce(&mut BrokerConfig),
) -> Node {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    config.storage.flush_max_delay = Duration::from_millis(5);
    adjust(&mut config);
    let settings = Settings {
        statics: config.statics.clone(),
        ..Settings::default()
    };
    let (controller, ..) = controller(image.clone(), settings, Nowhere);
    let broker = Broker::new(
        config,
        Clock::start(),
        "cluster".to_owned().into(),
        controller,
        SERVED,
    );
    let intervals = Intervals {
        producers: broker.config.records.producer_id_expiration_check_interval,
        ..Intervals::default()
    };
    broker.drivers.load(&image, intervals).unwrap();
    let local = "127.0.0.1:9092".parse().unwrap();
    let connection = Connection {
        id: 1,
        listener: Arc::from("PLAINTEXT"),
        local,
        peer: local,
        software: OnceLock::new(),
    };
    Node {
        broker,
        image,
        connection: Arc::new(connection),
    }
}

impl Node {
    fn context(&self, api: ApiKey, version: i16) -> RequestContext {
        RequestContext {
            size: 0,
            connection: Arc::clone(&self.connection),
            api,
            version,
            correlation_id: 1,
            client_id: None,
            received: MonotonicTime::default(),
        }
    }

    fn start_produce(&self, requests: Vec<ProduceRequestData>) -> Vec<ProduceReply> {
        let context = self.context(ApiKey::Produce, 9);
        let requests = requests.into_iter();
        answers(
            &self.broker,
            requests
                .map(|body| produce::Request::new(context.clone(), body))
                .collect(),
        )
    }

    async fn produce(&self, acks: i16, batch: Vec<u8>) -> PartitionProduceResponse {
        let reply = self
            .start_produce(vec![request(acks, 0, batch)])
            .pop()
            .unwrap();
        settled(reply).await
    }

    /// Deletes the first partition's records before `offset`; returns its low watermark.
    async fn delete_records(&self, offset: i64) -> (ErrorCode, i64) {
        let partition =
            delete_records_request::DeleteRecordsPartition::default().with_offset(offset);
        let topic = delete_records_request::DeleteRecordsTopic::default()
            .with_name("t".to_owned().into())
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequestData::default().with_topics(vec![topic]);
        let context = self.context(ApiKey::DeleteRecords, 2);
        let response = delete_records::handle(&self.broker, &context, request).await;
        let answer = &response.topics[0].partitions[0];
        (ErrorCode::from(answer.error_code), answer.low_watermark)
    }

    fn delete_topic(&self) {
        let mut delta = MetadataDelta::new(self.image.clone());
        delta.replay(
            &RemoveTopicRecord {
                topic_id: topic_id(),
                ..RemoveTopicRecord::default()
            }
            .into(),
        );
        let (gone, changes) = delta.finish();
        assert_eq!(self.broker.drivers.apply(&gone, &changes).len(), 0);
    }

    fn create_topic(&self) {
        let partitions = (0..2).map(|index| (topic_id(), PartitionIndex(index)));
        let changes = Changes {
            partitions: partitions.collect(),
            ..Changes::default()
        };
        let errors = self.broker.drivers.apply(&image(0, &[]), &changes);
        assert_eq!(errors.len(), 0);
    }

    /// The response with its records in it.
    async fn fetch(&self, request: FetchRequestData, version: i16) -> FetchResponseData {
        let context = self.context(ApiKey::Fetch, version);
        let (mut response, records) = fetch::handle(&self.broker, &context, request).await;
        let topics = response.responses.iter_mut();
        let partitions = topics.flat_map(|topic| &mut topic.partitions);
        for (partition, records) in partitions.zip(records) {
            partition.records = Some(match records {
                Part::Bytes(bytes) => bytes,
                Part::Stored(stored) => panic!("{stored:?} is too small to be sent from its file"),
            });
        }
        response
    }

    async fn list_in(&self, version: i16, timestamp: i64) -> ListOffsetsResponseData {
        let partition =
            list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name("t".to_owned().into())
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequestData::default()
            .with_replica_id(-1)
            .with_topics(vec![topic]);
        list_offsets::handle(
            &self.broker,
            &self.context(ApiKey::ListOffsets, version),
            request,
        )
        .await
    }

    async fn list(&self, timestamp: i64) -> (ErrorCode, i64, i64) {
        let response = self.list_in(9, timestamp).await;
        let answer = &response.topics[0].partitions[0];
        (
            ErrorCode::from(answer.error_code),
            answer.offset,
            answer.timestamp,
        )
    }
}

/// Starts the requests together.
fn answers(broker: &Broker, requests: Vec<produce::Request>) -> Vec<ProduceReply> {
    produce::start(broker, requests.iter());
    requests.into_iter().map(produce::Request::reply).collect()
}

async fn settled(reply: ProduceReply) -> PartitionProduceResponse {
    let response = match reply {
        ProduceReply::Ready(response) => response,
        ProduceReply::Later(response) => response.await,
        ProduceReply::None | ProduceReply::Close(_) => panic!("an answer was asked for"),
    };
    response.responses[0].partition_responses[0].clone()
}

fn request(acks: i16, partition: i32, batch: Vec<u8>) -> ProduceRequestData {
    let data = produce_request::PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(Bytes::from(batch)));
    let topic = produce_request::TopicProduceData::default()
        .with_name("t".to_owned().into())
        .with_partition_data(vec![data]);
    ProduceRequestData::default()
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic])
}

fn batch(values: &[&str]) -> Vec<u8> {
    batch_of(BatchOptions::default(), 1_700_000_000_000, values)
}

fn batch_of(options: BatchOptions, timestamp: i64, values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder.append(timestamp, Some(b"k"), Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

fn fetch_from(offset: i64, partitions: &[i32], limits: (i32, i32)) -> FetchRequestData {
    let partitions = partitions.iter().map(|index| {
        fetch_request::FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(offset)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(limits.1)
    });
    let topic = fetch_request::FetchTopic::default()
        .with_topic("t".to_owned().into())
        .with_partitions(partitions.collect());
    FetchRequestData::default()
        .with_replica_id(-1)
        .with_min_bytes(1)
        .with_max_bytes(limits.0)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

const PLENTY: (i32, i32) = (1 << 20, 1 << 20);

fn values(records: &Bytes) -> Vec<String> {
    let batches = split_batches(records);
    let mut values = Vec::new();
    for batch in batches {
        for record in batch.unwrap().plain_records().unwrap() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

fn error(answer: &PartitionProduceResponse) -> ErrorCode {
    ErrorCode::from(answer.error_code)
}

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
fn whoever_would_wait_for_a_failed_disk_is_told_at_once() {
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
async fn answers_that_nobody_takes_hold_no_more_memory_than_they_may() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with(directory.path(), image(0, &[]), |config| {
        config.records.fetch_buffered_max_bytes = 100;
    });
    let value = "x".repeat(60);
    node.produce(-1, batch(&[&value])).await;
    let context = node.context(ApiKey::Fetch, 11);
    let fetch = || fetch::handle(&node.broker, &context, fetch_from(0, &[0], PLENTY));
    let in_memory = |parts: &[Part]| matches!(parts, [Part::Bytes(bytes)] if !bytes.is_empty());
    let (_, first) = fetch().await;
    assert!(in_memory(&first));
    // The first is not sent yet: it stands for any number of consumers that do not read.
    let (_, second) = fetch().await;
    assert!(matches!(second.as_slice(), [Part::Stored(_)]));
    assert_eq!(second[0].len(), first[0].len());
    drop(first);
    let (_, third) = fetch().await;
    assert!(in_memory(&third));
}

#[tokio::test]
async fn answers_that_nobody_takes_hold_no_more_files_than_they_may() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let value = "x".repeat(100_000);
    for partition in 0..2 {
        let replies = node.start_produce(vec![request(-1, partition, batch(&[&value]))]);
        for reply in replies {
            settled(reply).await;
        }
    }
    let context = node.context(ApiKey::Fetch, 11);
    let fetch = || fetch::handle(&node.broker, &context, fetch_from(0, &[0, 1], PLENTY));
    let are_stored = |parts: &[Part]| parts.iter().all(|part| matches!(part, Part::Stored(_)));
    let (_, parts) = fetch().await;
    assert!(parts.len() == 2 && are_stored(&parts));
    drop(parts);
    // Slow consumers hold half of the files: what is large is read into memory.
    let most = node.broker.descriptors.held_files;
    let mut slow: Vec<_> = (0..most / 2)
        .map(|_| node.broker.held_files.hold())
        .collect();
    let (_, parts) = fetch().await;
    assert!(
        parts
            .iter()
            .all(|part| matches!(part, Part::Bytes(bytes) if bytes.len() > 100_000))
    );
    // Answers hold all of them: the first partition is still answered, so that whoever asks gets on.
    slow.extend((slow.len()..most).map(|_| node.broker.held_files.hold()));
    let (_, parts) = fetch().await;
    assert!(parts[0].len() > 100_000 && parts[1].is_empty());
    drop(slow);
    let (_, parts) = fetch().await;
    assert!(are_stored(&parts));
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

#[tokio::test]
async fn a_fetch_waits_for_records_and_reads_only_what_is_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let mut request = fetch_from(0, &[0, 1], PLENTY);
    request.max_wait_ms = 30_000;
    let (fetched, produced) = tokio::join!(node.fetch(request, 11), async {
        tokio::task::yield_now().await;
        node.start_produce(vec![self::request(0, 1, batch(&["woken"]))])
            .pop()
            .unwrap()
    });
    assert!(matches!(produced, ProduceReply::None));
    let partitions = &fetched.responses[0].partitions;
    assert_eq!(partitions[0].records.as_ref().unwrap().len(), 0);
    assert_eq!(values(partitions[1].records.as_ref().unwrap()), ["woken"]);
    assert_eq!(partitions[1].high_watermark, 1);
    let nothing = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    assert_eq!(
        nothing.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn limits_give_one_whole_batch_of_the_first_partition_that_has_any() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    for value in ["one", "two", "three"] {
        node.produce(-1, batch(&[value])).await;
    }
    node.start_produce(vec![request(-1, 1, batch(&["other"]))]);
    let fetched = node.fetch(fetch_from(0, &[0, 1], (1, 1)), 11).await;
    let partitions = &fetched.responses[0].partitions;
    assert_eq!(values(partitions[0].records.as_ref().unwrap()), ["one"]);
    assert!(partitions[1].records.as_ref().unwrap().is_empty());
    let two = i32::try_from(batch(&["one"]).len() * 2 + 10).unwrap();
    let fetched = node.fetch(fetch_from(0, &[0], (1 << 20, two)), 11).await;
    assert_eq!(
        values(fetched.responses[0].partitions[0].records.as_ref().unwrap()),
        ["one", "two"]
    );
}

#[tokio::test]
async fn offsets_and_epochs_outside_of_the_log_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(5, &[]));
    node.produce(-1, batch(&["a"])).await;
    let code = |response: &FetchResponseData| {
        ErrorCode::from(response.responses[0].partitions[0].error_code)
    };
    let beyond = node.fetch(fetch_from(2, &[0], PLENTY), 11).await;
    assert_eq!(code(&beyond), ErrorCode::OffsetOutOfRange);
    for (epoch, expected) in [
        (4, ErrorCode::FencedLeaderEpoch),
        (6, ErrorCode::UnknownLeaderEpoch),
        (5, ErrorCode::None),
    ] {
        let mut request = fetch_from(0, &[0], PLENTY);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(code(&node.fetch(request, 11).await), expected);
    }
    let mut by_id = fetch_from(0, &[0], PLENTY);
    by_id.topics[0].topic_id = Uuid::from_parts(1, 1);
    assert_eq!(
        code(&node.fetch(by_id, 13).await),
        ErrorCode::UnknownTopicId
    );
    let mut diverged = fetch_from(1, &[0], PLENTY);
    diverged.topics[0].partitions[0].last_fetched_epoch = 4;
    let diverged = node.fetch(diverged, 12).await;
    let diverging = &diverged.responses[0].partitions[0].diverging_epoch;
    assert_eq!(code(&diverged), ErrorCode::None);
    assert_eq!(
        (diverging.epoch, diverging.end_offset),
        (4, 0),
        "epoch 4 wrote nothing here"
    );

    let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
        .with_current_leader_epoch(5)
        .with_leader_epoch(5);
    let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
        .with_topic("t".to_owned().into())
        .with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequestData::default().with_topics(vec![topic]);
    let context = node.context(ApiKey::OffsetForLeaderEpoch, 4);
    let response = offset_for_leader_epoch::handle(&node.broker, &context, request).await;
    let answer = &response.topics[0].partitions[0];
    assert_eq!(
        (answer.error_code, answer.leader_epoch, answer.end_offset),
        (0, 5, 1)
    );
}

#[tokio::test]
async fn readers_of_committed_records_stop_at_open_transactions_and_learn_of_aborted_ones() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let committed = async || {
        let mut request = fetch_from(0, &[0], PLENTY);
        request.isolation_level = 1;
        let mut fetched = node.fetch(request, 11).await;
        fetched.responses.remove(0).partitions.remove(0)
    };
    node.produce(-1, batch(&["plain"])).await;
    let first = committed().await;
    assert_eq!(
        first.aborted_transactions,
        Some(vec![]),
        "an empty list, not null"
    );

    let Found::Here(partition) = node.broker.replicas.by_name("t", PartitionIndex(0)) else {
        panic!("the partition is here");
    };
    let append = async |bytes: Vec<u8>, origin| {
        let batch = [Batch::from(BatchView::first(&bytes).unwrap())];
        let now = node.broker.clock.now();
        let append = Append {
            batches: &batch,
            acks: RequiredAcks::All,
        };
        let appended = partition.append(&[append], origin, now).pop().unwrap();
        let end = appended.unwrap().last_offset.plus(1);
        if let Some(replicated) = replicated(&partition, end) {
            replicated.await.unwrap().unwrap();
        }
    };
    let transaction = BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        ..BatchOptions::default()
    };
    append(
        batch_of(transaction, 1_700_000_000_000, &["undecided"]),
        Origin::Client,
    )
    .await;
    let open = committed().await;
    assert_eq!((open.high_watermark, open.last_stable_offset), (2, 1));
    assert_eq!(values(open.records.as_ref().unwrap()), ["plain"]);

    let marker = BatchOptions {
        base_sequence: -1,
        ..transaction
    };
    let abort = ControlRecord::Abort(EndTxnMarkerData::default());
    append(
        BatchBuilder::control(marker, 1_700_000_000_000, &abort),
        Origin::Coordinator,
    )
    .await;
    let aborted = committed().await;
    assert_eq!(aborted.last_stable_offset, 3);
    let known: Vec<_> = aborted.aborted_transactions.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].producer_id, known[0].first_offset), (7, 1));
    let uncommitted = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    assert_eq!(
        uncommitted.responses[0].partitions[0].aborted_transactions,
        None
    );
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    for (timestamp, values) in [
        (1000, &["a", "b"]),
        (3000, &["c", "d"]),
        (2000, &["e", "f"]),
    ] {
        node.produce(-1, batch_of(BatchOptions::default(), timestamp, values))
            .await;
    }
    assert_eq!(node.list(-2).await, (ErrorCode::None, 0, -1));
    assert_eq!(node.list(-1).await, (ErrorCode::None, 6, -1));
    assert_eq!(node.list(-3).await, (ErrorCode::None, 2, 3000));
    assert_eq!(node.list(1001).await, (ErrorCode::None, 2, 3000));
    assert_eq!(node.list(3001).await, (ErrorCode::None, -1, -1));
    assert_eq!(node.list(-5).await, (ErrorCode::None, -1, -1));
    assert_eq!(node.list(-6).await.0, ErrorCode::UnsupportedVersion);
}

#[tokio::test]
async fn answers_can_be_encoded_in_every_version() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(5, &[]));
    node.produce(-1, batch(&["a"])).await;
    let mut out = bytes::BytesMut::new();
    for version in 1..=11 {
        let response = node.list_in(version, -1).await;
        response.write(&mut out, version).unwrap();
    }
    for version in 4..=18 {
        let mut request = fetch_from(0, &[0, 1, 7], PLENTY);
        request.topics[0].topic_id = topic_id();
        request.isolation_level = 1;
        let response = node.fetch(request, version).await;
        assert_eq!(
            response.responses[0].partitions[0].error_code, 0,
            "version {version}"
        );
        response.write(&mut out, version).unwrap();
    }
    for version in 3..=13 {
        let context = node.context(ApiKey::Produce, version);
        let mut body = request(1, 0, batch(&["a"]));
        body.topic_data[0].topic_id = topic_id();
        body.topic_data
            .extend(request(1, 0, vec![1, 2, 3]).topic_data);
        let reply = answers(&node.broker, vec![produce::Request::new(context, body)])
            .pop()
            .unwrap();
        let ProduceReply::Ready(response) = reply else {
            panic!("acks=1 is answered at once")
        };
        assert_eq!(
            response.responses[0].partition_responses[0].error_code, 0,
            "version {version}"
        );
        response.write(&mut out, version).unwrap();
    }
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
async fn a_session_tells_only_what_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    node.produce(-1, batch(&["a"])).await;
    let mut full = fetch_from(0, &[0, 1], PLENTY);
    full.session_epoch = 0;
    let opened = node.fetch(full, 11).await;
    assert_ne!(opened.session_id, 0);
    assert_eq!(opened.responses[0].partitions.len(), 2);
    let mut next = fetch_from(1, &[0], PLENTY);
    next.session_id = opened.session_id;
    next.session_epoch = 1;
    let incremental = node.fetch(next, 11).await;
    assert_eq!(
        (incremental.session_id, incremental.responses.len()),
        (opened.session_id, 0)
    );
    let unknown = FetchRequestData::default()
        .with_session_id(opened.session_id ^ 1)
        .with_session_epoch(1);
    let unknown = node.fetch(unknown, 11).await;
    assert_eq!(unknown.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

/// A batch of producer 77 with one record.
fn numbered(base_sequence: i32) -> Vec<u8> {
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

/// A node that flushes nothing but what somebody asks for.
fn start_unhurried(directory: &Path) -> Node {
    start_with(directory, image(0, &[]), never_flushes)
}

fn never_flushes(config: &mut BrokerConfig) {
    config.storage.flush_max_delay = Duration::from_hours(1000);
}

/// Fails, instead of hanging, where something waits for the flush that nobody asked for.
async fn in_time<T>(done: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_mins(2), done).await;
    done.expect("a flush is waited for that nobody has asked for")
}

impl Node {
    /// Appends a record that is answered before it is on stable storage.
    fn append(&self, acks: i16, partition: i32, value: &str) {
        let request = request(acks, partition, batch(&[value]));
        match self.start_produce(vec![request]).pop().unwrap() {
            ProduceReply::Ready(response) if acks == 1 => {
                let answer = &response.responses[0].partition_responses[0];
                assert_eq!(error(answer), ErrorCode::None);
            }
            ProduceReply::None if acks == 0 => {}
            _ => panic!("nobody waits for records with acks={acks}"),
        }
    }

    /// The values that a fetch finds, by partition.
    async fn values(&self, request: FetchRequestData) -> Vec<Vec<String>> {
        let fetched = in_time(self.fetch(request, 11)).await;
        let partitions = fetched.responses[0].partitions.iter();
        partitions
            .map(|partition| values(partition.records.as_ref().unwrap()))
            .collect()
    }

    fn partition(&self, index: i32) -> Arc<Partition> {
        match self.broker.replicas.by_name("t", PartitionIndex(index)) {
            Found::Here(partition) => partition,
            found => panic!("{found:?}: the partition is here"),
        }
    }

    async fn end_of_epoch(&self) -> (ErrorCode, i64) {
        let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
            .with_current_leader_epoch(-1)
            .with_leader_epoch(0);
        let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic("t".to_owned().into())
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequestData::default().with_topics(vec![topic]);
        let context = self.context(ApiKey::OffsetForLeaderEpoch, 4);
        let response = offset_for_leader_epoch::handle(&self.broker, &context, request).await;
        let answer = &response.topics[0].partitions[0];
        (ErrorCode::from(answer.error_code), answer.end_offset)
    }
}

/// A fetch from the start of both partitions that waits for so many bytes, as good as for ever.
fn patient_fetch(min_bytes: usize) -> FetchRequestData {
    let mut request = fetch_from(0, &[0, 1], PLENTY);
    request.min_bytes = i32::try_from(min_bytes).unwrap();
    request.max_wait_ms = i32::MAX;
    request
}

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
async fn whoever_asks_for_the_end_is_told_of_all_that_is_answered() {
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
async fn a_failed_disk_is_told_to_whoever_asks_for_the_end() {
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
