//! Replicas that a request assigns by hand, and the partition that begins on given replicas.

use std::collections::{BTreeMap, BTreeSet};

use ottla_metadata::{MetadataImage, Partition};
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex};

use crate::placement::{self, Replicas};

/// Why replicas cannot be assigned as a request says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAssignment {
    #[error("the manual partition assignment includes an empty replica list")]
    Empty,
    #[error(
        "the manual partition assignment includes broker {0}, but no such broker is registered"
    )]
    UnknownBroker(NodeId),
    #[error("the manual partition assignment includes the broker {0} more than once")]
    BrokerTwice(NodeId),
    /// Every partition of a topic has the same number of replicas.
    #[error(
        "the manual partition assignment includes a partition with {replicas} replica(s), but this is not consistent \
         with previous partitions, which have {previous} replica(s)"
    )]
    Uneven { replicas: usize, previous: usize },
    #[error("found multiple manual partition assignments for partition {0}")]
    PartitionTwice(PartitionIndex),
    #[error("partitions should be a consecutive 0-based integer sequence")]
    NotConsecutive,
    /// CreatePartitions: an assignment for each new partition, or none at all.
    #[error(
        "attempted to add {additional} additional partition(s), but only {assigned} assignment(s) were specified"
    )]
    WrongCount { additional: usize, assigned: usize },
    #[error(
        "all brokers specified in the manual partition assignment for partition {0} are fenced or in controlled \
         shutdown"
    )]
    NoActiveBroker(PartitionIndex),
    /// AlterPartitionReassignments cancels, and every replica was being added.
    #[error("the replicas that are being added are all that there are")]
    NothingToRevertTo,
    /// AlterPartitionReassignments cancels, and only replicas that were being added are in sync.
    #[error("reverting the partition assignment would require an unclean leader election")]
    UncleanRevert,
}

/// The replicas of each partition, in the order of the partitions, as CreateTopics assigns them.
pub(crate) fn check(
    image: &MetadataImage,
    assignments: &[(PartitionIndex, Replicas)],
) -> Result<Vec<Replicas>, InvalidAssignment> {
    let mut by_partition = BTreeMap::new();
    let mut previous = None;
    for (index, replicas) in assignments {
        check_replicas(image, replicas, previous)?;
        previous = Some(replicas.len());
        if by_partition.insert(*index, replicas.clone()).is_some() {
            return Err(InvalidAssignment::PartitionTwice(*index));
        }
    }
    let consecutive = (0..).take(by_partition.len()).map(PartitionIndex);
    if !by_partition.keys().copied().eq(consecutive) {
        return Err(InvalidAssignment::NotConsecutive);
    }
    Ok(by_partition.into_values().collect())
}

/// Checks the replicas of one partition. `previous` is how many the other partitions of the topic have.
pub(crate) fn check_replicas(
    image: &MetadataImage,
    replicas: &[NodeId],
    previous: Option<usize>,
) -> Result<(), InvalidAssignment> {
    if replicas.is_empty() {
        return Err(InvalidAssignment::Empty);
    }
    let mut seen = BTreeSet::new();
    for broker in replicas {
        if !image.brokers.contains_key(broker) {
            return Err(InvalidAssignment::UnknownBroker(*broker));
        }
        if !seen.insert(broker) {
            return Err(InvalidAssignment::BrokerTwice(*broker));
        }
    }
    let replicas = replicas.len();
    match previous {
        Some(previous) if previous != replicas => {
            Err(InvalidAssignment::Uneven { replicas, previous })
        }
        _ => Ok(()),
    }
}

/// A new partition on these replicas. Those on active brokers are in sync, and the first of them leads.
pub(crate) fn new_partition(
    image: &MetadataImage,
    index: PartitionIndex,
    replicas: &[NodeId],
) -> Result<Partition, InvalidAssignment> {
    let replicas_in_sync = replicas.iter().filter(|id| image.is_active(**id));
    let isr: Vec<NodeId> = replicas_in_sync.copied().collect();
    let Some(leader) = isr.first().copied() else {
        return Err(InvalidAssignment::NoActiveBroker(index));
    };
    Ok(Partition {
        replicas: replicas.to_vec(),
        directories: placement::directories(image, replicas),
        isr,
        removing: Vec::new(),
        adding: Vec::new(),
        leader: Some(leader),
        recovering: false,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        eligible_leaders: Vec::new(),
        last_known_eligible_leaders: Vec::new(),
    })
}
