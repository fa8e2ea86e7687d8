//! Requests that name one thing twice, answered as Apache Kafka 4.3.1 answers them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use ottla_broker::Running;
use ottla_broker::config::BrokerConfig;
use ottla_broker::handlers::{
    alter_replica_log_dirs, create_partitions, create_topics, delete_records, list_offsets,
    metadata,
};
use ottla_broker::process::clock::Clock;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::{
    AlterReplicaLogDirsRequestData, ApiKey, CreatePartitionsRequestData, CreateTopicsRequestData,
    DeleteRecordsRequestData, ErrorCode, KafkaString, ListOffsetsRequestData, MetadataRequestData,
    MetadataResponseData, alter_replica_log_dirs_request, create_partitions_request,
    create_topics_request, delete_records_request, list_offsets_request, metadata_request,
};

use support::context;

fn text(text: &'static str) -> KafkaString {
    KafkaString::from_static(text)
}

async fn start(directory: &Path) -> Running {
    let config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    ottla_broker::start(config, Clock::start()).await.unwrap()
}

/// Creates topics of two partitions each; the answered names with their errors.
async fn create(running: &Running, names: &[&'static str]) -> Vec<(String, i16)> {
    let topics = names.iter().map(|name| {
        create_topics_request::CreatableTopic::default()
            .with_name(text(name))
            .with_num_partitions(2)
            .with_replication_factor(1)
    });
    let request = CreateTopicsRequestData::default().with_topics(topics.collect());
    let context = context(ApiKey::CreateTopics);
    let created = create_topics::handle(&running.broker, &context, request).await;
    let results = created.topics.into_iter();
    results
        .map(|topic| (topic.name.as_str().to_owned(), topic.error_code))
        .collect()
}

async fn ask(
    running: &Running,
    topics: impl Iterator<Item = (Option<&'static str>, Uuid)>,
) -> MetadataResponseData {
    let topics = topics.map(|(name, id)| {
        metadata_request::MetadataRequestTopic::default()
            .with_name(name.map(text))
            .with_topic_id(id)
    });
    let request = MetadataRequestData::default()
        .with_topics(Some(topics.collect()))
        .with_allow_auto_topic_creation(true);
    metadata::handle(&running.broker, &context(ApiKey::Metadata), request).await
}

#[tokio::test]
async fn metadata_makes_and_answers_a_topic_once() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let named = |name| (Some(name), Uuid::ZERO);
    // Twice over: the first request makes it, the second finds it.
    let mut id = Uuid::ZERO;
    for _ in 0..2 {
        let answer = ask(&running, ["new", "new"].into_iter().map(named)).await;
        assert_eq!(answer.topics.len(), 1);
        assert_eq!(answer.topics[0].error_code, 0);
        assert_eq!(answer.topics[0].partitions.len(), 1);
        id = answer.topics[0].topic_id;
    }
    let answer = ask(&running, [(None, id), (None, id)].into_iter()).await;
    assert_eq!(answer.topics.len(), 1);
    assert_eq!(answer.topics[0].error_code, 0);
    // Once an id is given, names do not count.
    let answer = ask(&running, [named("other"), (None, id)].into_iter()).await;
    assert_eq!(answer.topics.len(), 1);
    assert_eq!(answer.topics[0].topic_id, id);
    running.shut_down().await;
}

#[tokio::test]
async fn topics_to_create_or_to_grow_are_refused_once() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let invalid = ErrorCode::InvalidRequest.code();
    let created = create(&running, &["twice", "t", "twice"]).await;
    let expected = [("twice".to_owned(), invalid), ("t".to_owned(), 0)];
    assert_eq!(created, expected);
    assert!(running.broker.controller.image().topic("twice").is_none());

    let grow = |count| {
        create_partitions_request::CreatePartitionsTopic::default()
            .with_name(text("t"))
            .with_count(count)
            .with_assignments(None)
    };
    let request = CreatePartitionsRequestData::default().with_topics(vec![grow(3), grow(4)]);
    let context_of = context(ApiKey::CreatePartitions);
    let grown = create_partitions::handle(&running.broker, &context_of, request).await;
    assert_eq!(grown.results.len(), 1);
    assert_eq!(grown.results[0].error_code, invalid);
    let image = running.broker.controller.image();
    assert_eq!(image.topic("t").unwrap().partitions.len(), 2);
    running.shut_down().await;
}

#[tokio::test]
async fn list_offsets_refuses_a_partition_once_and_answers_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    create(&running, &["t"]).await;
    let partition = |index, timestamp| {
        list_offsets_request::ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(timestamp)
    };
    let topic = list_offsets_request::ListOffsetsTopic::default()
        .with_name(text("t"))
        .with_partitions(vec![partition(0, -1), partition(0, -2), partition(1, -1)]);
    let request = ListOffsetsRequestData::default()
        .with_replica_id(-1)
        .with_topics(vec![topic]);
    let context = context(ApiKey::ListOffsets);
    let listed = list_offsets::handle(&running.broker, &context, request).await;
    let partitions = listed.topics[0].partitions.iter();
    let answers: Vec<_> = partitions
        .map(|partition| (partition.partition_index, partition.error_code))
        .collect();
    assert_eq!(answers, [(0, ErrorCode::InvalidRequest.code()), (1, 0)]);
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_namesakes_counts_where_kafka_keeps_one() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    create(&running, &["t"]).await;
    let delete = |offset| {
        let partition =
            delete_records_request::DeleteRecordsPartition::default().with_offset(offset);
        delete_records_request::DeleteRecordsTopic::default()
            .with_name(text("t"))
            .with_partitions(vec![partition])
    };
    // Offset 9 does not exist.
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    for (offsets, code) in [([9, 0], 0), ([0, 9], out_of_range)] {
        let request = DeleteRecordsRequestData::default()
            .with_topics(offsets.into_iter().map(delete).collect());
        let context = context(ApiKey::DeleteRecords);
        let deleted = delete_records::handle(&running.broker, &context, request).await;
        assert_eq!(deleted.topics.len(), 1);
        assert_eq!(deleted.topics[0].partitions.len(), 1);
        assert_eq!(deleted.topics[0].partitions[0].error_code, code);
    }

    let here = running.broker.replicas.directories()[0].log.path();
    let here = here.to_str().unwrap().to_owned();
    let move_to = |path: &str| {
        let topic = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
            .with_name(text("t"))
            .with_partitions(vec![0, 0]);
        alter_replica_log_dirs_request::AlterReplicaLogDir::default()
            .with_path(path.to_owned().into())
            .with_topics(vec![topic])
    };
    let missing = ErrorCode::LogDirNotFound.code();
    for (paths, code) in [(["/nowhere", &here], 0), ([&here, "/nowhere"], missing)] {
        let request = AlterReplicaLogDirsRequestData::default()
            .with_dirs(paths.into_iter().map(move_to).collect());
        let context = context(ApiKey::AlterReplicaLogDirs);
        let moved = alter_replica_log_dirs::handle(&running.broker, &context, request);
        assert_eq!(moved.results.len(), 1);
        assert_eq!(moved.results[0].partitions.len(), 1);
        assert_eq!(moved.results[0].partitions[0].error_code, code);
    }
    running.shut_down().await;
}
