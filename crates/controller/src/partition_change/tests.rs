//! The cases that Kafka's own tests of its builder pin down, in our words.

use ottla_metadata::partition::{MIGRATING, UNASSIGNED};
use ottla_metadata::{MetadataDelta, MetadataImage, MetadataVersion, Partition, Topic, versions};
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{PartitionChangeRecord, RegisterBrokerRecord};

use super::{About, Changed, Election, PartitionChange};
use crate::reassignment::Assignment;
use crate::topic_rules::TopicRules;
use crate::unclean_election::Cause;

const UNCLEAN: Election = Election::Unclean(Cause::Config);
const MIN_IN_SYNC: usize = 3;

fn nodes<const N: usize>(ids: [i32; N]) -> Vec<NodeId> {
    ids.map(NodeId).to_vec()
}

/// The directory of a broker's replica.
fn place(id: i32) -> Uuid {
    Uuid::from_parts(9, u64::try_from(id).unwrap())
}

/// A cluster whose brokers 1 to 5 are active, except `fenced`.
struct Stage {
    image: MetadataImage,
    topic: Topic,
    partition: Partition,
    min_in_sync: usize,
}

impl Stage {
    /// A partition of brokers 1 to 4, led by broker 1, with min ISR 3.
    fn new<const N: usize>(fenced: [i32; N]) -> Self {
        let mut delta = MetadataDelta::new(MetadataImage::default());
        for broker_id in 1..=5 {
            let record = RegisterBrokerRecord {
                broker_id,
                fenced: fenced.contains(&broker_id),
                ..RegisterBrokerRecord::default()
            };
            delta.replay(&record.into());
        }
        let stage = Self {
            image: delta.finish().0,
            topic: Topic {
                name: "t".to_owned(),
                id: Uuid::from_parts(7, 7),
                partitions: imbl::OrdMap::new(),
            },
            partition: Partition {
                replicas: nodes([1, 2, 3, 4]),
                directories: [1, 2, 3, 4].map(place).to_vec(),
                isr: nodes([1, 2, 3, 4]),
                removing: Vec::new(),
                adding: Vec::new(),
                leader: Some(NodeId(1)),
                recovering: false,
                leader_epoch: LeaderEpoch(100),
                partition_epoch: 200,
                eligible_leaders: Vec::new(),
                last_known_eligible_leaders: Vec::new(),
            },
            min_in_sync: MIN_IN_SYNC,
        };
        stage.at(MetadataVersion::LATEST).eligible(1)
    }

    fn at(mut self, version: MetadataVersion) -> Self {
        self.image
            .features
            .insert(versions::FEATURE.to_owned(), version.0);
        self
    }

    fn eligible(mut self, level: i16) -> Self {
        let name = versions::ELIGIBLE_LEADER_REPLICAS.to_owned();
        self.image.features.insert(name, level);
        self
    }

    /// The leader (0 for none), the ISR, the eligible leader replicas, the last known leader.
    fn with<const I: usize, const E: usize, const L: usize>(
        mut self,
        leader: i32,
        lists: ([i32; I], [i32; E], [i32; L]),
    ) -> Self {
        self.partition.leader = (leader > 0).then_some(NodeId(leader));
        self.partition.isr = nodes(lists.0);
        self.partition.eligible_leaders = nodes(lists.1);
        self.partition.last_known_eligible_leaders = nodes(lists.2);
        self
    }

    fn change(&self) -> PartitionChange<'_> {
        let rules = TopicRules {
            image: &self.image,
            topic: &self.topic,
            min_in_sync: self.min_in_sync,
            unclean_election: false,
        };
        PartitionChange::new(rules, PartitionIndex(0), &self.partition)
    }

    fn record(&self) -> PartitionChangeRecord {
        PartitionChangeRecord {
            topic_id: self.topic.id,
            partition_id: 0,
            ..PartitionChangeRecord::default()
        }
    }
}

fn record(changed: Option<Changed>) -> PartitionChangeRecord {
    changed.expect("something changes").record
}

fn leader(changed: Option<Changed>) -> Option<(i32, bool)> {
    changed.map(|changed| (changed.record.leader, changed.unclean.is_some()))
}

