//! A start on a directory of Kafka with live state that is not served is refused, and the error names that state. State at
//! rest is kept.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use bytes::Bytes;
use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::Found;
use ottla_broker::replicas::partition::{Append, RequiredAcks};
use ottla_broker::{Running, StartError};
use ottla_controller::create_topics::NewTopic;
use ottla_controller::request::CreateTopics;
use ottla_log::files::disk::Disk;
use ottla_log::{Batch, Origin};
use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::coordinator::group::{
    GroupRecord, StreamsGroupMemberMetadataKey, StreamsGroupMemberMetadataValue,
    StreamsGroupMetadataKey, StreamsGroupMetadataValue,
};
use ottla_protocol::messages::coordinator::transaction::{
    TransactionLogKey, TransactionLogValue, TransactionRecord,
};
use ottla_protocol::messages::metadata::FeatureLevelRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};
use ottla_quorum::{Location, MetadataLog, Settings, Voter};

const OFFSETS: &str = "__consumer_offsets";
const TRANSACTIONS: &str = "__transaction_state";

async fn start(root: &Path) -> Result<Running, StartError> {
    let config = BrokerConfig::embedded(root.join("data"), 0);
    ottla_broker::start(config, Clock::start()).await
}

/// A broker with the topics of Kafka's coordinators, `t`, and streams groups enabled.
async fn prepared(root: &Path) -> Running {
    start(root).await.unwrap().shut_down().await;
    enable_streams_groups(&root.join("data"));
    let running = start(root).await.unwrap();
    for (number, name) in [(1, OFFSETS), (2, TRANSACTIONS), (3, "t")] {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: 1,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
            id: Uuid::from_parts(7, number),
        };
        let create = CreateTopics {
            topics: vec![topic],
            validate_only: false,
        };
        let reply = running.broker.controller.ask(create).await.unwrap();
        assert!(reply[0].1.is_ok(), "{reply:?}");
    }
    running
}

/// Writes into a closed metadata log what a controller of Ottla does not offer.
fn enable_streams_groups(directory: &Path) {
    let text = std::fs::read_to_string(directory.join("meta.properties")).unwrap();
    let mut ids = text
        .lines()
        .filter_map(|line| line.strip_prefix("directory.id="));
    let voter = Voter {
        node_id: NodeId(1),
        directory_id: Uuid::from_base64(ids.next().unwrap()).unwrap(),
        endpoints: Vec::new(),
    };
    let location = Location {
        directory: &directory.join("__cluster_metadata-0"),
        cluster_id: "cluster",
    };
    let now = Clock::start().now().wall;
    let opened = MetadataLog::open(Disk, location, voter, Settings::default(), now);
    let feature = FeatureLevelRecord {
        name: "streams.version".to_owned(),
        feature_level: 1,
        ..FeatureLevelRecord::default()
    };
    let mut log = opened.unwrap().log;
    let records = [feature.into()];
    log.propose(&records, MetadataVersion::LATEST, now).unwrap();
}

fn append(running: &Running, topic: &str, batch: &[u8]) {
    let replicas = &running.broker.replicas;
    let Found::Here(partition) = replicas.by_name(topic, PartitionIndex(0)) else {
        panic!("{topic} is not here");
    };
    let batches: Vec<Batch<'_>> = split_batches(batch)
        .map(|batch| Batch::from(batch.unwrap()))
        .collect();
    let append = Append {
        batches: &batches,
        acks: RequiredAcks::All,
    };
    let outcomes = partition.append(&[append], Origin::Coordinator, Clock::start().now());
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
}

fn batch(options: BatchOptions, (key, value): (Bytes, Option<Bytes>)) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    let now = Clock::start().now().wall;
    builder.append(now.0, Some(&key), value.as_deref(), &[]);
    builder.build().unwrap()
}

fn group(record: &GroupRecord) -> Vec<u8> {
    batch(BatchOptions::default(), record.encode(0).unwrap())
}

fn transaction(transaction_status: i8) -> Vec<u8> {
    let key = TransactionLogKey {
        transactional_id: "payments".to_owned(),
        ..TransactionLogKey::default()
    };
    let value = TransactionLogValue {
        producer_id: 5,
        transaction_status,
        ..TransactionLogValue::default()
    };
    let record = TransactionRecord::TransactionLog(key, Some(value));
    batch(BatchOptions::default(), record.encode(1).unwrap())
}

/// Records of a transaction that has no end in this partition.
fn unended(producer_id: i64) -> Vec<u8> {
    let options = BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        ..BatchOptions::default()
    };
    batch(options, (Bytes::from_static(b"k"), None))
}

fn member(value: Option<StreamsGroupMemberMetadataValue>) -> GroupRecord {
    let key = StreamsGroupMemberMetadataKey {
        group_id: "counts".to_owned(),
        member_id: "m".to_owned(),
        ..StreamsGroupMemberMetadataKey::default()
    };
    GroupRecord::StreamsGroupMemberMetadata(key, value)
}

#[tokio::test]
async fn members_and_open_transactions_refuse_the_start_and_are_named() {
    let root = tempfile::tempdir().unwrap();
    let running = prepared(root.path()).await;
    append(
        &running,
        OFFSETS,
        &group(&member(Some(StreamsGroupMemberMetadataValue::default()))),
    );
    append(&running, TRANSACTIONS, &transaction(2));
    append(&running, "t", &unended(5));
    append(&running, "t", &unended(6));
    running.shut_down().await;
    for _ in 0..2 {
        let refused = start(root.path()).await.unwrap_err();
        assert!(matches!(refused, StartError::Unserved(_)), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("members: streams group counts;"), "{said}");
        assert!(
            said.contains("transactional id payments (PrepareCommit);"),
            "{said}"
        );
        // Producer 5 is that of payments, which has been named.
        assert!(
            said.contains("id: t-0 (producer id 6 from offset 1 on);"),
            "{said}"
        );
        assert!(root.path().join("data/.kafka_cleanshutdown").exists());
    }
}

#[tokio::test]
async fn empty_groups_and_ended_transactions_do_not_refuse_the_start() {
    let root = tempfile::tempdir().unwrap();
    let running = prepared(root.path()).await;
    let key = StreamsGroupMetadataKey {
        group_id: "counts".to_owned(),
        ..StreamsGroupMetadataKey::default()
    };
    let of_group =
        GroupRecord::StreamsGroupMetadata(key, Some(StreamsGroupMetadataValue::default()));
    append(&running, OFFSETS, &group(&of_group));
    append(
        &running,
        OFFSETS,
        &group(&member(Some(StreamsGroupMemberMetadataValue::default()))),
    );
    append(&running, OFFSETS, &group(&member(None)));
    append(&running, TRANSACTIONS, &transaction(1));
    append(&running, TRANSACTIONS, &transaction(5));
    running.shut_down().await;
    start(root.path()).await.unwrap().shut_down().await;
}
