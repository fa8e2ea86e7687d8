//! Makes the `PartitionChangeRecord`s: the leader, the ISR, the eligible leader replicas and the directories of one
//! partition change here and nowhere else.
//!
//! A record names only the fields that differ from the partition. [`Claim`] says whether a replica may lead, and
//! [`PartitionChange::elect`] what its election does to the ISR and to the eligible leader replicas (KIP-966). Which
//! replica is elected, and when, is decided in `brokers` and `elections`.

use ottla_metadata::Partition;
use ottla_metadata::partition::{NO_LEADER, RECOVERING, UNASSIGNED};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{MetadataRecord, PartitionChangeRecord};

/// What a replica has of the acknowledged records, the best claim to lead first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// It is in the ISR: it has all of them.
    InSync,
    /// The ISR is empty and it is an eligible leader replica: it has all of them.
    Eligible,
    /// Nobody is in the ISR or eligible, and it led last: it may lack some, but no other replica has more.
    LastKnownLeader,
    /// It may lack any of them.
    None,
}

impl Claim {
    pub(crate) fn of(partition: &Partition, replica: NodeId) -> Self {
        let (isr, eligible) = (&partition.isr, &partition.eligible_leaders);
        if isr.contains(&replica) {
            Self::InSync
        } else if isr.is_empty() && eligible.contains(&replica) {
            Self::Eligible
        } else if isr.is_empty()
            && eligible.is_empty()
            && partition.last_known_eligible_leaders == [replica]
        {
            Self::LastKnownLeader
        } else {
            Self::None
        }
    }

    /// Whether an election of this replica loses no acknowledged record.
    pub(crate) fn is_clean(self) -> bool {
        matches!(self, Self::InSync | Self::Eligible)
    }
}

/// A change to one partition, to be finished by [`PartitionChange::record`].
#[derive(Debug)]
pub(crate) struct PartitionChange<'a> {
    partition: &'a Partition,
    record: PartitionChangeRecord,
}

impl<'a> PartitionChange<'a> {
    pub(crate) fn new(topic: Uuid, index: PartitionIndex, partition: &'a Partition) -> Self {
        let record = PartitionChangeRecord {
            topic_id: topic,
            partition_id: index.0,
            ..PartitionChangeRecord::default()
        };
        Self { partition, record }
    }

    /// `leader` leads. One from outside the ISR becomes the whole ISR. One that may lack acknowledged records leads a
    /// partition that is recovering, and ends the claims of the eligible leader replicas: they may have records that
    /// it lacks.
    pub(crate) fn elect(mut self, leader: NodeId) -> Self {
        self.record.leader = leader.0;
        let eligible = match Claim::of(self.partition, leader) {
            Claim::InSync => return self,
            Claim::Eligible => {
                let others = self.partition.eligible_leaders.iter();
                others.filter(|other| **other != leader).copied().collect()
            }
            Claim::LastKnownLeader | Claim::None => {
                self.record.leader_recovery_state = RECOVERING;
                Vec::new()
            }
        };
        self.record.isr = differing(&self.partition.isr, &[leader]);
        self.record.eligible_leader_replicas =
            differing(&self.partition.eligible_leaders, &eligible);
        self.record.last_known_elr = differing(&self.partition.last_known_eligible_leaders, &[]);
        self
    }

    /// Nobody leads. The ISR stays: its members have every acknowledged record, and may lead when they are back.
    pub(crate) fn without_leader(mut self) -> Self {
        self.record.leader = NO_LEADER;
        self
    }

    /// The replica of `broker` lies in `directory`. A broker without a replica changes nothing.
    pub(crate) fn directory(mut self, broker: NodeId, directory: Uuid) -> Self {
        let replicas = &self.partition.replicas;
        let mut directories = self.partition.directories.clone();
        // Topics that Kafka created before 3.7 have no directories.
        directories.resize(replicas.len(), UNASSIGNED);
        let place = replicas.iter().position(|replica| *replica == broker);
        let Some(known) = place.and_then(|place| directories.get_mut(place)) else {
            return self;
        };
        if *known != directory {
            *known = directory;
            self.record.directories = Some(directories);
        }
        self
    }

    /// The record; none where nothing differs.
    pub(crate) fn record(self) -> Option<MetadataRecord> {
        let unchanged = PartitionChangeRecord {
            topic_id: self.record.topic_id,
            partition_id: self.record.partition_id,
            ..PartitionChangeRecord::default()
        };
        (self.record != unchanged).then(|| self.record.into())
    }
}

fn differing(old: &[NodeId], new: &[NodeId]) -> Option<Vec<i32>> {
    (old != new).then(|| new.iter().map(|node| node.0).collect())
}