#[test]
fn what_is_so_already_makes_no_record() {
    let stage = Stage::new([]);
    for election in [Election::Preferred, Election::Online, UNCLEAN] {
        assert_eq!(stage.change().election(election).build(), None);
    }
    let same = stage.change().directory(NodeId(2), place(2));
    assert_eq!(same.build(), None);
    assert_eq!(stage.change().directory(NodeId(5), place(2)).build(), None);
    let before_directories = Stage::new([]).at(MetadataVersion(16)).eligible(0);
    let change = before_directories.change().directory(NodeId(2), place(9));
    assert_eq!(change.build(), None);
}

#[test]
fn a_leader_stays_unless_the_preferred_one_is_asked_for() {
    let stage = Stage::new([1]).with(3, ([2, 3, 4], [], []));
    assert_eq!(stage.change().build(), None);
    let preferred = || stage.change().election(Election::Preferred);
    assert_eq!(
        preferred().build(),
        None,
        "the first is fenced, and 3 leads"
    );
    let stage = Stage::new([]).with(3, ([1, 2, 3], [], []));
    let preferred = || stage.change().election(Election::Preferred);
    assert_eq!(leader(preferred().build()), Some((1, false)));
    assert_eq!(stage.change().build(), None);
    let out_of_sync = preferred().isr(nodes([2, 3, 4]));
    let record = record(out_of_sync.build());
    assert_eq!((record.leader, record.isr), (-2, Some(vec![2, 3, 4])));
}

#[test]
fn the_next_leader_is_in_sync_and_active_or_nobody_is() {
    let stage = Stage::new([2]);
    let without = |ids: Vec<NodeId>| stage.change().isr(ids);
    assert_eq!(leader(without(nodes([2, 3, 4])).build()), Some((3, false)));
    let old = Stage::new([2, 3, 4]).eligible(0);
    let gone = old.change().isr(nodes([2, 3, 4]));
    assert_eq!(leader(gone.build()), Some((-1, false)));
    let gone = old.change().isr(nodes([2, 3, 4])).election(UNCLEAN);
    assert_eq!(leader(gone.build()), Some((1, true)));
}

#[test]
fn a_smaller_isr_raises_the_leader_epoch_only_before_3_6() {
    for (version, leader) in [(7, 1), (11, 1), (12, -2), (18, -2), (33, -2)] {
        let stage = Stage::new([]).at(MetadataVersion(version)).eligible(0);
        let smaller = record(stage.change().isr(nodes([1, 2, 3])).build());
        assert_eq!(smaller.leader, leader, "{version}");
    }
    let stage = Stage::new([]).at(MetadataVersion(7)).eligible(0);
    let stage = stage.with(1, ([1, 2], [], []));
    let larger = record(stage.change().isr(nodes([1, 2, 3])).build());
    assert_eq!(larger.leader, -2);
    // The last member stays, so that nothing shrinks.
    let stage = stage.with(1, ([1], [], []));
    assert_eq!(
        leader(stage.change().isr(Vec::new()).build()),
        Some((-1, false))
    );
}

#[test]
fn a_replica_that_goes_raises_the_leader_epoch() {
    let stage = Stage::new([]);
    let assignment = |replicas, removing, adding| Assignment {
        replicas,
        removing,
        adding,
    };
    let change = stage.change().directory(NodeId(5), place(5));
    let target = assignment(nodes([3, 1, 5, 4]), Vec::new(), Vec::new());
    let change = record(change.isr(nodes([1, 3, 4])).assignment(target).build());
    assert_eq!(
        (change.leader, change.replicas),
        (1, Some(vec![3, 1, 5, 4]))
    );
    assert_eq!(change.directories.unwrap(), [3, 1, 5, 4].map(place));
    let order = assignment(nodes([4, 3, 2, 1]), Vec::new(), Vec::new());
    let order = record(stage.change().assignment(order).build());
    assert_eq!((order.leader, order.isr), (-2, None));
    assert_eq!(order.directories.unwrap(), [4, 3, 2, 1].map(place));
}

#[test]
fn directories_of_old_topics_are_filled_in() {
    let mut stage = Stage::new([]);
    stage.partition.directories.clear();
    assert_eq!(stage.change().build(), None);
    let change = record(stage.change().directory(NodeId(3), place(3)).build());
    let expected = [MIGRATING, MIGRATING, place(3), MIGRATING];
    assert_eq!(change.directories.unwrap(), expected);
    let added = Assignment::begin(&stage.partition, &nodes([1, 2, 3, 4, 6]));
    let change = record(stage.change().assignment(added).build());
    assert_eq!(change.directories.unwrap().last(), Some(&UNASSIGNED));
}

