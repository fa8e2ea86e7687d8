//! The brokers of the cluster, as far as replication must know them: who is alive, and in which incarnation.

use std::collections::BTreeMap;

use ottla_protocol::ids::NodeId;

/// A registered broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broker {
    /// The epoch of its registration: another one for each start of its process.
    pub epoch: i64,
    pub is_fenced: bool,
    pub is_shutting_down: bool,
}

/// The registered brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brokers(BTreeMap<NodeId, Broker>);

impl FromIterator<(NodeId, Broker)> for Brokers {
    fn from_iter<I: IntoIterator<Item = (NodeId, Broker)>>(brokers: I) -> Self {
        Self(brokers.into_iter().collect())
    }
}

impl Brokers {
    /// The epoch of a broker that is registered and not fenced.
    pub fn alive_epoch(&self, node: NodeId) -> Option<i64> {
        let broker = self.0.get(&node)?;
        (!broker.is_fenced).then_some(broker.epoch)
    }

    /// Whether a fetch of `node` with `epoch` comes from an earlier start of its process.
    pub fn is_stale(&self, node: NodeId, epoch: Option<i64>) -> bool {
        let alive = self.alive_epoch(node);
        alive.is_some_and(|alive| epoch.is_some_and(|epoch| epoch < alive))
    }

    /// Whether `node`, which fetched with `epoch`, may join an ISR. A follower that tells no epoch may: it speaks a
    /// version of Fetch without one.
    pub fn may_join_isr(&self, node: NodeId, epoch: Option<i64>) -> bool {
        let broker = self.0.get(&node);
        broker.is_some_and(|broker| {
            let is_active = !broker.is_fenced && !broker.is_shutting_down;
            is_active && epoch.is_none_or(|epoch| epoch == broker.epoch)
        })
    }
}
