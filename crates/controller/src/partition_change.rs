//! Makes the `PartitionChangeRecord`s: the leader, the ISR, the eligible leader replicas, the replicas and the
//! directories of one partition change here and nowhere else.
//!
//! A caller states what the partition should be; [`PartitionChange::build`] completes a reassignment that can be
//! completed, works out the eligible leader replicas (KIP-966), elects a leader, and names the fields that differ. The
//! rules are those of Kafka's `PartitionChangeBuilder`. The ISR and the eligible leader replicas never overlap, and a
//! leader is in the ISR of the partition that results.

use ottla_metadata::Partition;
use ottla_metadata::partition::{MIGRATING, NO_LEADER, RECOVERED, RECOVERING};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::PartitionChangeRecord;
use ottla_protocol::planted::{Bug, is_planted};

use crate::placement;
use crate::reassignment;
use crate::topic_rules::TopicRules;
use crate::unclean_election::{Cause, UncleanElection};

/// Which replicas may be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Election {
    /// The first replica, before a leader that could stay.
    Preferred,
    /// A leader stays while it can.
    Online,
    /// Like `Online`, but rather any active replica than none.
    Unclean(Cause),
}

/// A broker that is about to change, which the image does not show yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Nothing,
    /// It may not lead, and leaves the ISR.
    Leaves(NodeId),
    /// It may lead although it is fenced.
    Returns(NodeId),
    /// Like `Leaves`, and it may have lost records: it is no eligible leader replica either.
    ShutDownUncleanly(NodeId),
}

/// A change to one partition, to be finished by [`PartitionChange::build`].
#[derive(Debug)]
pub(crate) struct PartitionChange<'a> {
    rules: TopicRules<'a>,
    index: PartitionIndex,
    partition: &'a Partition,
    election: Election,
    about: About,
    isr: Vec<NodeId>,
    replicas: Vec<NodeId>,
    removing: Vec<NodeId>,
    adding: Vec<NodeId>,
    recovering: bool,
    /// The directories that the change sets.
    directories: Vec<(NodeId, Uuid)>,
}

/// What a change comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Changed {
    pub record: PartitionChangeRecord,
    /// The election, if it may lose acknowledged records.
    pub unclean: Option<UncleanElection>,
}

/// The leader that is elected, and whether it may lack acknowledged records, with the reason.
type Elected = (Option<NodeId>, Option<Cause>);

impl<'a> PartitionChange<'a> {
    pub(crate) fn new(
        rules: TopicRules<'a>,
        index: PartitionIndex,
        partition: &'a Partition,
    ) -> Self {
        Self {
            rules,
            index,
            partition,
            election: Election::Online,
            about: About::Nothing,
            isr: partition.isr.clone(),
            replicas: partition.replicas.clone(),
            removing: partition.removing.clone(),
            adding: partition.adding.clone(),
            recovering: partition.recovering,
            directories: Vec::new(),
        }
    }

    /// Any active replica may lead, if the topic allows unclean elections.
    pub(crate) fn unclean_if_allowed(mut self) -> Self {
        if self.rules.unclean_election {
            self.election = Election::Unclean(Cause::Config);
        }
        self
    }

    pub(crate) fn election(mut self, election: Election) -> Self {
        self.election = election;
        self
    }

    pub(crate) fn about(mut self, about: About) -> Self {
        self.about = about;
        if let About::Leaves(gone) | About::ShutDownUncleanly(gone) = about {
            self.isr.retain(|member| *member != gone);
        }
        self
    }

    pub(crate) fn isr(mut self, isr: Vec<NodeId>) -> Self {
        self.isr = isr;
        self
    }

    pub(crate) fn recovering(mut self, recovering: bool) -> Self {
        self.recovering = recovering;
        self
    }

    /// The replicas, with those among them that a reassignment removes and adds.
    pub(crate) fn assignment(mut self, assignment: reassignment::Assignment) -> Self {
        self.replicas = assignment.replicas;
        self.removing = assignment.removing;
        self.adding = assignment.adding;
        self
    }

    /// The replica of `broker` lies in `directory`.
    pub(crate) fn directory(mut self, broker: NodeId, directory: Uuid) -> Self {
        self.directories.push((broker, directory));
        self
    }