#[test]
fn a_reassignment_completes_with_the_isr_and_may_leave_nobody_to_lead() {
    let mut stage = Stage::new([]).with(1, ([1, 2, 3], [], []));
    stage.min_in_sync = 2;
    stage.partition.removing = nodes([1]);
    stage.partition.adding = nodes([4]);
    assert_eq!(stage.change().build(), None);
    let expected = PartitionChangeRecord {
        replicas: Some(vec![2, 3, 4]),
        isr: Some(vec![2, 3, 4]),
        leader: 2,
        removing_replicas: Some(Vec::new()),
        adding_replicas: Some(Vec::new()),
        directories: Some([2, 3, 4].map(place).to_vec()),
        ..stage.record()
    };
    let complete = stage.change().isr(nodes([1, 2, 3, 4]));
    assert_eq!(record(complete.build()), expected);
    for id in [2, 3, 4] {
        stage.image.brokers.remove(&NodeId(id));
    }
    let complete = stage.change().isr(nodes([1, 2, 3, 4]));
    let expected = PartitionChangeRecord {
        leader: -1,
        last_known_elr: Some(vec![1]),
        ..expected
    };
    assert_eq!(record(complete.build()), expected);
}

#[test]
fn an_unclean_leader_is_the_isr_recovers_and_ends_all_claims() {
    let stage = Stage::new([2, 3, 4]).with(0, ([], [3], [2]));
    let expected = PartitionChangeRecord {
        isr: Some(vec![1]),
        leader: 1,
        leader_recovery_state: 1,
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..stage.record()
    };
    let change = stage.change().election(UNCLEAN).build();
    let unclean = change.clone().unwrap().unclean.unwrap();
    assert_eq!(record(change), expected);
    assert_eq!(unclean.old_leader, Some(NodeId(2)));
    assert_eq!((unclean.old_epoch.0, unclean.new_epoch.0), (100, 101));
    let change = stage.change().election(UNCLEAN).isr(nodes([2]));
    assert_eq!(leader(change.build()), Some((1, true)));
    assert_eq!(stage.change().build(), None, "nobody may lead cleanly");
}

#[test]
fn whether_a_leader_recovers_is_kept_while_nobody_leads() {
    let mut stage = Stage::new([1, 2, 3, 4]).with(1, ([1], [], []));
    stage.partition.recovering = true;
    let gone = record(stage.change().isr(Vec::new()).build());
    assert_eq!((gone.leader, gone.leader_recovery_state), (-1, -1));
    let mut back = Stage::new([]);
    back.partition = stage.partition.merge(&gone);
    let change = record(back.change().build());
    assert_eq!((change.leader, change.leader_recovery_state), (1, -1));
    assert!(back.partition.merge(&change).recovering);
}

#[test]
fn replicas_that_leave_a_small_isr_stay_eligible() {
    let stage = Stage::new([3]);
    let shrunk = record(stage.change().isr(nodes([1, 2])).build());
    assert_eq!(shrunk.eligible_leader_replicas, Some(vec![3, 4]));
    assert_eq!((shrunk.leader, shrunk.last_known_elr), (-2, None));
    let enough = record(stage.change().isr(nodes([1, 2, 3])).build());
    assert_eq!(enough.eligible_leader_replicas, None);
    let without = Stage::new([3]).eligible(0);
    let shrunk = record(without.change().isr(nodes([1, 2])).build());
    assert_eq!(shrunk.eligible_leader_replicas, None);
    // Two replicas cannot have three in sync: both are enough.
    let mut two = Stage::new([]);
    two.partition.replicas = nodes([1, 2]);
    two.partition.isr = nodes([1, 2]);
    assert_eq!(two.change().build(), None);
    let shrunk = record(two.change().isr(nodes([1])).build());
    assert_eq!(shrunk.eligible_leader_replicas, Some(vec![2]));
}

