//! `DescribeQuorum` (key 55), versions 0 to 2.
//!
//! - 1: when each replica last fetched and caught up. 2: error messages, directory ids, and the endpoints of voters.

use ottla_controller::topic_names::CLUSTER_METADATA;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::describe_quorum_request;
use ottla_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use ottla_protocol::messages::{DescribeQuorumRequestData, DescribeQuorumResponseData, ErrorCode};
use ottla_protocol::time::Timestamp;
use ottla_quorum::{QuorumStatus, Replica, Voter};

use crate::broker::Broker;
use crate::cluster::quorum_leader;
use crate::context::RequestContext;

/// The first version with directory ids and the endpoints of voters.
const NAMES_DIRECTORIES: i16 = 2;

/// Describes the leader of the metadata quorum and the log end offset of each voter.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeQuorumRequestData,
) -> DescribeQuorumResponseData {
    let described = describe(broker, request);
    if context.version < NAMES_DIRECTORIES {
        return without_directories(described);
    }
    described
}

/// What older versions can carry.
fn without_directories(mut described: DescribeQuorumResponseData) -> DescribeQuorumResponseData {
    described.nodes.clear();
    let topics = described.topics.iter_mut();
    for partition in topics.flat_map(|topic| &mut topic.partitions) {
        let voters = partition.current_voters.iter_mut();
        for replica in voters.chain(&mut partition.observers) {
            replica.replica_directory_id = Uuid::default();
        }
    }
    described
}

fn describe(broker: &Broker, request: DescribeQuorumRequestData) -> DescribeQuorumResponseData {
    let Some(status) = quorum_leader::status(broker) else {
        return DescribeQuorumResponseData::default()
            .with_error_code(ErrorCode::NotLeaderOrFollower.code());
    };
    if !is_metadata_partition(&request) {
        return refused(request, ErrorCode::UnknownTopicOrPartition);
    }
    if let Err(code) = quorum_leader::check_active(&status) {
        return refused(request, code);
    }
    let now = broker.clock.now().wall.0;
    let following = broker.following.get();
    let following = following.map(|following| following.borrow().clone());
    let following = following.unwrap_or_default();
    let voters: Vec<ReplicaState> = if following.voters.is_empty() {
        let voters = status.voters.iter();
        voters.map(|voter| state(voter, &status, now)).collect()
    } else {
        following.voters.iter().map(replica).collect()
    };
    let controllers = following.observers.iter().map(replica);
    let observers = broker.observers.all(Timestamp(now));
    let observers = observers.into_iter().filter(|((node, directory), _)| {
        let mut known = following.observers.iter();
        !known
            .any(|one| (one.controller.node_id, one.controller.directory_id) == (*node, *directory))
    });
    let observers = observers.map(|(id, progress)| {
        let (node, directory) = id;
        ReplicaState::default()
            .with_replica_id(node.0)
            .with_replica_directory_id(directory)
            .with_log_end_offset(progress.end.0)
            .with_last_fetch_timestamp(progress.fetched_at.0)
            .with_last_caught_up_timestamp(progress.caught_up_at.map_or(-1, |at| at.0))
    });
    let partition = PartitionData::default()
        .with_observers(controllers.chain(observers).collect())
        .with_leader_id(quorum_leader::leader_id(&status))
        .with_leader_epoch(status.epoch.0)
        .with_high_watermark(status.high_watermark.0)
        .with_current_voters(voters);
    let topic = TopicData::default()
        .with_topic_name(CLUSTER_METADATA.to_owned().into())
        .with_partitions(vec![partition]);
    DescribeQuorumResponseData::default()
        .with_topics(vec![topic])
        .with_nodes(status.voters.iter().map(node).collect())
}

/// Whether the request asks for the partition of the metadata log, the only one.
fn is_metadata_partition(request: &DescribeQuorumRequestData) -> bool {
    let [topic] = request.topics.as_slice() else {
        return false;
    };
    let [partition] = topic.partitions.as_slice() else {
        return false;
    };
    topic.topic_name.as_str() == CLUSTER_METADATA && partition.partition_index == 0
}

/// The answer that has `code` for every partition of the request.
fn refused(request: DescribeQuorumRequestData, code: ErrorCode) -> DescribeQuorumResponseData {
    let code = code.code();
    let of = |topic: describe_quorum_request::TopicData| {
        let partitions = topic.partitions.iter().map(|partition| {
            PartitionData::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        TopicData::default()
            .with_partitions(partitions.collect())
            .with_topic_name(topic.topic_name)
    };
    DescribeQuorumResponseData::default().with_topics(request.topics.into_iter().map(of).collect())
}

/// The state of a controller that follows this one.
fn replica(replica: &Replica) -> ReplicaState {
    ReplicaState::default()
        .with_replica_id(replica.controller.node_id.0)
        .with_replica_directory_id(replica.controller.directory_id)
        .with_log_end_offset(replica.end.0)
        .with_last_fetch_timestamp(replica.answered_at.map_or(-1, |at| at.0))
        .with_last_caught_up_timestamp(replica.caught_up_at.map_or(-1, |at| at.0))
}

/// The state of the only voter. It is the leader, so it has caught up `now`.
fn state(voter: &Voter, status: &QuorumStatus, now: i64) -> ReplicaState {
    ReplicaState::default()
        .with_replica_id(voter.node_id.0)
        .with_replica_directory_id(voter.directory_id)
        .with_log_end_offset(status.high_watermark.0)
        .with_last_fetch_timestamp(now)
        .with_last_caught_up_timestamp(now)
}

fn node(voter: &Voter) -> Node {
    let listeners = voter.endpoints.iter().map(|endpoint| {
        Listener::default()
            .with_name(endpoint.listener.clone().into())
            .with_host(endpoint.host.clone().into())
            .with_port(endpoint.port)
    });
    Node::default()
        .with_node_id(voter.node_id.0)
        .with_listeners(listeners.collect())
}
