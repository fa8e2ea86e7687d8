//! A broker without sockets whose only topic has two partitions, and the requests that the tests send to it.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::Broker;
use ottla_broker::access::principal::Principal;
use ottla_broker::config::BrokerConfig;
use ottla_broker::context::{Connection, ListenerRole, RequestContext};
use ottla_broker::drivers::controller::controller;
use ottla_broker::handlers::produce::{self, ProduceReply};
use ottla_broker::handlers::{
    delete_records, fetch, list_offsets, offset_for_leader_epoch, served,
};
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::Found;
use ottla_broker::replicas::partition::Partition;
use ottla_broker::reply::Part;
use ottla_controller::Settings;
use ottla_metadata::{Changes, ConfigResource, Loader, MetadataDelta, MetadataImage};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{RegisterBrokerRecord, RemoveTopicRecord};
use ottla_protocol::messages::produce_response::PartitionProduceResponse;
use ottla_protocol::messages::{
    ApiKey, DeleteRecordsRequestData, ErrorCode, FetchRequestData, FetchResponseData,
    ListOffsetsRequestData, ListOffsetsResponseData, OffsetForLeaderEpochRequestData,
    ProduceRequestData, delete_records_request, fetch_request, list_offsets_request,
    offset_for_leader_epoch_request, produce_request,
};
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};
use ottla_protocol::time::MonotonicTime;
use ottla_replica::housekeeping::Intervals;

use crate::images::add_topic;
use crate::nowhere::{Nowhere, no_sessions};

pub fn topic_id() -> Uuid {
    Uuid::from_parts(7, 7)
}

/// One topic, `t`, with two partitions that this node leads in `epoch`, and these configs.
pub fn image(epoch: i32, configs: &[(&str, &str)]) -> MetadataImage {
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

pub struct Node {
    pub broker: Arc<Broker>,
    pub image: MetadataImage,
    pub connection: Arc<Connection>,
}

pub fn start(directory: &Path, image: MetadataImage) -> Node {
    start_with(directory, image, |_| {})
}

pub fn start_with(
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
    let sessions = no_sessions();
    let (controller, ..) = controller(Loader::new(image.clone()), settings, Nowhere, sessions);
    let broker = Broker::new(
        config,
        Clock::start(),
        "cluster".to_owned().into(),
        controller,
        served,
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
        role: ListenerRole::Broker,
        local,
        peer: local,
        principal: Principal::anonymous(),
        software: OnceLock::new(),
        beats_of: OnceLock::new(),
    };
    Node {
        broker,
        image,
        connection: Arc::new(connection),
    }
}

impl Node {
    pub fn context(&self, api: ApiKey, version: i16) -> RequestContext {
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

    pub fn start_produce(&self, requests: Vec<ProduceRequestData>) -> Vec<ProduceReply> {
        let context = self.context(ApiKey::Produce, 9);
        let requests = requests.into_iter();
        answers(
            &self.broker,
            requests
                .map(|body| produce::Request::new(context.clone(), body))
                .collect(),
        )
    }

    pub async fn produce(&self, acks: i16, batch: Vec<u8>) -> PartitionProduceResponse {
        let reply = self
            .start_produce(vec![request(acks, 0, batch)])
            .pop()
            .unwrap();
        settled(reply).await
    }

    /// Deletes the first partition's records before `offset`; returns its low watermark.
    pub async fn delete_records(&self, offset: i64) -> (ErrorCode, i64) {
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

    pub fn delete_topic(&self) {
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

    pub fn create_topic(&self) {
        let partitions = (0..2).map(|index| (topic_id(), PartitionIndex(index)));
        let changes = Changes {
            partitions: partitions.collect(),
            ..Changes::default()
        };
        let errors = self.broker.drivers.apply(&image(0, &[]), &changes);
        assert_eq!(errors.len(), 0);
    }

    /// The response with its records in it.
    pub async fn fetch(&self, request: FetchRequestData, version: i16) -> FetchResponseData {
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

    pub async fn list_in(&self, version: i16, timestamp: i64) -> ListOffsetsResponseData {
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

    pub async fn list(&self, timestamp: i64) -> (ErrorCode, i64, i64) {
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
pub fn answers(broker: &Broker, requests: Vec<produce::Request>) -> Vec<ProduceReply> {
    produce::start(broker, requests.iter());
    requests.into_iter().map(produce::Request::reply).collect()
}

pub async fn settled(reply: ProduceReply) -> PartitionProduceResponse {
    let response = match reply {
        ProduceReply::Ready(response) => response,
        ProduceReply::Later(response) => response.await,
        ProduceReply::None | ProduceReply::Close(_) => panic!("an answer was asked for"),
    };
    response.responses[0].partition_responses[0].clone()
}

pub fn request(acks: i16, partition: i32, batch: Vec<u8>) -> ProduceRequestData {
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

pub fn batch(values: &[&str]) -> Vec<u8> {
    batch_of(BatchOptions::default(), 1_700_000_000_000, values)
}

pub fn batch_of(options: BatchOptions, timestamp: i64, values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder.append(timestamp, Some(b"k"), Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

pub fn fetch_from(offset: i64, partitions: &[i32], limits: (i32, i32)) -> FetchRequestData {
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

pub const PLENTY: (i32, i32) = (1 << 20, 1 << 20);

pub fn values(records: &Bytes) -> Vec<String> {
    let batches = split_batches(records);
    let mut values = Vec::new();
    for batch in batches {
        for record in batch.unwrap().plain_records().unwrap() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

pub fn error(answer: &PartitionProduceResponse) -> ErrorCode {
    ErrorCode::from(answer.error_code)
}

pub fn never_flushes(config: &mut BrokerConfig) {
    config.storage.flush_max_delay = Duration::from_hours(1000);
}

/// A node that flushes only what a reader or a producer waits for.
pub fn start_unhurried(directory: &Path) -> Node {
    start_with(directory, image(0, &[]), never_flushes)
}

impl Node {
    /// Appends a record that is answered before it is on stable storage.
    pub fn append(&self, acks: i16, partition: i32, value: &str) {
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
    pub async fn values(&self, request: FetchRequestData) -> Vec<Vec<String>> {
        let fetched = in_time(self.fetch(request, 11)).await;
        let partitions = fetched.responses[0].partitions.iter();
        partitions
            .map(|partition| values(partition.records.as_ref().unwrap()))
            .collect()
    }

    pub fn partition(&self, index: i32) -> Arc<Partition> {
        match self.broker.replicas.by_name("t", PartitionIndex(index)) {
            Found::Here(partition) => partition,
            found => panic!("{found:?}: the partition is here"),
        }
    }

    pub async fn end_of_epoch(&self) -> (ErrorCode, i64) {
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

/// A fetch from the start of both partitions that waits for `min_bytes`, practically without a time limit.
pub fn patient_fetch(min_bytes: usize) -> FetchRequestData {
    let mut request = fetch_from(0, &[0, 1], PLENTY);
    request.min_bytes = i32::try_from(min_bytes).unwrap();
    request.max_wait_ms = i32::MAX;
    request
}

/// Fails instead of hanging, where a future waits for a flush that was never requested.
pub async fn in_time<T>(done: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_mins(2), done).await;
    done.expect("a flush is waited for that nobody has asked for")
}
