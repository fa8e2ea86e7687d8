//! ElectLeaders: elects the preferred leader, or any leader for a partition that has none.

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::PartitionIndex;

use crate::decision::Steps;
use crate::partition_change::{self, Changed, PartitionChange};
use crate::topic_rules::TopicRules;
use crate::unclean_election::Cause;
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
    let mut steps = Steps::new(view);
    let mut reply = Reply::new();
    for (topic, index) in asked {
        let result = steps.take(|view| elect(view, election, (topic, *index)));
        if partitions.is_none() && result == Err(Refusal::ElectionNotNeeded) {
            continue;
        }
        reply.push(((topic.clone(), *index), result));
    }
    steps.finish(reply)
}

fn every_partition(image: &MetadataImage) -> Vec<Named> {
    let topics = image.topic_ids.keys().filter_map(|name| image.topic(name));
    let partitions = topics.flat_map(|topic| {
        let indexes = topic.partitions.keys();
        indexes.map(|index| (topic.name.clone(), *index))
    });
    partitions.collect()
}

fn elect(
    view: View<'_>,
    election: Election,
    partition: (&str, PartitionIndex),
) -> Decision<Result<(), Refusal>> {
    match elected(view, election, partition) {
        Ok(changed) => {
            let mut decision = Decision::reply(Ok(()));
            decision.change(Some(changed));
            decision
        }
        Err(refusal) => Decision::reply(Err(refusal)),
    }
}

fn elected(
    view: View<'_>,
    election: Election,
    (topic, index): (&str, PartitionIndex),
) -> Result<Changed, Refusal> {
    let topic = view.image.topic(topic).ok_or(Refusal::UnknownTopic)?;
    let partition = topic.partitions.get(&index).ok_or(Refusal::UnknownTopic)?;
    let (is_needed, kind, refusal) = match election {
        Election::Preferred => (
            partition.leader.is_none() || partition.leader.as_ref() != partition.replicas.first(),
            partition_change::Election::Preferred,
            Refusal::PreferredLeaderNotAvailable,
        ),
        Election::Unclean => (
            partition.leader.is_none(),
            partition_change::Election::Unclean(Cause::Request),
            Refusal::EligibleLeadersNotAvailable,
        ),
    };
    if !is_needed {
        return Err(Refusal::ElectionNotNeeded);
    }
    let change = PartitionChange::new(TopicRules::of(view, topic), index, partition);
    change.election(kind).build().ok_or(refusal)
}
