//! AlterPartitionReassignments, as far as one node can serve it.
//!
//! All replicas are on this node. A reassignment to the replicas that a partition has succeeds and changes nothing; every
//! other one is refused.

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{NodeId, PartitionIndex};

use crate::assignments::{InvalidAssignment, check_replicas};
use crate::{Decision, Refusal, View};

/// A partition and its new replicas; `None` cancels a reassignment.
pub type Wanted = ((String, PartitionIndex), Option<Vec<NodeId>>);

/// The reply for each partition.
pub type Reply = Vec<((String, PartitionIndex), Result<(), Refusal>)>;

/// Decides AlterPartitionReassignments.
pub fn decide(view: View<'_>, wanted: &[Wanted]) -> Decision<Reply> {
    let reply = wanted
        .iter()
        .map(|((topic, index), replicas)| {
            let result = reassign(view.image, topic, *index, replicas.as_deref());
            ((topic.clone(), *index), result)
        })
        .collect();
    Decision::reply(reply)
}

fn reassign(
    image: &MetadataImage,
    topic: &str,
    index: PartitionIndex,
    replicas: Option<&[NodeId]>,
) -> Result<(), Refusal> {
    let topic = image.topic(topic).ok_or(Refusal::UnknownTopic)?;
    let partition = topic.partitions.get(&index).ok_or(Refusal::UnknownTopic)?;
    let Some(replicas) = replicas else {
        return Err(Refusal::NoReassignmentInProgress);
    };
    check_replicas(image, replicas, None)?;
    if replicas != partition.replicas {
        return Err(InvalidAssignment::MoveNotServed.into());
    }
    Ok(())
}
