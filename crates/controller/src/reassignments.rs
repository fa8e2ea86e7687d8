//! AlterPartitionReassignments: begins and cancels reassignments. The steps between are in `reassignment`.

use ottla_metadata::Partition;
use ottla_protocol::ids::{NodeId, PartitionIndex};

use crate::assignments::{InvalidAssignment, check_replicas};
use crate::decision::Steps;
use crate::partition_change::{Changed, Election, PartitionChange};
use crate::placement::InvalidReplicationFactor;
use crate::reassignment::{self, Assignment};
use crate::topic_rules::TopicRules;
use crate::unclean_election::Cause;
use crate::{Decision, Refusal, View};

/// A partition and its new replicas; `None` cancels a reassignment.
pub type Wanted = ((String, PartitionIndex), Option<Vec<NodeId>>);

/// The reply for each partition.
pub type Reply = Vec<((String, PartitionIndex), Result<(), Refusal>)>;

/// Whether a reassignment may change how many replicas a partition has (KIP-860).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicationFactor {
    MayChange,
    Stays,
}

/// Decides AlterPartitionReassignments, each partition by itself.
pub fn decide(view: View<'_>, wanted: &[Wanted], factor: ReplicationFactor) -> Decision<Reply> {
    let mut steps = Steps::new(view);
    let one = |((topic, index), replicas): &Wanted| {
        let target = (replicas.as_deref(), factor);
        let result = steps.take(|view| {
            let mut decision = Decision::reply(());
            let result = reassign(view, (topic, *index), target);
            let result = result.map(|changed| decision.change(changed));
            decision.replying(|()| result)
        });
        ((topic.clone(), *index), result)
    };
    let reply = wanted.iter().map(one).collect();
    steps.finish(reply)
}

fn reassign(
    view: View<'_>,
    (topic, index): (&str, PartitionIndex),
    (target, factor): (Option<&[NodeId]>, ReplicationFactor),
) -> Result<Option<Changed>, Refusal> {
    let topic = view.image.topic(topic).ok_or(Refusal::UnknownTopic)?;
    let partition = topic.partitions.get(&index).ok_or(Refusal::UnknownTopic)?;
    let rules = TopicRules::of(view, topic);
    let change = PartitionChange::new(rules, index, partition);
    let Some(target) = target else {
        return cancel(partition, rules, change);
    };
    check_replicas(view.image, target, None)?;
    if factor == ReplicationFactor::Stays {
        check_replication_factor(partition, target.len())?;
    }
    let assignment = Assignment::begin(partition, target);
    Ok(change.assignment(assignment).build())
}

/// A partition that is being reassigned counts with the replicas that it will have.
fn check_replication_factor(partition: &Partition, wanted: usize) -> Result<(), Refusal> {
    let staying = partition.replicas.iter();
    let current = staying
        .filter(|replica| !partition.removing.contains(replica))
        .count();
    if current != wanted {
        return Err(InvalidReplicationFactor::Changed { current, wanted }.into());
    }
    Ok(())
}

/// The replicas that were being added go. If no other one is in sync, one has to lead that may lack records: the topic
/// must allow that, and one must be alive. Its election is reported, which Kafka's is not.
fn cancel(
    partition: &Partition,
    rules: TopicRules<'_>,
    change: PartitionChange<'_>,
) -> Result<Option<Changed>, Refusal> {
    if !reassignment::is_in_progress(partition) {
        return Err(Refusal::NoReassignmentInProgress);
    }
    let replicas = reassignment::original(partition, &partition.replicas);
    let isr = reassignment::original(partition, &partition.isr);
    if replicas.is_empty() {
        return Err(InvalidAssignment::NothingToRevertTo.into());
    }
    let is_unclean = isr.is_empty();
    let change = change.unclean_if_allowed().isr(isr).assignment(Assignment {
        replicas,
        removing: Vec::new(),
        adding: Vec::new(),
    });
    if !is_unclean {
        return Ok(change.build());
    }
    if !rules.unclean_election {
        return Err(InvalidAssignment::UncleanRevert.into());
    }
    let unclean = Election::Unclean(Cause::CancelledReassignment);
    let changed = change.election(unclean).build();
    match changed {
        Some(changed) if partition.merge(&changed.record).leader.is_some() => Ok(Some(changed)),
        _ => Err(InvalidAssignment::UncleanRevert.into()),
    }
}
