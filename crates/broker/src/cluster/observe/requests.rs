//! The requests of an observer, as Kafka's observers send them.

use std::time::Duration;

use ottla_controller::topic_names::CLUSTER_METADATA;
use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use ottla_protocol::messages::fetch_snapshot_request::{
    PartitionSnapshot, SnapshotId as WireId, TopicSnapshot,
};
use ottla_protocol::messages::{FetchRequestData, FetchSnapshotRequestData};
use ottla_quorum::{FollowerEnd, SnapshotId};

use super::Identity;
use crate::cluster::replica_fetch::ReplicaFetch;

/// Upper bound of the bytes in an answer, as Kafka's.
const MAX_BYTES: i32 = 8 * 1024 * 1024;

/// A Fetch of the metadata log. The versions begin where the follower names its directory.
pub type FetchMetadata = ReplicaFetch<17>;

/// A Fetch from `end` on by an observer that knows this epoch of the leader and this high watermark.
pub fn fetch(
    identity: &Identity,
    end: FollowerEnd,
    (epoch, high_watermark): (LeaderEpoch, Offset),
    wait: Duration,
) -> FetchMetadata {
    let partition = FetchPartition::default()
        .with_current_leader_epoch(epoch.0)
        .with_fetch_offset(end.offset.0)
        .with_last_fetched_epoch(end.last_epoch.0)
        .with_partition_max_bytes(MAX_BYTES)
        .with_replica_directory_id(identity.directory)
        .with_high_watermark(high_watermark.0);
    let topic = FetchTopic::default()
        .with_topic_id(Uuid::METADATA_TOPIC_ID)
        .with_partitions(vec![partition]);
    let replica = ReplicaState::default().with_replica_id(identity.node.0);
    let request = FetchRequestData::default()
        .with_cluster_id(Some(identity.cluster_id.clone().into()))
        .with_replica_state(replica)
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
        .with_max_bytes(MAX_BYTES)
        .with_topics(vec![topic]);
    ReplicaFetch(request)
}

/// A FetchSnapshot from `position` on.
pub fn fetch_snapshot(
    identity: &Identity,
    id: SnapshotId,
    position: u64,
    epoch: LeaderEpoch,
) -> FetchSnapshotRequestData {
    let wire = WireId::default()
        .with_end_offset(id.end_offset.0)
        .with_epoch(id.epoch.0);
    let partition = PartitionSnapshot::default()
        .with_current_leader_epoch(epoch.0)
        .with_snapshot_id(wire)
        .with_position(i64::try_from(position).unwrap_or(i64::MAX))
        .with_replica_directory_id(identity.directory);
    let topic = TopicSnapshot::default()
        .with_name(CLUSTER_METADATA.to_owned().into())
        .with_partitions(vec![partition]);
    FetchSnapshotRequestData::default()
        .with_cluster_id(Some(identity.cluster_id.clone().into()))
        .with_replica_id(identity.node.0)
        .with_max_bytes(MAX_BYTES)
        .with_topics(vec![topic])
}
