//! `DescribeTopicPartitions` (key 75), version 0 (KIP-966).
//!
//! Topics are ordered by name. An answer has a bounded number of partitions, and its cursor tells where the next answer
//! begins.

use std::collections::BTreeSet;

use ottla_metadata::{MetadataImage, Partition, Topic};
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_protocol::messages::{
    DescribeTopicPartitionsRequestData, DescribeTopicPartitionsResponseData, ErrorCode,
};

use super::metadata::{numbers, offline};
use crate::access::operations;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::internal_topics::is_internal;

/// Describes topics from the cursor on.
pub fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeTopicPartitionsRequestData,
) -> DescribeTopicPartitionsResponseData {
    let image = broker.controller.image();
    let cursor = request.cursor.as_ref();
    let first_name = cursor.map_or("", |cursor| cursor.topic_name.as_str());
    let first_index = cursor.map_or(0, |cursor| cursor.partition_index);
    let asked: BTreeSet<&str> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .collect();
    let all = asked.is_empty();
    if first_index < 0 || (!all && cursor.is_some() && !asked.contains(first_name)) {
        return refused(&asked, ErrorCode::InvalidRequest);
    }
    let names: Vec<&str> = if all {
        image.topic_ids.keys().map(String::as_str).collect()
    } else {
        asked.into_iter().collect()
    };
    let wanted = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let limit = broker.config.records.described_partitions;
    let mut left = wanted.min(limit).max(1);
    let mut described = Vec::new();
    let mut next_cursor = None;
    for name in names.into_iter().filter(|name| *name >= first_name) {
        let from = if name == first_name { first_index } else { 0 };
        if left == 0 {
            next_cursor = Some(cursor_at(name, from));
            break;
        }
        let Some(topic) = image.topic(name) else {
            described.extend((!all).then(|| unknown(name)));
            continue;
        };
        let (answer, next) = describe(&image, topic, PartitionIndex(from), left);
        left -= answer.partitions.len();
        described.push(answer);
        if let Some(index) = next {
            next_cursor = Some(cursor_at(name, index.0));
            break;
        }
    }
    DescribeTopicPartitionsResponseData::default()
        .with_topics(described)
        .with_next_cursor(next_cursor.map(Box::new))
}

fn cursor_at(topic: &str, index: i32) -> Cursor {
    Cursor::default()
        .with_topic_name(topic.to_owned().into())
        .with_partition_index(index)
}

fn refused(asked: &BTreeSet<&str>, code: ErrorCode) -> DescribeTopicPartitionsResponseData {
    let each = asked
        .iter()
        .map(|name| unknown(name).with_error_code(code.code()));
    DescribeTopicPartitionsResponseData::default().with_topics(each.collect())
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match ottla_controller::topic_names::check(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(name.to_owned().into()))
        .with_is_internal(is_internal(name))
        .with_topic_authorized_operations(operations::ON_TOPIC)
}

/// At most `limit` partitions of a topic from `from` on, and the first partition that did not fit.
fn describe(
    image: &MetadataImage,
    topic: &Topic,
    from: PartitionIndex,
    limit: usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<PartitionIndex>) {
    let mut rest = topic.partitions.range(from..);
    let shown: Vec<_> = rest
        .by_ref()
        .take(limit)
        .map(|(index, partition)| described_partition(image, *index, partition))
        .collect();
    let next = rest.next().map(|(index, _)| *index);
    let answer = DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic.name.clone().into()))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(shown)
        .with_topic_authorized_operations(operations::ON_TOPIC);
    (answer, next)
}

fn described_partition(
    image: &MetadataImage,
    index: PartitionIndex,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let code = match partition.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    let eligible = |nodes: &[NodeId]| Some(numbers(nodes));
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(code.code())
        .with_partition_index(index.0)
        .with_leader_id(partition.leader.map_or(-1, |leader| leader.0))
        .with_leader_epoch(partition.leader_epoch.0)
        .with_replica_nodes(numbers(&partition.replicas))
        .with_isr_nodes(numbers(&partition.isr))
        .with_eligible_leader_replicas(eligible(&partition.eligible_leaders))
        .with_last_known_elr(eligible(&partition.last_known_eligible_leaders))
        .with_offline_replicas(offline(image, partition))
}
