//! Changes of an ISR: what a leader proposes to the controller (AlterPartition), and what the answer means for it.

use ottla_protocol::ids::{LeaderEpoch, NodeId};
use ottla_protocol::messages::ErrorCode;

/// A member of a proposed ISR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsrMember {
    pub node: NodeId,
    /// The epoch with which it has fetched. `None` if it has not told one, or not fetched yet.
    pub broker_epoch: Option<i64>,
}

/// A change of the ISR to propose to the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChange {
    /// The new ISR, in the order of the replicas.
    pub isr: Vec<IsrMember>,
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch on which the change is based.
    pub partition_epoch: i32,
}

impl IsrChange {
    pub fn contains(&self, node: NodeId) -> bool {
        self.isr.iter().any(|member| member.node == node)
    }
}

/// The state of a partition after a committed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<NodeId>,
}

/// The controller's answer to a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The partition has this state now.
    Committed(Committed),
    /// The change was not made, by no controller, and will not be. Another may be proposed.
    Refused,
    /// The metadata has moved on. The change stays pending until the leader sees it.
    Overtaken,
    /// Whether the change is made is unknown: propose it again.
    Unknown,
}

impl Answer {
    /// What an error in the answer means.
    pub fn of_error(code: ErrorCode) -> Self {
        match code {
            ErrorCode::OperationNotAttempted | ErrorCode::IneligibleReplica => Self::Refused,
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::InvalidUpdateVersion
            | ErrorCode::InvalidRequest
            | ErrorCode::NewLeaderElected => Self::Overtaken,
            _ => Self::Unknown,
        }
    }
}
