//! An election that may lose acknowledged records, as it is reported to those who keep account of losses.

use ottla_metadata::{Partition, Topic};
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};

/// Why a replica was elected that may lack acknowledged records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No replica is in sync or eligible, and this one led last: no other replica has more records.
    LastKnownLeader,
    /// `unclean.leader.election.enable` allows it.
    Config,
    /// ElectLeaders asked for it.
    Request,
    /// A reassignment was cancelled when only the replicas that it added were in sync.
    CancelledReassignment,
}

/// An election of a replica that may lack acknowledged records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncleanElection {
    /// The topic's name.
    pub topic: String,
    pub topic_id: Uuid,
    pub partition: PartitionIndex,
    /// How many replicas it has.
    pub replicas: usize,
    /// The last leader, if it is known.
    pub old_leader: Option<NodeId>,
    pub new_leader: NodeId,
    /// The leader epoch before the election.
    pub old_epoch: LeaderEpoch,
    pub new_epoch: LeaderEpoch,
    pub cause: Cause,
}

impl UncleanElection {
    pub(crate) fn of(
        (topic, index): (&Topic, PartitionIndex),
        partition: &Partition,
        leader: NodeId,
        cause: Cause,
    ) -> Self {
        let last = partition.last_known_eligible_leaders.first().copied();
        Self {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition: index,
            replicas: partition.replicas.len(),
            old_leader: partition.leader.or(last),
            new_leader: leader,
            old_epoch: partition.leader_epoch,
            new_epoch: partition.leader_epoch.next(),
            cause,
        }
    }
}
