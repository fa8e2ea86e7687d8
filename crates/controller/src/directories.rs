//! AssignReplicasToDirs (KIP-858): records in which of a broker's log directories its replicas are.

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};

use crate::brokers::registered;
use crate::decision::Steps;
use crate::partition_change::{About, PartitionChange};
use crate::topic_rules::TopicRules;
use crate::{Decision, Refusal, View};

/// A partition, by its topic's id, and the directory that holds the broker's replica of it.
pub type Located = ((Uuid, PartitionIndex), Uuid);

/// Why the directory of a replica is not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLocated {
    UnknownTopicId,
    UnknownPartition,
    /// The broker has no replica of the partition.
    NotAReplica,
}

impl NotLocated {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::UnknownTopicId => ErrorCode::UnknownTopicId,
            Self::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Self::NotAReplica => ErrorCode::NotLeaderOrFollower,
        }
    }
}

/// The outcome for each replica, in the order of the request.
pub type Reply = Vec<Result<(), NotLocated>>;

/// Decides AssignReplicasToDirs of a broker with this epoch. A replica that is recorded so already needs no record. A
/// replica in a directory that has failed leaves the ISR, and leads nothing.
pub fn decide(
    view: View<'_>,
    broker: (NodeId, i64),
    located: &[Located],
) -> Decision<Result<Reply, Refusal>> {
    if !view.image.metadata_version().has_directory_assignment() {
        return Decision::reply(Err(Refusal::NoDirectoryAssignment));
    }
    let online = match registered(view.image, broker) {
        Ok(known) => known.directories.as_slice(),
        Err(refusal) => return Decision::reply(Err(refusal)),
    };
    let mut steps = Steps::new(view);
    let mut reply = Vec::with_capacity(located.len());
    for (place, directory) in located {
        let has_failed = !online.is_empty() && !online.contains(directory);
        reply.push(steps.take(|view| locate(view, (broker.0, has_failed), (*place, *directory))));
    }
    steps.finish(Ok(reply))
}

fn locate(
    view: View<'_>,
    (broker, has_failed): (NodeId, bool),
    (place, directory): Located,
) -> Decision<Result<(), NotLocated>> {
    let change = match change(view, broker, place) {
        Ok(change) => change.directory(broker, directory),
        Err(refusal) => return Decision::reply(Err(refusal)),
    };
    let change = if has_failed {
        change.unclean_if_allowed().about(About::Leaves(broker))
    } else {
        change
    };
    let mut decision = Decision::reply(Ok(()));
    decision.change(change.build());
    decision
}

fn change(
    view: View<'_>,
    broker: NodeId,
    (topic, index): (Uuid, PartitionIndex),
) -> Result<PartitionChange<'_>, NotLocated> {
    let topic = view.image.topics.get(&topic);
    let topic = topic.ok_or(NotLocated::UnknownTopicId)?;
    let partition = topic.partitions.get(&index);
    let partition = partition.ok_or(NotLocated::UnknownPartition)?;
    if !partition.replicas.contains(&broker) {
        return Err(NotLocated::NotAReplica);
    }
    let rules = TopicRules::of(view, topic);
    Ok(PartitionChange::new(rules, index, partition))
}