#[cfg(test)]
mod tests {
    use super::{Claim, PartitionChange};
    use ottla_metadata::Partition;
    use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
    use ottla_protocol::messages::metadata::{MetadataRecord, PartitionChangeRecord};

    fn nodes<const N: usize>(ids: [i32; N]) -> Vec<NodeId> {
        ids.map(NodeId).to_vec()
    }

    /// A partition of brokers 1 to 3 that nobody leads.
    fn partition(isr: Vec<NodeId>, eligible: Vec<NodeId>, last_known: Vec<NodeId>) -> Partition {
        Partition {
            replicas: nodes([1, 2, 3]),
            directories: Vec::new(),
            isr,
            removing: Vec::new(),
            adding: Vec::new(),
            leader: None,
            recovering: false,
            leader_epoch: LeaderEpoch(3),
            partition_epoch: 7,
            eligible_leaders: eligible,
            last_known_eligible_leaders: last_known,
        }
    }

    fn change(partition: &Partition) -> PartitionChange<'_> {
        PartitionChange::new(Uuid::from_parts(7, 7), PartitionIndex(0), partition)
    }

    fn after(partition: &Partition, change: PartitionChange<'_>) -> Partition {
        let Some(MetadataRecord::PartitionChange(record)) = change.record() else {
            panic!("nothing changes");
        };
        partition.merge(&record)
    }

    fn elected(partition: &Partition, leader: i32) -> Partition {
        let after = after(partition, change(partition).elect(NodeId(leader)));
        assert_eq!(after.leader, Some(NodeId(leader)));
        assert_eq!(after.leader_epoch, LeaderEpoch(4));
        after
    }

    #[test]
    fn a_replica_of_the_isr_leads_and_nothing_else_changes() {
        let before = partition(nodes([2, 3]), nodes([1]), nodes([]));
        let after = elected(&before, 3);
        assert_eq!((&after.isr, after.recovering), (&before.isr, false));
        assert_eq!(after.eligible_leaders, before.eligible_leaders);
    }

    #[test]
    fn an_eligible_leader_is_the_isr_and_the_others_stay_eligible() {
        let before = partition(nodes([]), nodes([1, 2]), nodes([3]));
        let after = elected(&before, 2);
        assert_eq!((after.isr, after.recovering), (nodes([2]), false));
        assert_eq!(after.eligible_leaders, nodes([1]));
        assert!(after.last_known_eligible_leaders.is_empty());
    }

    #[test]
    fn a_leader_that_may_lack_records_leaves_nobody_eligible_and_recovers() {
        let unclean = partition(nodes([1]), nodes([2]), nodes([1, 2]));
        let last_known = partition(nodes([]), nodes([]), nodes([3]));
        for before in [unclean, last_known] {
            let after = elected(&before, 3);
            assert_eq!((after.isr, after.recovering), (nodes([3]), true));
            assert!(after.eligible_leaders.is_empty());
            assert!(after.last_known_eligible_leaders.is_empty());
        }
    }

    #[test]
    fn eligible_leaders_count_only_while_nobody_is_in_sync() {
        let claims = |partition: Partition| [1, 2, 3].map(|id| Claim::of(&partition, NodeId(id)));
        let in_sync = partition(nodes([1]), nodes([2]), nodes([3]));
        assert_eq!(claims(in_sync), [Claim::InSync, Claim::None, Claim::None]);
        let eligible = partition(nodes([]), nodes([2]), nodes([3]));
        assert_eq!(
            claims(eligible),
            [Claim::None, Claim::Eligible, Claim::None]
        );
        let last_known = partition(nodes([]), nodes([]), nodes([3]));
        let expected = [Claim::None, Claim::None, Claim::LastKnownLeader];
        assert_eq!(claims(last_known), expected);
        let of_several = partition(nodes([]), nodes([]), nodes([1, 3]));
        assert_eq!(claims(of_several), [Claim::None; 3]);
    }

    #[test]
    fn what_is_so_already_makes_no_record() {
        let mut before = partition(nodes([1]), nodes([]), nodes([]));
        before.directories = [8, 9, 10].map(|id| Uuid::from_parts(0, id)).to_vec();
        let same = |broker, id| change(&before).directory(NodeId(broker), Uuid::from_parts(0, id));
        assert_eq!(same(2, 9).record(), None);
        assert_eq!(same(4, 9).record(), None, "it has no replica");
        let moved = after(&before, same(2, 11));
        assert_eq!(moved.directories[1], Uuid::from_parts(0, 11));
        assert_eq!(moved.leader_epoch, before.leader_epoch);
        let unchanged = before.merge(&PartitionChangeRecord::default());
        assert_eq!(unchanged.leader_epoch, before.leader_epoch);
    }
}
