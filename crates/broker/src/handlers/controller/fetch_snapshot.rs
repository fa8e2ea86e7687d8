//! `FetchSnapshot` (key 59), versions 0 and 1.
//!
//! - 1: the follower's directory, and where the leader is reached (KIP-853).

use bytes::Bytes;
use ottla_controller::topic_names::CLUSTER_METADATA;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::messages::fetch_snapshot_request::PartitionSnapshot as Asked;
use ottla_protocol::messages::fetch_snapshot_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionSnapshot, SnapshotId as WireId, TopicSnapshot,
};
use ottla_protocol::messages::{ErrorCode, FetchSnapshotRequestData, FetchSnapshotResponseData};
use ottla_quorum::{QuorumStatus, SnapshotId, SnapshotPiece, SnapshotUnreadable};

use crate::broker::Broker;
use crate::cluster::quorum_leader::{
    check_active, check_epoch, endpoint, is_this_cluster, leader_id, status,
};
use crate::context::RequestContext;

/// Upper bound of a piece.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Sends a follower a piece of a snapshot of the metadata.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FetchSnapshotRequestData,
) -> FetchSnapshotResponseData {
    let refused =
        |code: ErrorCode| FetchSnapshotResponseData::default().with_error_code(code.code());
    if !is_this_cluster(broker, request.cluster_id.as_ref()) {
        return refused(ErrorCode::InconsistentClusterId);
    }
    let [topic] = request.topics.as_slice() else {
        return refused(ErrorCode::InvalidRequest);
    };
    let [asked] = topic.partitions.as_slice() else {
        return refused(ErrorCode::InvalidRequest);
    };
    let Some(quorum) = status(broker) else {
        return refused(ErrorCode::NotLeaderOrFollower);
    };
    let is_metadata = topic.name.as_str() == CLUSTER_METADATA && asked.partition == 0;
    let piece = if is_metadata {
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
        piece(broker, &quorum, asked, max_bytes.min(MAX_BYTES))
    } else {
        Err(ErrorCode::UnknownTopicOrPartition)
    };
    let partition = match piece {
        Ok(piece) => PartitionSnapshot::default()
            .with_snapshot_id(
                WireId::default()
                    .with_end_offset(asked.snapshot_id.end_offset)
                    .with_epoch(asked.snapshot_id.epoch),
            )
            .with_size(i64::try_from(piece.size).unwrap_or(i64::MAX))
            .with_position(asked.position)
            .with_unaligned_records(Bytes::from(piece.bytes)),
        Err(code) => PartitionSnapshot::default().with_error_code(code.code()),
    };
    let leader = LeaderIdAndEpoch::default()
        .with_leader_id(leader_id(&quorum))
        .with_leader_epoch(quorum.epoch.0);
    let partition = partition
        .with_index(asked.partition)
        .with_current_leader(leader);
    let topic = TopicSnapshot::default()
        .with_name(topic.name.clone())
        .with_partitions(vec![partition]);
    FetchSnapshotResponseData::default()
        .with_topics(vec![topic])
        .with_node_endpoints(node(&quorum, context).into_iter().collect())
}

fn piece(
    broker: &Broker,
    quorum: &QuorumStatus,
    asked: &Asked,
    max_bytes: usize,
) -> Result<SnapshotPiece, ErrorCode> {
    check_active(quorum)?;
    check_epoch(quorum, asked.current_leader_epoch)?;
    let log = broker.metadata_log.get();
    let view = log.ok_or(ErrorCode::NotLeaderOrFollower)?.borrow().clone();
    let id = SnapshotId {
        end_offset: Offset(asked.snapshot_id.end_offset),
        epoch: LeaderEpoch(asked.snapshot_id.epoch),
    };
    let position = u64::try_from(asked.position).map_err(|_| ErrorCode::PositionOutOfRange)?;
    view.snapshot_piece(id, position, max_bytes)
        .map_err(|error| match error {
            SnapshotUnreadable::NotFound => ErrorCode::SnapshotNotFound,
            SnapshotUnreadable::OutOfRange => ErrorCode::PositionOutOfRange,
            SnapshotUnreadable::File(error) => {
                tracing::error!(%error, "cannot read a snapshot of the metadata for a follower");
                ErrorCode::UnknownServerError
            }
        })
}

fn node(quorum: &QuorumStatus, context: &RequestContext) -> Option<NodeEndpoint> {
    let endpoint = endpoint(quorum, context)?;
    let node = NodeEndpoint::default()
        .with_node_id(leader_id(quorum))
        .with_host(endpoint.host.into())
        .with_port(endpoint.port);
    Some(node)
}
