//! AssignReplicasToDirs (KIP-858): records in which of a broker's log directories its replicas are.

use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};

use crate::decision::Steps;
use crate::partition_change::{About, PartitionChange};
use crate::topic_rules::TopicRules;
use crate::{Decision, View};

/// A partition, by its topic's id, and the directory that holds the broker's replica of it.
pub type Located = ((Uuid, PartitionIndex), Uuid);

/// Decides AssignReplicasToDirs. A replica that is recorded so already, or that no longer exists, needs no record. No
/// directory is recorded where the cluster's metadata version has no field for it. A replica in a directory that has
/// failed leaves the ISR, and leads nothing.
pub fn decide(view: View<'_>, broker: NodeId, located: &[Located]) -> Decision<()> {
    let mut steps = Steps::new(view);
    if !view.image.metadata_version().has_directory_assignment() {
        return steps.finish(());
    }
    let known = view.image.brokers.get(&broker);
    let online = known.map_or(&[][..], |known| known.directories.as_slice());
    for (place, directory) in located {
        steps.take(|view| {
            change(view, broker, *place, |change| {
                change.directory(broker, *directory)
            })
        });
        if !online.is_empty() && !online.contains(directory) {
            steps.take(|view| {
                change(view, broker, *place, |change| {
                    change.unclean_if_allowed().about(About::Leaves(broker))
                })
            });
        }
    }
    steps.finish(())
}

fn change<'a>(
    view: View<'a>,
    broker: NodeId,
    (topic, index): (Uuid, PartitionIndex),
    what: impl FnOnce(PartitionChange<'a>) -> PartitionChange<'a>,
) -> Decision<()> {
    let mut decision = Decision::reply(());
    let Some(topic) = view.image.topics.get(&topic) else {
        return decision;
    };
    let partition = topic.partitions.get(&index);
    if let Some(partition) = partition.filter(|known| known.replicas.contains(&broker)) {
        let change = PartitionChange::new(TopicRules::of(view, topic), index, partition);
        decision.change(what(change).build());
    }
    decision
}
