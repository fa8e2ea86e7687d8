//! Which replicas of a topic are throttled: `leader.replication.throttled.replicas` and its follower's counterpart.

use ottla_protocol::ids::{NodeId, PartitionIndex};

/// The replicas that a topic's config names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ThrottledReplicas {
    #[default]
    None,
    /// `*`.
    All,
    /// As `partition:broker`.
    These(Vec<(PartitionIndex, NodeId)>),
}

impl ThrottledReplicas {
    /// The replicas of a value that was checked when it was set. What does not parse is not throttled.
    pub fn parse(value: &str) -> Self {
        let replica = |entry: &str| {
            let (partition, node) = entry.trim().split_once(':')?;
            let partition = PartitionIndex(partition.trim().parse().ok()?);
            Some((partition, NodeId(node.trim().parse().ok()?)))
        };
        match value.trim() {
            "" | "none" => Self::None,
            "*" => Self::All,
            some => Self::These(some.split(',').filter_map(replica).collect()),
        }
    }

    pub fn has(&self, partition: PartitionIndex, node: NodeId) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(replicas) => replicas.contains(&(partition, node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NodeId, PartitionIndex, ThrottledReplicas};

    #[test]
    fn a_value_names_replicas_by_partition_and_broker() {
        let has = |value: &str, partition: i32, node: i32| {
            let replicas = ThrottledReplicas::parse(value);
            replicas.has(PartitionIndex(partition), NodeId(node))
        };
        assert!(has("0:1, 3:2", 3, 2));
        assert!(!has("0:1,3:2", 3, 1));
        assert!(has("*", 7, 9));
        assert!(!has("", 0, 1));
        assert!(!has("none", 0, 1));
    }
}
