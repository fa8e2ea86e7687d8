//! `Fetch` (key 1) of the metadata log, versions 4 to 18.
//!
//! - 12: the follower names its last epoch, and learns where its log diverges, or which snapshot to load (KIP-595, KIP-630).
//! - 13: the topic by its id. 15: the replica in a tagged field. 16: where the leader is reached (KIP-951).
//! - 17: the follower's directory (KIP-853). 18: its high watermark (KIP-1166).
//!
//! Kafka's leader answers as soon as the follower's high watermark is behind its own. Ottla's does so too, also without new
//! records.

use std::time::Duration;

use bytes::Bytes;
use ottla_controller::topic_names::CLUSTER_METADATA;
use ottla_log::files::disk::Disk;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::messages::fetch_request::FetchPartition;
use ottla_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
    SnapshotId,
};
use ottla_protocol::messages::{ErrorCode, FetchRequestData, FetchResponseData};
use ottla_quorum::{Fetched, FollowerEnd, LogView, QuorumStatus};

use crate::broker::Broker;
use crate::cluster::quorum_leader::{
    check_active, check_epoch, endpoint, is_this_cluster, leader_id, status,
};
use crate::context::RequestContext;

/// Upper bound of the batches in an answer.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Upper bound of the time that a follower waits.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// From this version on topics have ids instead of names.
const HAS_TOPIC_IDS: i16 = 13;

/// Sends a follower the committed batches after its own, or waits for them.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FetchRequestData,
) -> FetchResponseData {
    let refused = |code: ErrorCode| FetchResponseData::default().with_error_code(code.code());
    if !is_this_cluster(broker, request.cluster_id.as_ref()) {
        return refused(ErrorCode::InconsistentClusterId);
    }
    let Some(asked) = metadata_partition(&request, context.version) else {
        return refused(ErrorCode::InvalidRequest);
    };
    let Some(mut log) = broker.metadata_log.get().cloned() else {
        return refused(ErrorCode::NotLeaderOrFollower);
    };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = broker.clock.monotonic().after(wait.min(MAX_WAIT));
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
    loop {
        let Some(quorum) = status(broker) else {
            return refused(ErrorCode::NotLeaderOrFollower);
        };
        let view = log.borrow_and_update().clone();
        let partition = match check(&request, asked, &quorum) {
            Ok(end) => fetched(broker, (&view, end), max_bytes.min(MAX_BYTES)),
            Err(code) => PartitionData::default().with_error_code(code.code()),
        };
        let partition = partition
            .with_log_start_offset(view.log_start().0)
            .with_high_watermark(view.high_watermark().0);
        if broker.clock.monotonic() >= deadline || is_news(&partition, asked) {
            note_observer(broker, &request, (asked, &partition));
            return response(partition, &quorum, context);
        }
        tokio::select! {
            changed = log.changed() => if changed.is_err() {
                return refused(ErrorCode::NotLeaderOrFollower);
            },
            () = broker.clock.sleep_until(Some(deadline)) => {}
        }
    }
}

/// The only partition of the metadata topic, if the request asks for it and nothing else.
fn metadata_partition(request: &FetchRequestData, version: i16) -> Option<&FetchPartition> {
    let [topic] = request.topics.as_slice() else {
        return None;
    };
    let [partition] = topic.partitions.as_slice() else {
        return None;
    };
    let is_metadata = if version >= HAS_TOPIC_IDS {
        topic.topic_id == Uuid::METADATA_TOPIC_ID
    } else {
        topic.topic.as_str() == CLUSTER_METADATA
    };
    (is_metadata && partition.partition == 0).then_some(partition)
}

/// The end of the follower's log, if its request makes sense to this leader.
fn check(
    request: &FetchRequestData,
    asked: &FetchPartition,
    quorum: &QuorumStatus,
) -> Result<FollowerEnd, ErrorCode> {
    let is_valid = request.max_wait_ms >= 0
        && asked.fetch_offset >= 0
        && (0..=asked.current_leader_epoch).contains(&asked.last_fetched_epoch);
    if !is_valid {
        return Err(ErrorCode::InvalidRequest);
    }
    check_active(quorum)?;
    check_epoch(quorum, asked.current_leader_epoch)?;
    Ok(FollowerEnd {
        offset: Offset(asked.fetch_offset),
        last_epoch: LeaderEpoch(asked.last_fetched_epoch),
    })
}

/// What follows in the log after the end of a follower's.
fn fetched(
    broker: &Broker,
    (view, end): (&LogView<Disk>, FollowerEnd),
    max_bytes: usize,
) -> PartitionData {
    let partition = PartitionData::default();
    match view.fetch(end, max_bytes) {
        Ok(Fetched::Batches(batches)) => partition.with_records(Some(Bytes::from(batches))),
        Ok(Fetched::Diverging(end)) => partition.with_diverging_epoch(
            EpochEndOffset::default()
                .with_epoch(end.last_epoch.0)
                .with_end_offset(end.offset.0),
        ),
        Ok(Fetched::Snapshot(id)) => partition.with_snapshot_id(
            SnapshotId::default()
                .with_epoch(id.epoch.0)
                .with_end_offset(id.end_offset.0),
        ),
        Err(error) => {
            tracing::error!(node = broker.config.node_id.0, %error, "cannot read the metadata log for a follower");
            partition.with_error_code(ErrorCode::UnknownServerError.code())
        }
    }
}

/// Whether the follower should have this answer at once: anything but no records and a high watermark that it knows.
fn is_news(partition: &PartitionData, asked: &FetchPartition) -> bool {
    partition.error_code != ErrorCode::None.code()
        || partition
            .records
            .as_ref()
            .is_none_or(|records| !records.is_empty())
        || partition.high_watermark > asked.high_watermark
}

/// Remembers how far a follower has come, for DescribeQuorum.
fn note_observer(
    broker: &Broker,
    request: &FetchRequestData,
    (asked, answer): (&FetchPartition, &PartitionData),
) {
    let replica = NodeId(request.replica_state.replica_id.max(request.replica_id));
    if answer.error_code == ErrorCode::None.code() && replica.0 >= 0 {
        let end = Offset(asked.fetch_offset);
        let has_all = end.0 >= answer.high_watermark;
        let id = (replica, asked.replica_directory_id);
        broker
            .observers
            .fetched(id, end, has_all, broker.clock.now().wall);
    }
}

fn response(
    partition: PartitionData,
    quorum: &QuorumStatus,
    context: &RequestContext,
) -> FetchResponseData {
    let leader = LeaderIdAndEpoch::default()
        .with_leader_id(leader_id(quorum))
        .with_leader_epoch(quorum.epoch.0);
    let topic = FetchableTopicResponse::default()
        .with_topic(CLUSTER_METADATA.to_owned().into())
        .with_topic_id(Uuid::METADATA_TOPIC_ID)
        .with_partitions(vec![partition.with_current_leader(leader)]);
    let endpoint = endpoint(quorum, context).map(|endpoint| {
        NodeEndpoint::default()
            .with_node_id(leader_id(quorum))
            .with_host(endpoint.host.into())
            .with_port(endpoint.port.into())
    });
    FetchResponseData::default()
        .with_responses(vec![topic])
        .with_node_endpoints(endpoint.into_iter().collect())
}
