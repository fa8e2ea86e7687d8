//! Throttled replicas are copied at a bounded rate, and those in sync do not wait for it.

use std::sync::Arc;
use std::time::Duration;

use ottla_broker::Broker;
use ottla_broker::handlers::{
    alter_partition_reassignments, create_topics, incremental_alter_configs,
};
use ottla_broker::replicas::Found;
use ottla_broker::replicas::partition::{Partition, RequiredAcks};
use ottla_protocol::ids::{NodeId, Offset, PartitionIndex};
use ottla_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequestData, ApiKey, CreateTopicsRequestData,
    IncrementalAlterConfigsRequestData, KafkaString,
};

use crate::pair::{FIRST, Pair, SECOND, Times, append, eventually, found, produce};
use crate::support;

/// More than one answer to a follower has: `replica.fetch.max.bytes` is 1 MiB.
const RECORDS: i64 = 5;
const RECORD_BYTES: usize = 600 << 10;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Sets a config of a resource.
async fn set(broker: &Broker, (kind, name): (i8, String), (key, value): (String, &str)) {
    let config = AlterableConfig::default()
        .with_name(KafkaString::from(key))
        .with_value(Some(KafkaString::from(value.to_owned())));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(KafkaString::from(name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
    let context = support::context(ApiKey::IncrementalAlterConfigs);
    let answer = incremental_alter_configs::handle(broker, &context, request).await;
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
}

async fn limit(broker: &Broker, side: &str, node: NodeId, rate: &str) {
    let key = format!("{side}.replication.throttled.rate");
    set(broker, (BROKER, node.to_string()), (key, rate)).await;
}

/// A topic that only the first broker has, with records.
async fn topic(pair: &Pair) -> Arc<Partition> {
    let broker = &pair.first.broker;
    let assignment = CreatableReplicaAssignment::default()
        .with_partition_index(0)
        .with_broker_ids(vec![FIRST.0]);
    let topic = CreatableTopic::default()
        .with_name(KafkaString::from_static("t"))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    let request = CreateTopicsRequestData::default().with_topics(vec![topic]);
    let context = support::context(ApiKey::CreateTopics);
    create_topics::handle(broker, &context, request).await;
    let leader = found(&broker.replicas, "t");
    for _ in 0..RECORDS {
        append(
            broker,
            &leader,
            &"x".repeat(RECORD_BYTES),
            RequiredAcks::All,
        );
    }
    leader
}

async fn move_to_both(broker: &Broker) {
    let partition = ReassignablePartition::default()
        .with_partition_index(0)
        .with_replicas(Some(vec![FIRST.0, SECOND.0]));
    let topic = ReassignableTopic::default()
        .with_name(KafkaString::from_static("t"))
        .with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequestData::default().with_topics(vec![topic]);
    let context = support::context(ApiKey::AlterPartitionReassignments);
    let answer = alter_partition_reassignments::handle(broker, &context, request).await;
    assert_eq!(answer.error_code, 0, "{answer:?}");
}

/// `side` is throttled, on the broker `node`.
async fn is_throttled(side: &str, node: NodeId) {
    let pair = Pair::start(Times {
        wait: Duration::from_millis(20),
        ..Times::default()
    })
    .await;
    let broker = &pair.first.broker;
    let leader = topic(&pair).await;
    let replicas = format!("{side}.replication.throttled.replicas");
    set(broker, (TOPIC, "t".to_owned()), (replicas, "*")).await;
    limit(broker, side, node, "1").await;
    // Below the high watermark a follower is not in sync.
    let has = move || leader.offsets().unwrap().high_watermark == Offset(RECORDS);
    eventually("all records are committed", has).await;
    move_to_both(broker).await;
    eventually("the follower begins", || {
        let replicas = &pair.second.broker.replicas;
        let follower = replicas.by_name("t", PartitionIndex(0));
        matches!(follower, Found::Here(follower) if follower.offsets().unwrap().log_end > Offset(0))
    })
    .await;
    let follower = found(&pair.second.broker.replicas, "t");
    // At a byte a second the rest comes in no time that a test has.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(follower.offsets().unwrap().log_end < Offset(RECORDS));
    limit(broker, side, node, "1000000000").await;
    pair.isr("t", &[FIRST, SECOND]).await;
    // In sync it does not wait for the rate.
    limit(broker, side, node, "1").await;
    let leader = found(&broker.replicas, "t");
    for _ in 0..RECORDS {
        produce(broker, &leader, &"x".repeat(RECORD_BYTES)).await;
    }
    pair.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_keeps_to_the_rate_for_followers_out_of_sync() {
    is_throttled("leader", FIRST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_out_of_sync_keeps_to_the_rate() {
    is_throttled("follower", SECOND).await;
}
