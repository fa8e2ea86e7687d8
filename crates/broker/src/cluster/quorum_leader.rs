//! What the answers to followers of the metadata log have in common: who leads, and whether the follower knows it.

use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::messages::{ErrorCode, KafkaString};
use ottla_quorum::{QuorumStatus, VoterEndpoint};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Whether the request names this cluster, or none.
pub fn is_this_cluster(broker: &Broker, cluster: Option<&KafkaString>) -> bool {
    cluster.is_none_or(|cluster| *cluster == broker.cluster_id)
}

/// The quorum as this controller knows it.
pub fn status(broker: &Broker) -> Option<QuorumStatus> {
    let status = broker.quorum.get()?;
    Some(status.borrow().clone())
}

/// The id of the leader in answers: -1 while none is known.
pub fn leader_id(status: &QuorumStatus) -> i32 {
    status.leader.map_or(-1, |leader| leader.0)
}

/// Checks that this controller leads.
pub fn check_active(status: &QuorumStatus) -> Result<(), ErrorCode> {
    if status.is_active {
        Ok(())
    } else {
        Err(ErrorCode::NotLeaderOrFollower)
    }
}

/// Checks that the follower knows the epoch of the leader. One that does not learns it from the answer.
pub fn check_epoch(status: &QuorumStatus, known: i32) -> Result<(), ErrorCode> {
    match LeaderEpoch(known).cmp(&status.epoch) {
        std::cmp::Ordering::Less => Err(ErrorCode::FencedLeaderEpoch),
        std::cmp::Ordering::Greater => Err(ErrorCode::UnknownLeaderEpoch),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// Where the leader is reached, on the listener of the request.
pub fn endpoint(status: &QuorumStatus, context: &RequestContext) -> Option<VoterEndpoint> {
    let endpoints = status.leader_endpoints();
    let mut same = endpoints.iter();
    let same = same.find(|endpoint| *endpoint.listener == *context.connection.listener);
    same.or(endpoints.first()).cloned()
}
