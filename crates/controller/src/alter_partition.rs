//! AlterPartition: the leader of a partition changes its ISR.
//!
//! The checks come in Kafka's order. A leader whose epochs are ahead of ours means that another controller leads. The ISR
//! may grow only by replicas on active brokers, by the broker epochs with which the leader knows them, and not while the
//! leader recovers from an unclean election.

use ottla_metadata::{MetadataImage, Partition};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};

use crate::brokers::registered;
use crate::decision::Steps;
use crate::partition_change::PartitionChange;
use crate::topic_rules::TopicRules;
use crate::{Decision, Refusal, View};

/// A partition, by its topic's id.
pub type Place = (Uuid, PartitionIndex);

/// What a leader wants to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub place: Place,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// The ISR, with the epoch of each broker; -1 means any.
    pub isr: Vec<(NodeId, i64)>,
    /// Whether the leader still recovers from an unclean election.
    pub recovering: bool,
}

/// Why a partition is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    UnknownTopicId,
    UnknownPartition,
    /// The leader knows a later epoch: it has heard of a later controller.
    AheadOfController,
    FencedLeaderEpoch,
    NotTheLeader,
    StalePartitionEpoch,
    /// The ISR is empty, names a broker twice or one that has no replica, or lacks the leader.
    InvalidIsr,
    /// The ISR would grow while the leader recovers, or the leader would recover again without an election.
    InvalidRecovery,
    /// A member of the ISR is fenced, shuts down, or is another process than the leader thinks.
    IneligibleReplica,
    /// The change completed a reassignment, and another replica leads now. It was made.
    NewLeaderElected,
    /// A controller on another node has rejected it, for a reason of which only the code is known.
    Elsewhere(ErrorCode),
}

impl Rejection {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::UnknownTopicId => ErrorCode::UnknownTopicId,
            Self::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Self::AheadOfController => ErrorCode::NotController,
            Self::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
            Self::NotTheLeader | Self::InvalidIsr | Self::InvalidRecovery => {
                ErrorCode::InvalidRequest
            }
            Self::StalePartitionEpoch => ErrorCode::InvalidUpdateVersion,
            Self::IneligibleReplica => ErrorCode::IneligibleReplica,
            Self::NewLeaderElected => ErrorCode::NewLeaderElected,
            Self::Elsewhere(code) => code,
        }
    }
}

/// The partition after the change, for each that is named.
pub type Reply = Vec<(Place, Result<Partition, Rejection>)>;

/// Decides AlterPartition of a broker with this epoch; each partition is changed or rejected by itself.
pub fn decide(
    view: View<'_>,
    broker: (NodeId, i64),
    wanted: &[Wanted],
) -> Decision<Result<Reply, Refusal>> {
    if let Err(refusal) = registered(view.image, broker) {
        return Decision::reply(Err(refusal));
    }
    let mut steps = Steps::new(view);
    let one = |wanted: &Wanted| {
        let reply = steps.take(|view| alter(view, broker.0, wanted));
        (wanted.place, reply)
    };
    let reply = wanted.iter().map(one).collect();
    steps.finish(Ok(reply))
}

fn alter(
    view: View<'_>,
    broker: NodeId,
    wanted: &Wanted,
) -> Decision<Result<Partition, Rejection>> {
    let (topic, index) = wanted.place;
    let Some(topic) = view.image.topics.get(&topic) else {
        return Decision::reply(Err(Rejection::UnknownTopicId));
    };
    let Some(partition) = topic.partitions.get(&index) else {
        return Decision::reply(Err(Rejection::UnknownPartition));
    };
    if let Err(rejection) = check(view.image, broker, (partition, wanted)) {
        return Decision::reply(Err(rejection));
    }
    let change = PartitionChange::new(TopicRules::of(view, topic), index, partition);
    let isr = wanted.isr.iter().map(|(member, _)| *member);
    let change = change.unclean_if_allowed().isr(isr.collect());
    let Some(changed) = change.recovering(wanted.recovering).build() else {
        return Decision::reply(Ok(partition.clone()));
    };
    let after = partition.merge(&changed.record);
    // Only a completed reassignment takes the leadership from the leader that asks.
    let reply = if after.leader == Some(broker) {
        Ok(after)
    } else {
        Err(Rejection::NewLeaderElected)
    };
    let mut decision = Decision::reply(reply);
    decision.change(Some(changed));
    decision
}

fn check(
    image: &MetadataImage,
    broker: NodeId,
    (partition, wanted): (&Partition, &Wanted),
) -> Result<(), Rejection> {
    if wanted.leader_epoch > partition.leader_epoch
        || wanted.partition_epoch > partition.partition_epoch
    {
        return Err(Rejection::AheadOfController);
    }
    if wanted.leader_epoch < partition.leader_epoch {
        return Err(Rejection::FencedLeaderEpoch);
    }
    if partition.leader != Some(broker) {
        return Err(Rejection::NotTheLeader);
    }
    if wanted.partition_epoch < partition.partition_epoch {
        return Err(Rejection::StalePartitionEpoch);
    }
    let isr: Vec<NodeId> = wanted.isr.iter().map(|(member, _)| *member).collect();
    if !is_valid_isr(&isr, &partition.replicas) || !isr.contains(&broker) {
        return Err(Rejection::InvalidIsr);
    }
    if wanted.recovering && (isr.len() > 1 || !partition.recovering) {
        return Err(Rejection::InvalidRecovery);
    }
    let is_eligible = |(member, epoch): &(NodeId, i64)| {
        let broker = image.brokers.get(member);
        broker.is_some_and(|broker| broker.is_active() && (*epoch == -1 || *epoch == broker.epoch))
    };
    if !wanted.isr.iter().all(is_eligible) {
        return Err(Rejection::IneligibleReplica);
    }
    Ok(())
}

fn is_valid_isr(isr: &[NodeId], replicas: &[NodeId]) -> bool {
    let mut sorted = isr.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() == isr.len() && isr.iter().all(|member| replicas.contains(member))
}
