//! What the metadata says of a partition and this node.

use ottla_protocol::ids::{LeaderEpoch, NodeId};

/// A partition's state, as a node sees it that has a replica of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// This node.
    pub node: NodeId,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes of the partition's state.
    pub partition_epoch: i32,
    /// The nodes that have a replica, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those of them that are in sync.
    pub isr: Vec<NodeId>,
}

impl Role {
    /// The role of a node that knows nothing of the partition yet.
    pub fn unknown() -> Self {
        Self {
            node: NodeId::default(),
            leader: None,
            leader_epoch: LeaderEpoch::NONE,
            partition_epoch: 0,
            replicas: Vec::new(),
            isr: Vec::new(),
        }
    }

    /// Whether this node leads the partition.
    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.node)
    }

    /// The replicas that must be in sync for acks=all: `min.insync.replicas`, or all where there are fewer.
    pub fn effective_min_isr(&self, min_insync_replicas: usize) -> usize {
        min_insync_replicas.min(self.replicas.len())
    }
}
