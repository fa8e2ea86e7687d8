//! One partition as the metadata log knows it.

use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{PartitionChangeRecord, PartitionRecord};
use ottla_protocol::planted::{Bug, is_planted};

/// The directory of a replica that was placed before directories were recorded (`DirectoryId.MIGRATING`).
pub const MIGRATING: Uuid = Uuid::ZERO;
/// The directory of a replica whose broker has not reported one (`DirectoryId.UNASSIGNED`).
pub const UNASSIGNED: Uuid = Uuid::from_parts(0, 1);
/// Ids below this stand for a state and not for a directory: migrating (0), unassigned (1), lost (2).
const RESERVED_DIRECTORIES: u64 = 100;
/// `DirectoryId.LOST`.
pub const LOST: Uuid = Uuid::from_parts(0, 2);

/// The `leader` of a record of a partition without one.
pub const NO_LEADER: i32 = -1;
/// `PartitionChangeRecord.leader` when the leader does not change.
const NO_LEADER_CHANGE: i32 = -2;
/// The `leader_recovery_state` of a partition with a leader that was elected cleanly, or has recovered.
pub const RECOVERED: i8 = 0;
/// The `leader_recovery_state` of a partition whose leader was elected uncleanly, and has not yet recovered.
pub const RECOVERING: i8 = 1;
/// `PartitionChangeRecord.leader_recovery_state` when it does not change.
const NO_RECOVERY_CHANGE: i8 = -1;

/// A partition's replicas, its leader and its epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The log directory of each replica, in the order of `replicas`.
    pub directories: Vec<Uuid>,
    /// The in-sync replicas.
    pub isr: Vec<NodeId>,
    /// Replicas that a reassignment removes.
    pub removing: Vec<NodeId>,
    /// Replicas that a reassignment adds.
    pub adding: Vec<NodeId>,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
    /// Whether the partition is recovering from an unclean election.
    pub recovering: bool,
    /// Raised by every record that elects a leader, the same one too.
    pub leader_epoch: LeaderEpoch,
    /// Raised with every change.
    pub partition_epoch: i32,
    /// Eligible leader replicas (KIP-966).
    pub eligible_leaders: Vec<NodeId>,
    /// The last known eligible leader replicas (KIP-966).
    pub last_known_eligible_leaders: Vec<NodeId>,
}

/// Whether an id stands for a state of a replica, and not for a directory.
pub fn is_reserved_directory(id: Uuid) -> bool {
    id.most_significant_bits() == 0 && id.least_significant_bits() < RESERVED_DIRECTORIES
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn leader(id: i32) -> Option<NodeId> {
    (id >= 0).then_some(NodeId(id))
}

impl Partition {
    /// The directory that holds the replica of `node`, or `DirectoryId.LOST`. `None` if it is not known.
    pub fn directory_of(&self, node: NodeId) -> Option<Uuid> {
        let place = self.replicas.iter().position(|replica| *replica == node)?;
        let directory = *self.directories.get(place)?;
        (!is_reserved_directory(directory) || directory == LOST).then_some(directory)
    }

    /// Whether the cluster takes the replica of `node` for one with every acknowledged record, or may do so in an election.
    pub fn counts_on(&self, node: NodeId) -> bool {
        self.isr.contains(&node)
            || self.eligible_leaders.contains(&node)
            || self.last_known_eligible_leaders.contains(&node)
    }

    /// This partition with the fields that a change record names.
    #[must_use]
    pub fn merge(&self, change: &PartitionChangeRecord) -> Self {
        let list = |new: &Option<Vec<i32>>, old: &Vec<NodeId>| {
            new.as_deref().map_or_else(|| old.clone(), nodes)
        };
        let elects = change.leader != NO_LEADER_CHANGE;
        Self {
            replicas: list(&change.replicas, &self.replicas),
            directories: change
                .directories
                .clone()
                .unwrap_or_else(|| self.directories.clone()),
            isr: list(&change.isr, &self.isr),
            removing: list(&change.removing_replicas, &self.removing),
            adding: list(&change.adding_replicas, &self.adding),
            leader: if elects {
                leader(change.leader)
            } else {
                self.leader
            },
            recovering: match change.leader_recovery_state {
                NO_RECOVERY_CHANGE => self.recovering,
                state => state == RECOVERING,
            },
            leader_epoch: LeaderEpoch(
                self.leader_epoch.0 + i32::from(elects && !is_planted(Bug::LeaderEpochNotRaised)),
            ),
            partition_epoch: self.partition_epoch + 1,
            eligible_leaders: list(&change.eligible_leader_replicas, &self.eligible_leaders),
            last_known_eligible_leaders: list(
                &change.last_known_elr,
                &self.last_known_eligible_leaders,
            ),
        }
    }

    /// The record that creates this partition.
    pub fn to_record(&self, topic: Uuid, index: PartitionIndex) -> PartitionRecord {
        let eligible = |nodes: &[NodeId]| (!nodes.is_empty()).then(|| numbers(nodes));
        PartitionRecord {
            partition_id: index.0,
            topic_id: topic,
            replicas: numbers(&self.replicas),
            isr: numbers(&self.isr),
            removing_replicas: numbers(&self.removing),
            adding_replicas: numbers(&self.adding),
            leader: self.leader.map_or(NO_LEADER, |node| node.0),
            leader_recovery_state: if self.recovering {
                RECOVERING
            } else {
                RECOVERED
            },
            leader_epoch: self.leader_epoch.0,
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            eligible_leader_replicas: eligible(&self.eligible_leaders),
            last_known_elr: eligible(&self.last_known_eligible_leaders),
            ..PartitionRecord::default()
        }
    }
}

impl From<&PartitionRecord> for Partition {
    fn from(record: &PartitionRecord) -> Self {
        Self {
            replicas: nodes(&record.replicas),
            directories: record.directories.clone(),
            isr: nodes(&record.isr),
            removing: nodes(&record.removing_replicas),
            adding: nodes(&record.adding_replicas),
            leader: leader(record.leader),
            recovering: record.leader_recovery_state == RECOVERING,
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: record.partition_epoch,
            eligible_leaders: nodes(
                record
                    .eligible_leader_replicas
                    .as_deref()
                    .unwrap_or_default(),
            ),
            last_known_eligible_leaders: nodes(
                record.last_known_elr.as_deref().unwrap_or_default(),
            ),
        }
    }
}
