//! ElectLeaders: elects the preferred leader, or any leader for a partition that has none.

use ottla_metadata::{MetadataImage, Partition};
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::partition_change::{Claim, PartitionChange};
use crate::{Decision, Refusal, View};

/// The kind of election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first replica, if it has every acknowledged record.
    Preferred,
    /// Any replica on an active broker, where there is no leader: one that has every acknowledged record if there is
    /// any, else one that may lack some.
    Unclean,
}

/// A partition, by the topic's name.
pub type Named = (String, PartitionIndex);

/// The reply for each partition.
pub type Reply = Vec<(Named, Result<(), Refusal>)>;

/// Decides ElectLeaders. Without a list it elects for every partition that needs it.
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
        let result = result.map(|record| records.extend(record));
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
) -> Result<Option<MetadataRecord>, Refusal> {
    let topic = image.topic(topic).ok_or(Refusal::UnknownTopic)?;
    let partition = topic.partitions.get(&index).ok_or(Refusal::UnknownTopic)?;
    let leader = match election {
        Election::Preferred => preferred(image, partition)?,
        Election::Unclean => best(image, partition)?,
    };
    let change = PartitionChange::new(topic.id, index, partition);
    Ok(change.elect(leader).record())
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
    if !Claim::of(partition, first).is_clean() || !image.is_active(first) {
        return Err(Refusal::PreferredLeaderNotAvailable);
    }
    Ok(first)
}

/// Of the replicas on active brokers the first with the best claim.
fn best(image: &MetadataImage, partition: &Partition) -> Result<NodeId, Refusal> {
    if partition.leader.is_some() {
        return Err(Refusal::ElectionNotNeeded);
    }
    let replicas = partition.replicas.iter().copied();
    let active = replicas.filter(|id| image.is_active(*id));
    active
        .min_by_key(|id| Claim::of(partition, *id))
        .ok_or(Refusal::EligibleLeadersNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::{Election, elect};
    use ottla_metadata::{MetadataDelta, MetadataImage};
    use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
    use ottla_protocol::messages::metadata::{
        MetadataRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord,
    };

    /// A partition of brokers 1 and 2, both alive, without a leader; broker 2 is an eligible leader replica.
    fn image() -> (MetadataImage, Uuid) {
        let topic_id = Uuid::from_parts(7, 7);
        let broker = |broker_id| RegisterBrokerRecord {
            broker_id,
            fenced: false,
            ..RegisterBrokerRecord::default()
        };
        let topic = TopicRecord {
            name: "t".into(),
            topic_id,
            ..TopicRecord::default()
        };
        let partition = PartitionRecord {
            topic_id,
            partition_id: 0,
            replicas: vec![1, 2],
            leader: -1,
            eligible_leader_replicas: Some(vec![2]),
            ..PartitionRecord::default()
        };
        let records: [MetadataRecord; 4] = [
            broker(1).into(),
            broker(2).into(),
            topic.into(),
            partition.into(),
        ];
        let mut delta = MetadataDelta::new(MetadataImage::default());
        for record in &records {
            delta.replay(record);
        }
        (delta.finish().0, topic_id)
    }

    #[test]
    fn an_unclean_election_prefers_a_replica_that_loses_nothing() {
        let (image, topic) = image();
        let index = PartitionIndex(0);
        let record = elect(&image, Election::Unclean, "t", index).unwrap();
        let mut delta = MetadataDelta::new(image);
        delta.replay(&record.expect("a leader is elected"));
        let partition = delta.image().partition(topic, index).unwrap();
        assert_eq!(partition.leader, Some(NodeId(2)));
        assert!(!partition.recovering);
    }
}
