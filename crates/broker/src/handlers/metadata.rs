//! `Metadata` (key 3), versions 0 to 13.
//!
//! - 0: an empty list means all topics. 1: null means all, empty means none; rack, controller, internal topics.
//! - 4: whether topics may be created. 5: offline replicas. 7: leader epochs. 8: authorized operations.
//! - 10: topic ids. 11: no authorized operations of the cluster. 12: topics by id. 13: an error for the whole answer.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use ottla_metadata::{MetadataImage, Partition, Topic};
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::{
    ErrorCode, KafkaString, KafkaUuid, MetadataRequestData, MetadataResponseData,
};

use crate::access::operations;
use crate::broker::Broker;
use crate::cluster::auto_create;
use crate::cluster::endpoints;
use crate::context::RequestContext;
use crate::internal_topics::is_internal;

/// Lists brokers and topics. Creates topics that the client asks for and that do not exist, where that is allowed.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: MetadataRequestData,
) -> MetadataResponseData {
    let all = match &request.topics {
        None => true,
        Some(list) => list.is_empty() && context.version == 0,
    };
    let asked = request.topics.unwrap_or_default();
    if cannot_ask_by_id(context.version) && asked.iter().any(is_by_id) {
        return refused(asked);
    }
    let lost = &broker.lost_leaders;
    lost.until_replaced(&broker.controller, broker.clock, |image| {
        if all {
            return image.topics.values().cloned().collect();
        }
        asked
            .iter()
            .filter_map(|topic| found(image, topic))
            .collect()
    })
    .await;
    let mut answers = Vec::new();
    if all {
        let image = broker.controller.image();
        answers.extend(image.topics.values().map(|topic| described(&image, topic)));
    } else if asked.iter().any(|topic| topic.topic_id != KafkaUuid::ZERO) {
        // As in Kafka, if one topic is named by id, those named by name are ignored.
        let ids = asked.iter().map(|topic| topic.topic_id);
        let ids = once(ids.filter(|id| *id != KafkaUuid::ZERO));
        let image = broker.controller.image();
        answers.extend(ids.into_iter().map(|id| by_id(&image, id)));
    } else {
        let names = once(asked.into_iter().filter_map(|topic| topic.name));
        answers = by_name(broker, names, request.allow_auto_topic_creation).await;
    }
    let asked_operations = context.version >= 8 && request.include_topic_authorized_operations;
    for answer in &mut answers {
        answer.topic_authorized_operations = if asked_operations {
            operations::ON_TOPIC
        } else {
            operations::NOT_ASKED
        };
    }
    let cluster =
        (8..=10).contains(&context.version) && request.include_cluster_authorized_operations;
    MetadataResponseData::default()
        .with_brokers(brokers(broker, context))
        .with_cluster_id(Some(broker.cluster_id.clone()))
        .with_controller_id(broker.config.node_id.0)
        .with_topics(answers)
        .with_cluster_authorized_operations(if cluster {
            operations::ON_CLUSTER
        } else {
            operations::NOT_ASKED
        })
}

/// Versions 10 and 11 have a field for the id, but Kafka does not find topics by it before version 12.
fn cannot_ask_by_id(version: i16) -> bool {
    matches!(version, 10 | 11)
}

fn is_by_id(topic: &MetadataRequestTopic) -> bool {
    topic.name.is_none() || topic.topic_id != KafkaUuid::ZERO
}

fn found(image: &MetadataImage, asked: &MetadataRequestTopic) -> Option<Arc<Topic>> {
    let topic = match &asked.name {
        Some(name) => image.topic(name.as_str()),
        None => image.topics.get(&asked.topic_id),
    };
    topic.cloned()
}

/// Each key once, so that a topic that is named twice is answered and created once.
fn once<Key: Eq + Hash + Clone>(asked: impl Iterator<Item = Key>) -> Vec<Key> {
    let mut seen = HashSet::new();
    asked.filter(|key| seen.insert(key.clone())).collect()
}

fn refused(asked: Vec<MetadataRequestTopic>) -> MetadataResponseData {
    let topics = asked.into_iter().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_name(Some(topic.name.unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    });
    MetadataResponseData::default().with_topics(topics.collect())
}

fn brokers(broker: &Broker, context: &RequestContext) -> Vec<MetadataResponseBroker> {
    endpoints::nodes(broker, &broker.controller.image(), context)
        .into_iter()
        .filter(|node| !node.fenced)
        .map(|node| {
            MetadataResponseBroker::default()
                .with_node_id(node.id.0)
                .with_host(node.host)
                .with_port(node.port)
                .with_rack(node.rack)
        })
        .collect()
}

fn by_id(image: &MetadataImage, id: KafkaUuid) -> MetadataResponseTopic {
    match image.topics.get(&id) {
        Some(topic) => described(image, topic),
        None => MetadataResponseTopic::default()
            .with_error_code(ErrorCode::UnknownTopicId.code())
            .with_name(None)
            .with_topic_id(id),
    }
}

async fn by_name(
    broker: &Broker,
    names: Vec<KafkaString>,
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let mut image = broker.controller.image();
    let mut refused = Vec::new();
    if may_create && broker.config.topics.auto_create {
        let missing = auto_create::missing(&image, names.iter().map(KafkaString::as_str));
        if !missing.is_empty() {
            // Without a controller the topics stay unknown, and the client asks again.
            refused = auto_create::create_missing(broker, missing)
                .await
                .unwrap_or_default();
            image = broker.controller.image();
        }
    }
    let one = |name: KafkaString| match image.topic(name.as_str()) {
        Some(topic) => described(&image, topic),
        None => unknown(name, &refused),
    };
    names.into_iter().map(one).collect()
}

fn unknown(name: KafkaString, refused: &[(String, ErrorCode)]) -> MetadataResponseTopic {
    let reason = refused.iter().find(|(other, _)| other == name.as_str());
    let invalid = ottla_controller::topic_names::check(name.as_str()).is_err();
    let code = match reason {
        Some((_, code)) => *code,
        None if invalid => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    MetadataResponseTopic::default()
        .with_error_code(code.code())
        .with_is_internal(is_internal(name.as_str()))
        .with_name(Some(name))
}

fn described(image: &MetadataImage, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|(index, partition)| described_partition(image, *index, partition));
    MetadataResponseTopic::default()
        .with_name(Some(topic.name.clone().into()))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.collect())
}

fn described_partition(
    image: &MetadataImage,
    index: PartitionIndex,
    partition: &Partition,
) -> MetadataResponsePartition {
    let code = match partition.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    MetadataResponsePartition::default()
        .with_error_code(code.code())
        .with_partition_index(index.0)
        .with_leader_id(partition.leader.map_or(-1, |leader| leader.0))
        .with_leader_epoch(partition.leader_epoch.0)
        .with_replica_nodes(numbers(&partition.replicas))
        .with_isr_nodes(numbers(&partition.isr))
        .with_offline_replicas(offline(image, partition))
}

/// Node ids as the wire encodes them.
pub fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

/// The replicas of a partition whose broker is fenced, or whose log directory is offline.
pub fn offline(image: &MetadataImage, partition: &Partition) -> Vec<i32> {
    let away = |node: &&NodeId| {
        let broker = image.brokers.get(*node);
        broker.is_none_or(|broker| broker.fenced || !broker.is_online(partition))
    };
    partition
        .replicas
        .iter()
        .filter(away)
        .map(|node| node.0)
        .collect()
}
