//! The state of a partition in the metadata, as seen by one node.

use ottla_protocol::ids::{LeaderEpoch, NodeId};

/// A partition's state in the metadata, for a node with a replica of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub node: NodeId,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    /// Rises with each change of the partition's state.
    pub partition_epoch: i32,
    /// The nodes with a replica, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The in-sync replicas.
    pub isr: Vec<NodeId>,
    /// Whether the leader was elected uncleanly, and has not changed the ISR since.
    pub recovering: bool,
}

impl Role {
    /// The role before the metadata is known.
    pub fn unknown() -> Self {
        Self {
            node: NodeId::default(),
            leader: None,
            leader_epoch: LeaderEpoch::NONE,
            partition_epoch: -1,
            replicas: Vec::new(),
            isr: Vec::new(),
            recovering: false,
        }
    }

    /// Whether this node leads the partition.
    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.node)
    }

    /// The number of replicas that must be in sync for acks=all: `min.insync.replicas`, or the number of replicas if
    /// that is lower.
    pub fn effective_min_isr(&self, min_insync_replicas: usize) -> usize {
        min_insync_replicas.min(self.replicas.len())
    }
}