    /// The change; none where nothing differs.
    pub(crate) fn build(mut self) -> Option<Changed> {
        self.complete_reassignment();
        let mut eligible = self.eligible();
        let (leader, unclean) = self.elect(&eligible);
        let unclean = unclean.zip(leader);
        let is_new = leader != self.partition.leader || unclean.is_some();
        if let Some((_, leader)) = unclean {
            self.isr = vec![leader];
            self.recovering = true;
            // They may have records that the new leader lacks.
            eligible.clear();
        } else if let Some(leader) = leader.filter(|leader| eligible.contains(leader)) {
            self.isr = vec![leader];
            eligible.retain(|replica| *replica != leader);
        }
        if self.isr.is_empty() && !self.has_eligible_leaders() {
            // Without eligible leader replicas the last member stays: it alone has every acknowledged record.
            self.isr.clone_from(&self.partition.isr);
        }
        let raises_epoch = is_new || self.raises_epoch();
        let mut record = self.record(&eligible);
        if raises_epoch {
            record.leader = leader.map_or(NO_LEADER, |leader| leader.0);
            record.last_known_elr = self.last_known(leader);
        }
        let partition = (self.rules.topic, self.index);
        let unclean = unclean
            .map(|(cause, leader)| UncleanElection::of(partition, self.partition, leader, cause));
        (record != self.empty()).then_some(Changed { record, unclean })
    }

    fn has_eligible_leaders(&self) -> bool {
        self.rules.image.has_eligible_leader_replicas()
    }

    fn complete_reassignment(&mut self) {
        let assignment = reassignment::Assignment {
            replicas: self.replicas.clone(),
            removing: self.removing.clone(),
            adding: self.adding.clone(),
        };
        if let Some((replicas, isr)) = assignment.completed(&self.isr) {
            self.replicas = replicas;
            self.isr = isr;
            self.removing.clear();
            self.adding.clear();
        }
    }

    /// The eligible leader replicas. While the ISR is smaller than it has to be for the high watermark to advance, a
    /// replica that leaves it still has every acknowledged record.
    fn eligible(&self) -> Vec<NodeId> {
        if !self.has_eligible_leaders() || self.isr.len() >= self.min_in_sync() {
            return Vec::new();
        }
        let known = self.partition.eligible_leaders.iter();
        let mut eligible: Vec<NodeId> = known.chain(&self.partition.isr).copied().collect();
        eligible.sort_unstable();
        eligible.dedup();
        eligible.retain(|replica| {
            let is_clean = self.about != About::ShutDownUncleanly(*replica)
                || is_planted(Bug::EligibleAfterUncleanShutdown);
            is_clean && !self.isr.contains(replica) && self.replicas.contains(replica)
        });
        eligible
    }

    /// The smallest ISR with which the high watermark advances.
    fn min_in_sync(&self) -> usize {
        self.rules.min_in_sync.min(self.replicas.len())
    }

    fn elect(&self, eligible: &[NodeId]) -> Elected {
        let is_clean = |replica: &NodeId| {
            let in_sync = self.isr.contains(replica);
            in_sync || (self.isr.is_empty() && eligible.contains(replica))
        };
        let may_lead = |replica: &NodeId| self.may_lead(*replica);
        let mut clean = self.preference().into_iter().filter(is_clean);
        if let Some(leader) = clean.find(may_lead) {
            return (Some(leader), None);
        }
        if let Some(leader) = self.last_known_leader(eligible) {
            return (Some(leader), Some(Cause::LastKnownLeader));
        }
        match self.election {
            Election::Unclean(cause) => {
                let any = self.replicas.iter().find(|replica| may_lead(replica));
                (any.copied(), Some(cause))
            }
            Election::Preferred | Election::Online => (None, None),
        }
    }

    /// The candidates, the best first. The leader that there is stays if it can.
    fn preference(&self) -> Vec<NodeId> {
        let replicas = self.replicas.iter().copied();
        let leader = self.partition.leader.into_iter();
        match self.election {
            Election::Preferred => {
                let first = replicas.clone().take(1);
                first.chain(leader).chain(replicas.skip(1)).collect()
            }
            Election::Online | Election::Unclean(_) => leader.chain(replicas).collect(),
        }
    }

    /// The last leader of a partition of which no replica is in sync or eligible. It may lack records, but no other
    /// replica has more.
    fn last_known_leader(&self, eligible: &[NodeId]) -> Option<NodeId> {
        let [last] = *self.partition.last_known_eligible_leaders else {
            return None;
        };
        let is_asked = self.has_eligible_leaders() && self.isr.is_empty() && eligible.is_empty();
        let is_asked = is_asked && self.replicas.contains(&last);
        (is_asked && self.may_lead(last)).then_some(last)
    }

