//! The requests of a follower, as Kafka's followers send them.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use ottla_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::{
    ErrorCode, FetchRequestData, ListOffsetsRequestData, ListOffsetsResponseData,
};
use ottla_replication::{FollowerFetch, Replica};

use super::session::SessionRequest;
use crate::cluster::replica_fetch::ReplicaFetch;
use crate::cluster::{flushed_offset, no_room};
use crate::config::ReplicationConfig;
use crate::replicas::partition::Partition;

/// The timestamp of ListOffsets that stands for the start of the log.
pub const EARLIEST: i64 = -2;
/// The timestamp of ListOffsets that stands for the end of the log.
pub const LATEST: i64 = -1;

/// A Fetch of a follower. The versions begin where it tells its broker epoch.
pub type FetchAsFollower = ReplicaFetch<15>;

/// A Fetch of `own`. The leader may hold it for `wait`.
pub fn fetch(
    config: &ReplicationConfig,
    own: Replica,
    session: &SessionRequest,
    wait: Duration,
) -> FetchAsFollower {
    let mut topics: BTreeMap<Uuid, Vec<FetchPartition>> = BTreeMap::new();
    for ((topic, index), fetch) in &session.named {
        topics
            .entry(*topic)
            .or_default()
            .push(partition(config, index.0, fetch));
    }
    let topics = topics.into_iter().map(|(id, partitions)| {
        FetchTopic::default()
            .with_topic_id(id)
            .with_partitions(partitions)
    });
    let forgotten = session.forgotten.iter().map(|(topic, index)| {
        ForgottenTopic::default()
            .with_topic_id(*topic)
            .with_partitions(vec![index.0])
    });
    let replica = ReplicaState::default()
        .with_replica_id(own.node.0)
        .with_replica_epoch(own.broker_epoch.unwrap_or(-1));
    ReplicaFetch(
        FetchRequestData::default()
            .with_replica_state(replica)
            .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(if wait.is_zero() {
                0
            } else {
                config.fetch_min_bytes
            })
            .with_max_bytes(config.fetch_bytes)
            .with_session_id(session.id)
            .with_session_epoch(session.epoch)
            .with_topics(topics.collect())
            .with_forgotten_topics_data(forgotten.collect()),
    )
}

fn partition(config: &ReplicationConfig, index: i32, fetch: &FollowerFetch) -> FetchPartition {
    let last_epoch = fetch.last_fetched_epoch.map_or(-1, |epoch| epoch.0);
    FetchPartition {
        unknown_tagged_fields: fetch
            .flushed
            .map(flushed_offset::field)
            .into_iter()
            .chain((!fetch.has_room).then(no_room::field))
            .collect(),
        ..FetchPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(fetch.leader_epoch.0)
            .with_fetch_offset(fetch.offset.0)
            .with_last_fetched_epoch(last_epoch)
            .with_log_start_offset(fetch.log_start.0)
            .with_partition_max_bytes(config.fetch_partition_bytes)
    }
}

/// A ListOffsets of a follower for one partition.
pub fn list_offsets(
    (own, partition): (Replica, &Partition),
    leader_epoch: LeaderEpoch,
    timestamp: i64,
) -> ListOffsetsRequestData {
    let asked = ListOffsetsPartition::default()
        .with_partition_index(partition.index.0)
        .with_current_leader_epoch(leader_epoch.0)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(partition.topic.to_string().into())
        .with_partitions(vec![asked]);
    ListOffsetsRequestData::default()
        .with_replica_id(own.node.0)
        .with_topics(vec![topic])
}

/// The offset in the answer to [`list_offsets`].
pub fn offset_of(response: &ListOffsetsResponseData) -> Result<Offset, ErrorCode> {
    let topic = response.topics.first();
    let answer = topic.and_then(|topic| topic.partitions.first());
    let answer = answer.ok_or(ErrorCode::UnknownServerError)?;
    match ErrorCode::from(answer.error_code) {
        ErrorCode::None if answer.offset >= 0 => Ok(Offset(answer.offset)),
        ErrorCode::None => Err(ErrorCode::UnknownServerError),
        code => Err(code),
    }
}
