//! ElectLeaders: the preferred leader, or any leader where there is none.

use ottla_metadata::{MetadataImage, Partition};
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_protocol::messages::metadata::PartitionChangeRecord;

use crate::{Decision, Refusal, View};

/// What kind of election is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// Any live replica, in sync or not, where there is no leader. Acknowledged records may be lost.
    Unclean,
}

/// A partition, by the topic's name.
pub type Named = (String, PartitionIndex);

/// The reply for each partition.
pub type Reply = Vec<(Named, Result<(), Refusal>)>;

/// Decides ElectLeaders; no list means every partition that needs an election.
pub fn decide(view: View<'_>, election: Election, partitions: Option<&[Named]>) -> Decision<Reply> {
    let all: Vec<Named>;
    let asked = if let Some(list) = partitions {
        list
    } else {
        all = every_partition(view.image);
        &all
    };
    let mut records = Vec::new();
    let mut reply = Reply::new();
    for (topic, index) in asked {
        let result = elect(view.image, election, topic, *index);
        if partitions.is_none() && result == Err(Refusal::ElectionNotNeeded) {
            continue;
        }
        let result = result.map(|record| records.push(record.into()));
        reply.push(((topic.clone(), *index), result));
    }
    Decision { records, reply }
}

fn every_partition(image: &MetadataImage) -> Vec<Named> {
    let named = |topic: &ottla_metadata::Topic| {
        topic
            .partitions
            .keys()
            .map(|index| (topic.name.clone(), *index))
            .collect::<Vec<_>>()
    };
    image
        .topics
        .values()
        .flat_map(|topic| named(topic))
        .collect()
}

fn elect(
    image: &MetadataImage,
    election: Election,
    topic: &str,
    index: PartitionIndex,
) -> Result<PartitionChangeRecord, Refusal> {
    let topic = image.topic(topic).ok_or(Refusal::UnknownTopic)?;
    let partition = topic.partitions.get(&index).ok_or(Refusal::UnknownTopic)?;
    let mut record = PartitionChangeRecord {
        topic_id: topic.id,
        partition_id: index.0,
        ..PartitionChangeRecord::default()
    };
    match election {
        Election::Preferred => record.leader = preferred(image, partition)?.0,
        Election::Unclean => {
            let (leader, clean) = any(image, partition)?;
            record.leader = leader.0;
            if !clean {
                record.isr = Some(vec![leader.0]);
                record.leader_recovery_state = 1;
            }
        }
    }
    Ok(record)
}

fn is_active(image: &MetadataImage, id: NodeId) -> bool {
    image
        .brokers
        .get(&id)
        .is_some_and(|broker| broker.is_active())
}

fn preferred(image: &MetadataImage, partition: &Partition) -> Result<NodeId, Refusal> {
    let first = partition
        .replicas
        .first()
        .copied()
        .ok_or(Refusal::PreferredLeaderNotAvailable)?;
    if partition.leader == Some(first) {
        return Err(Refusal::ElectionNotNeeded);
    }
    if !partition.isr.contains(&first) || !is_active(image, first) {
        return Err(Refusal::PreferredLeaderNotAvailable);
    }
    Ok(first)
}

/// A live replica, and whether electing it is clean.
fn any(image: &MetadataImage, partition: &Partition) -> Result<(NodeId, bool), Refusal> {
    if partition.leader.is_some() {
        return Err(Refusal::ElectionNotNeeded);
    }
    let live = || {
        partition
            .replicas
            .iter()
            .copied()
            .filter(|id| is_active(image, *id))
    };
    let in_sync = live().find(|id| partition.isr.contains(id));
    in_sync
        .map(|id| (id, true))
        .or_else(|| live().next().map(|id| (id, false)))
        .ok_or(Refusal::EligibleLeadersNotAvailable)
}