    /// Whether a replica is on an active broker, in a directory that is online.
    fn may_lead(&self, replica: NodeId) -> bool {
        let Some(broker) = self.rules.image.brokers.get(&replica) else {
            return false;
        };
        let is_active = match self.about {
            About::Leaves(gone) | About::ShutDownUncleanly(gone) if gone == replica => false,
            About::Returns(back) if back == replica => !broker.in_controlled_shutdown,
            _ => broker.is_active() || is_planted(Bug::FencedBrokerLeads),
        };
        let mut set = self.directories.iter().rev();
        let set = set.find(|(of, _)| *of == replica);
        let is_online = match set {
            Some((_, directory)) => broker.has_online(*directory),
            None => broker.is_online(self.partition),
        };
        is_active && is_online
    }

    /// Whether the leader epoch rises although the leader stays: a replica that is removed must not be fetched for any
    /// more, and brokers at old levels need it when the ISR shrinks (KAFKA-15021).
    fn raises_epoch(&self) -> bool {
        let gone = |old: &[NodeId], new: &[NodeId]| old.iter().any(|node| !new.contains(node));
        let version = self.rules.image.metadata_version();
        let partition = self.partition;
        gone(&partition.replicas, &self.replicas)
            || (version.raises_epoch_on_isr_shrink() && gone(&partition.isr, &self.isr))
    }

    /// The last leader is remembered when a partition first loses its leader, and forgotten once it has one.
    fn last_known(&self, leader: Option<NodeId>) -> Option<Vec<i32>> {
        let known = &self.partition.last_known_eligible_leaders;
        match (leader, self.partition.leader) {
            _ if !self.has_eligible_leaders() => None,
            (None, Some(last)) if known.is_empty() => Some(vec![last.0]),
            (Some(_), _) if !known.is_empty() => Some(Vec::new()),
            _ => None,
        }
    }

    fn empty(&self) -> PartitionChangeRecord {
        PartitionChangeRecord {
            topic_id: self.rules.topic.id,
            partition_id: self.index.0,
            ..PartitionChangeRecord::default()
        }
    }

    /// The record, without the leader.
    fn record(&self, eligible: &[NodeId]) -> PartitionChangeRecord {
        let partition = self.partition;
        let mut known = partition.eligible_leaders.clone();
        known.sort_unstable();
        let mut record = PartitionChangeRecord {
            isr: differing(&partition.isr, &self.isr),
            replicas: differing(&partition.replicas, &self.replicas),
            removing_replicas: differing(&partition.removing, &self.removing),
            adding_replicas: differing(&partition.adding, &self.adding),
            eligible_leader_replicas: differing(&known, eligible),
            directories: self.changed_directories(),
            ..self.empty()
        };
        if self.recovering != partition.recovering {
            let states = [RECOVERED, RECOVERING];
            record.leader_recovery_state = states[usize::from(self.recovering)];
        }
        record
    }

    fn changed_directories(&self) -> Option<Vec<Uuid>> {
        let image = self.rules.image;
        if !image.metadata_version().has_directory_assignment() {
            return None;
        }
        let known = directories(self.partition);
        let directory = |replica: &NodeId| {
            let set = self.directories.iter().rev();
            let set = set.chain(&known).find(|(broker, _)| broker == replica);
            set.map_or_else(|| placement::directory(image, *replica), |(_, id)| *id)
        };
        let new: Vec<Uuid> = self.replicas.iter().map(directory).collect();
        let is_same = new.iter().eq(known.iter().map(|(_, id)| id));
        (!is_same).then_some(new)
    }
}

/// The directory of each replica. Topics that Kafka created before 3.7 have none.
fn directories(partition: &Partition) -> Vec<(NodeId, Uuid)> {
    let unknown = std::iter::repeat(&MIGRATING);
    let directories = partition.directories.iter().chain(unknown).copied();
    partition
        .replicas
        .iter()
        .copied()
        .zip(directories)
        .collect()
}

fn differing(old: &[NodeId], new: &[NodeId]) -> Option<Vec<i32>> {
    (old != new).then(|| new.iter().map(|node| node.0).collect())
}

#[cfg(test)]
mod tests;