#[test]
fn an_isr_that_is_large_enough_ends_all_claims() {
    let stage = Stage::new([3]).with(1, ([1, 2], [3], []));
    let grown = record(stage.change().isr(nodes([1, 2, 4])).build());
    assert_eq!(grown.eligible_leader_replicas, Some(Vec::new()));
    let stage = Stage::new([3]).with(1, ([1], [3], []));
    let small = record(stage.change().isr(nodes([1, 4])).build());
    assert_eq!(small.eligible_leader_replicas, None, "3 stays eligible");
    let joined = record(stage.change().isr(nodes([1, 3])).build());
    assert_eq!(joined.eligible_leader_replicas, Some(Vec::new()));
}

#[test]
fn a_replica_that_crashed_is_not_eligible() {
    let stage = Stage::new([]).with(1, ([1], [2, 3], []));
    let crashed = |id| stage.change().about(About::ShutDownUncleanly(NodeId(id)));
    let change = record(crashed(3).build());
    assert_eq!(change.eligible_leader_replicas, Some(vec![2]));
    assert_eq!(change.leader, -2);
    let change = record(crashed(1).build());
    assert_eq!((change.leader, change.isr), (2, Some(vec![2])));
    assert_eq!(change.eligible_leader_replicas, Some(vec![3]));
}

#[test]
fn an_eligible_replica_leads_when_nobody_is_in_sync() {
    let stage = Stage::new([1]).with(1, ([1], [3], []));
    let change = stage.change().isr(Vec::new()).election(Election::Preferred);
    let changed = change.build().unwrap();
    assert_eq!(changed.unclean, None);
    let expected = PartitionChangeRecord {
        isr: Some(vec![3]),
        eligible_leader_replicas: Some(vec![1]),
        leader: 3,
        ..stage.record()
    };
    assert_eq!(changed.record, expected);
    // Also where any replica would do.
    let change = stage.change().isr(Vec::new()).election(UNCLEAN);
    assert_eq!(change.build().unwrap(), changed);
}

#[test]
fn the_last_leader_is_remembered_once_and_forgotten_with_the_next() {
    let stage = Stage::new([1, 2, 3, 4]);
    let change = record(stage.change().isr(Vec::new()).build());
    assert_eq!((change.leader, &change.isr), (-1, &Some(Vec::new())));
    assert_eq!(change.eligible_leader_replicas, Some(vec![1, 2, 3, 4]));
    assert_eq!(change.last_known_elr, Some(vec![1]));
    let mut without_leader = Stage::new([1, 2, 3, 4]);
    without_leader.partition = stage.partition.merge(&change);
    let crashed = without_leader
        .change()
        .about(About::ShutDownUncleanly(NodeId(2)));
    let change = record(crashed.build());
    assert_eq!((change.leader, change.last_known_elr), (-2, None));
    let back = without_leader.change().about(About::Returns(NodeId(4)));
    let change = record(back.build());
    assert_eq!(
        (change.leader, change.last_known_elr),
        (4, Some(Vec::new()))
    );
}

#[test]
fn the_last_leader_leads_again_only_when_nobody_has_a_better_claim() {
    let alone = Stage::new([]).with(0, ([], [], [1]));
    for election in [Election::Preferred, Election::Online, UNCLEAN] {
        let changed = alone.change().election(election).build().unwrap();
        assert_eq!(
            (changed.record.leader, changed.record.leader_recovery_state),
            (1, 1)
        );
        assert_eq!(changed.unclean.unwrap().cause, Cause::LastKnownLeader);
    }
    let behind_eligible = Stage::new([3]).with(0, ([], [3], [1]));
    assert_eq!(behind_eligible.change().build(), None);
    let of_several = Stage::new([]).with(0, ([], [], [1, 2]));
    assert_eq!(of_several.change().build(), None);
    let fenced = Stage::new([1, 2, 3, 4]).with(0, ([], [], [1]));
    for election in [Election::Preferred, Election::Online, UNCLEAN] {
        assert_eq!(fenced.change().election(election).build(), None);
    }
}

#[test]
fn a_replica_in_a_directory_that_is_offline_does_not_lead() {
    let mut stage = Stage::new([2]);
    let broker = RegisterBrokerRecord {
        broker_id: 3,
        fenced: false,
        log_dirs: vec![place(8)],
        ..RegisterBrokerRecord::default()
    };
    let mut delta = MetadataDelta::new(stage.image.clone());
    delta.replay(&broker.into());
    stage.image = delta.finish().0;
    let change = stage.change().about(About::Leaves(NodeId(1)));
    assert_eq!(leader(change.build()), Some((4, false)));
}
