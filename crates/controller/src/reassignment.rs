//! The steps of one partition's reassignment: start, completion and cancellation. The rules are Kafka's.
//!
//! A reassignment that has begun lists the target replicas first and those that it removes behind them. It completes when
//! the replicas that it adds are in sync. A smaller number of replicas is reached only when all that remain are in sync,
//! so that completion never makes the ISR smaller than it has to be.

use ottla_metadata::Partition;
use ottla_protocol::ids::NodeId;

/// The replicas of a partition, and those among them that a reassignment removes and adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub replicas: Vec<NodeId>,
    pub removing: Vec<NodeId>,
    pub adding: Vec<NodeId>,
}

/// Whether replicas are being added or removed.
pub(crate) fn is_in_progress(partition: &Partition) -> bool {
    !partition.removing.is_empty() || !partition.adding.is_empty()
}

impl Assignment {
    /// A reassignment to `target` begins, or the target changes. A replica that an earlier reassignment adds is still
    /// being added: it is not in sync yet.
    pub(crate) fn begin(partition: &Partition, target: &[NodeId]) -> Self {
        let removing = without(&partition.replicas, target);
        let replicas = target.iter().chain(&removing).copied().collect();
        let members = without(&partition.replicas, &partition.adding);
        Self {
            replicas,
            removing,
            adding: without(target, &members),
        }
    }

    /// The replicas and the ISR after completion, if this ISR allows it.
    pub(crate) fn completed(&self, isr: &[NodeId]) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
        if self.removing.is_empty() && self.adding.is_empty() {
            return None;
        }
        let staying = |nodes: &[NodeId]| {
            let nodes = nodes.iter().filter(|node| !self.removing.contains(node));
            nodes.copied().collect::<Vec<NodeId>>()
        };
        let (replicas, isr) = (staying(&self.replicas), staying(isr));
        let are_in_sync = |nodes: &[NodeId]| nodes.iter().all(|node| isr.contains(node));
        if !self.removing.is_empty() && (isr.is_empty() || replicas.is_empty()) {
            return None;
        }
        let has_fewer = self.adding.len() < self.removing.len();
        if !are_in_sync(&self.adding) || (has_fewer && !are_in_sync(&replicas)) {
            return None;
        }
        Some((replicas, isr))
    }
}

/// Replicas or an ISR without those that were being added.
pub(crate) fn original(partition: &Partition, nodes: &[NodeId]) -> Vec<NodeId> {
    let nodes = nodes.iter();
    let nodes = nodes.filter(|node| !partition.adding.contains(node));
    nodes.copied().collect()
}

/// The nodes of `nodes` that are not in `others`, by id.
fn without(nodes: &[NodeId], others: &[NodeId]) -> Vec<NodeId> {
    let nodes = nodes.iter().filter(|node| !others.contains(node));
    let mut nodes: Vec<NodeId> = nodes.copied().collect();
    nodes.sort_unstable();
    nodes
}
