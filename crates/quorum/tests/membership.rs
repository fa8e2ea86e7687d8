//! Changes of the voters, step by step: who is refused, who may vote, and what a crash leaves.

#[path = "membership/cluster.rs"]
mod cluster;
#[expect(
    dead_code,
    reason = "the simulation of faults looks at more of a machine"
)]
#[path = "quorum/machine.rs"]
mod machine;

use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::messages::metadata::{MetadataRecord, TopicRecord};
use ottla_protocol::time::Timestamp;
use ottla_quorum::{NodeError, Voter, VoterChange, VotersRefused};

use crate::cluster::{Cluster, recover, survey};
use crate::machine::Machine;

fn remove(voter: &Voter) -> VoterChange {
    VoterChange::Remove {
        node_id: voter.node_id,
        directory_id: voter.directory_id,
    }
}

fn propose(cluster: &mut Cluster, change: &VoterChange) -> Result<(), VotersRefused> {
    let leader = cluster.leader().expect("somebody leads");
    let now = Timestamp(cluster.now);
    let node = cluster.machines[leader].node.as_mut().expect("it leads");
    node.propose_voters(change, now).map(drop)
}

/// Proposes a topic, and says whether it was committed.
fn commits(cluster: &mut Cluster) -> bool {
    let Some(leader) = cluster.leader() else {
        return false;
    };
    let node = cluster.machines[leader].node.as_mut().expect("it leads");
    let record: MetadataRecord = TopicRecord {
        name: format!("topic-{}", cluster.now),
        topic_id: Uuid::from_parts(3, cluster.now.unsigned_abs()),
        ..TopicRecord::default()
    }
    .into();
    let epoch = node.led_epoch().expect("it leads");
    let now = Timestamp(cluster.now);
    let Ok(end) = node.propose(epoch, &[record], MetadataVersion::LATEST, now) else {
        return false;
    };
    cluster.ready(leader);
    cluster.deliver();
    cluster.run(3);
    let node = cluster.machines[leader].node.as_ref();
    node.is_some_and(|node| node.end_offset() >= end)
}

#[test]
fn a_controller_becomes_a_voter_after_it_has_caught_up() {
    let mut cluster = Cluster::new(1, 2);
    cluster.elect();
    let add = VoterChange::Add(cluster.machines[1].voter.clone());
    let refused = propose(&mut cluster, &add).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::RequestTimedOut);
    assert!(matches!(refused, VotersRefused::Behind(NodeId(2), _)));
    cluster.greet();
    assert!(propose(&mut cluster, &add).is_err(), "it has no record yet");
    cluster.run(5);
    assert_eq!(propose(&mut cluster, &add), Ok(()));
    let second = remove(&cluster.machines[0].voter);
    assert_eq!(propose(&mut cluster, &second), Err(VotersRefused::Pending));
    cluster.run(5);
    for index in 0..3 {
        assert_eq!(cluster.voters_of(index), [1, 2], "the third observes");
    }
    assert!(commits(&mut cluster));
    // Both are needed now.
    cluster.unreachable = vec![1];
    assert!(!commits(&mut cluster));
}

/// Raft's log of a node that took its log over begins where that was, so a controller that joins needs a snapshot.
#[test]
fn a_node_alone_that_took_over_a_log_grows() {
    let mut cluster = Cluster::new(1, 1);
    cluster.elect();
    for _ in 0..5 {
        assert!(commits(&mut cluster));
    }
    cluster.stop(0, None);
    cluster.forget_raft(0);
    cluster.start(0);
    cluster.elect();
    cluster.greet();
    cluster.run(20);
    let add = VoterChange::Add(cluster.machines[1].voter.clone());
    assert_eq!(propose(&mut cluster, &add), Ok(()));
    cluster.run(5);
    assert!(commits(&mut cluster));
    for machine in &cluster.machines {
        assert_eq!(machine.loader.image().topics.len(), 6);
        assert_eq!(machine.node.as_ref().unwrap().voters().len(), 2);
    }
    cluster.unreachable = vec![1];
    assert!(!commits(&mut cluster), "both are needed");
}

/// The Kafka log of a killed process has changes that are after the checkpoint of Raft's log. They count at once, and stay.
#[test]
fn changes_that_the_log_has_count_after_a_kill_at_once() {
    let mut cluster = Cluster::new(1, 2);
    cluster.elect();
    cluster.greet();
    cluster.run(5);
    for index in [1, 2] {
        let add = VoterChange::Add(cluster.machines[index].voter.clone());
        assert_eq!(propose(&mut cluster, &add), Ok(()));
        cluster.run(5);
    }
    assert!(commits(&mut cluster));
    let ends = [0, 1, 2].map(|index| cluster.end(index));
    for index in 0..3 {
        cluster.stop(index, None);
    }
    for (index, end) in ends.iter().enumerate() {
        cluster.start(index);
        assert_eq!(cluster.end(index), *end, "machine {index} has lost nothing");
        assert_eq!(cluster.voters_of(index).len(), 3);
    }
    // Nobody leads alone.
    cluster.unreachable = vec![1, 2];
    cluster.run(40);
    assert_eq!(cluster.leader(), None);
    cluster.unreachable = vec![0];
    cluster.elect();
    assert!(commits(&mut cluster));
}

#[test]
fn a_silent_observer_is_not_taken() {
    let mut cluster = Cluster::new(1, 1);
    cluster.elect();
    cluster.greet();
    cluster.run(5);
    cluster.unreachable = vec![1];
    cluster.run(150);
    let add = VoterChange::Add(cluster.machines[1].voter.clone());
    assert!(matches!(
        propose(&mut cluster, &add),
        Err(VotersRefused::Behind(..))
    ));
}

#[test]
fn a_change_that_makes_no_sense_is_refused_with_kafkas_codes() {
    let mut cluster = Cluster::new(1, 1);
    let first = cluster.machines[0].voter.clone();
    let now = Timestamp(cluster.now);
    let node = cluster.machines[1].node.as_mut().unwrap();
    let refused = node.propose_voters(&remove(&first), now).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotLeaderOrFollower);
    cluster.elect();
    let other_disk = Voter {
        directory_id: Uuid::from_parts(9, 9),
        ..first.clone()
    };
    let codes = [
        (
            VoterChange::Add(other_disk.clone()),
            ErrorCode::DuplicateVoter,
        ),
        (remove(&other_disk), ErrorCode::VoterNotFound),
        // A quorum keeps its last voter.
        (remove(&first), ErrorCode::VoterNotFound),
        (VoterChange::Update(other_disk), ErrorCode::VoterNotFound),
    ];
    for (change, code) in codes {
        assert_eq!(propose(&mut cluster, &change).unwrap_err().code(), code);
    }
    assert!(commits(&mut cluster), "nothing has happened");
}

#[test]
fn a_leader_that_is_removed_hands_over_and_observes() {
    let mut cluster = Cluster::new(3, 0);
    let leader = cluster.elect();
    let voter = cluster.machines[leader].voter.clone();
    propose(&mut cluster, &remove(&voter)).unwrap();
    cluster.ready(leader);
    cluster.deliver();
    cluster.run(40);
    let next = cluster.leader().expect("another one leads");
    assert_ne!(next, leader);
    assert!(commits(&mut cluster));
    let ends: Vec<_> = cluster
        .machines
        .iter()
        .map(|one| one.node.as_ref().unwrap().end_offset())
        .collect();
    assert_eq!(ends[leader], ends[next], "it goes on as an observer");
    assert_eq!(cluster.voters_of(leader).len(), 2);
}

#[test]
fn a_replaced_disk_has_no_vote_until_it_is_added_anew() {
    let mut cluster = Cluster::new(3, 0);
    let leader = cluster.elect();
    let [second, third] = [(leader + 1) % 3, (leader + 2) % 3];
    let old = cluster.machines[third].voter.clone();
    assert!(commits(&mut cluster));
    cluster.replace_disk(third, Uuid::from_parts(8, 8));
    cluster.greet();
    cluster.run(10);
    assert!(commits(&mut cluster), "two of three are there");
    cluster.unreachable = vec![second];
    assert!(!commits(&mut cluster), "the new disk is no voter");
    cluster.unreachable = vec![leader];
    cluster.run(100);
    assert_eq!(cluster.leader(), None, "nor does it elect one");
    cluster.unreachable.clear();
    cluster.elect();
    propose(&mut cluster, &remove(&old)).unwrap();
    cluster.run(10);
    cluster.greet();
    cluster.run(10);
    let add = VoterChange::Add(cluster.machines[third].voter.clone());
    propose(&mut cluster, &add).unwrap();
    cluster.run(10);
    let leader = cluster.leader().expect("somebody leads");
    cluster.unreachable = vec![(0..3).find(|one| *one != leader && *one != third).unwrap()];
    if leader == third {
        cluster.unreachable = vec![(third + 1) % 3];
    }
    cluster.run(30);
    assert!(commits(&mut cluster), "it counts now");
}

#[test]
fn a_wiped_disk_elects_nobody() {
    let mut cluster = Cluster::new(3, 0);
    let leader = cluster.elect();
    let [second, third] = [(leader + 1) % 3, (leader + 2) % 3];
    cluster.unreachable = vec![second];
    assert!(commits(&mut cluster), "the second lacks it");
    let voters: Vec<Voter> = cluster
        .machines
        .iter()
        .map(|one| one.voter.clone())
        .collect();
    let mut wiped = Machine::formatted(third, &voters[third], &[], 0);
    let refused = wiped.start(&voters).unwrap_err();
    assert!(matches!(refused, NodeError::Wiped { .. }), "{refused}");
    // Nobody tells it that it is a voter.
    let others: Vec<Voter> = [leader, second]
        .iter()
        .map(|one| voters[*one].clone())
        .collect();
    wiped.start(&others).unwrap();
    cluster.machines[third] = wiped;
    cluster.unreachable = vec![leader];
    cluster.run(100);
    assert_eq!(
        cluster.leader(),
        None,
        "the second would lead without what was committed"
    );
}

#[test]
fn a_configured_voter_with_a_new_disk_returns_and_does_not_vote_before() {
    let mut cluster = Cluster::of_configured(3);
    let leader = cluster.elect();
    let [second, third] = [(leader + 1) % 3, (leader + 2) % 3];
    let end = |cluster: &Cluster, index: usize| {
        let node = cluster.machines[index].node.as_ref().unwrap();
        node.end_offset()
    };
    cluster.unreachable = vec![second];
    assert!(commits(&mut cluster), "the second lacks it");
    cluster.replace_disk(third, Uuid::ZERO);
    cluster.unreachable = vec![leader];
    cluster.run(100);
    assert_eq!(
        cluster.leader(),
        None,
        "the second would lead without what was committed"
    );

    cluster.unreachable = Vec::new();
    assert_eq!(
        cluster.elect(),
        leader,
        "nobody else has what was committed"
    );
    assert_eq!(end(&cluster, third), end(&cluster, leader));
    cluster.unreachable = vec![second];
    assert!(commits(&mut cluster));
    // The leader stays, and knows that the next disk is empty, too.
    cluster.replace_disk(third, Uuid::ZERO);
    cluster.run(20);
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(end(&cluster, third), end(&cluster, leader));
    cluster.unreachable = vec![leader];
    let next = cluster.elect();
    assert_eq!(next, third, "the second has not everything");
}

#[test]
fn a_voter_that_moves_is_found_again_and_written_into_the_log() {
    let mut cluster = Cluster::new(3, 0);
    let leader = cluster.elect();
    for index in [(leader + 1) % 3, leader] {
        cluster.stop(index, None);
        cluster.machines[index].voter.endpoints[0].port = 9999;
        cluster.start(index);
        cluster.greet();
        cluster.elect();
        cluster.greet();
        cluster.run(20);
        let node_id = cluster.machines[index].voter.node_id;
        for machine in &cluster.machines {
            let voters = machine.node.as_ref().unwrap().voters();
            let moved = voters.iter().find(|one| one.node_id == node_id).unwrap();
            assert_eq!(moved.endpoints[0].port, 9999);
        }
    }
}

#[test]
fn one_of_three_goes_on_alone_and_grows_again() {
    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.elect();
    cluster.greet();
    cluster.run(10);
    assert!(commits(&mut cluster));
    let left = (leader + 1) % 3;
    // It has an entry of which it does not know whether it is committed.
    let before = cluster.machines[left].node.as_ref().unwrap().end_offset();
    let lost = [leader, (leader + 2) % 3];
    for index in 0..5 {
        cluster.stop(index, None);
    }
    let machine = &mut cluster.machines[left];
    let id = (machine.voter.node_id, machine.voter.directory_id);
    let survivor = survey(machine, id).unwrap();
    assert_eq!(survivor.voters.len(), 3);
    assert!(survey(machine, (NodeId(9), id.1)).is_err());
    // The power goes off in the middle; another call goes on.
    for changes in 0..20 {
        machine.files.cut_power_after(changes);
        let _ = recover(machine, &survivor);
        machine.files = machine.files.power_cut(changes);
        machine.files.heal();
    }
    let (epoch, end) = recover(machine, &survivor).unwrap();
    assert!(epoch > survivor.epoch && end > before, "{epoch} {end}");
    cluster.unreachable = lost.to_vec();
    // One that follows has an old snapshot's voters, or the first ones of the log.
    for index in [left, 3, 4] {
        cluster.start(index);
    }
    assert_eq!(cluster.elect(), left);
    assert!(commits(&mut cluster));
    assert_eq!(cluster.voters_of(left).len(), 1);
    for index in [3, 4] {
        cluster.greet();
        cluster.run(10);
        let add = VoterChange::Add(cluster.machines[index].voter.clone());
        propose(&mut cluster, &add).unwrap();
        cluster.run(10);
    }
    cluster.unreachable.push(left);
    cluster.run(60);
    assert!(commits(&mut cluster), "the two new ones are a majority");
}

/// The power of the leader goes off after each number of its writes, in the middle of an addition and of a removal. Then
/// the quorum has the old or the new voters, all agree, and it goes on.
#[test]
fn a_crash_at_any_step_leaves_the_old_voters_or_the_new_ones() {
    let mut outcomes = [0, 0];
    for is_addition in [true, false] {
        for changes in 0..12 {
            let mut cluster = Cluster::new(3, 1);
            let leader = cluster.elect();
            cluster.greet();
            cluster.run(10);
            let change = if is_addition {
                VoterChange::Add(cluster.machines[3].voter.clone())
            } else {
                remove(&cluster.machines[(leader + 1) % 3].voter)
            };
            propose(&mut cluster, &change).unwrap();
            cluster.machines[leader].files.cut_power_after(changes);
            cluster.ready(leader);
            cluster.deliver();
            cluster.run(2);
            if cluster.machines[leader].node.is_some() {
                cluster.stop(leader, Some(changes));
            }
            cluster.machines[leader].files.heal();
            cluster.run(40);
            cluster.start(leader);
            cluster.greet();
            cluster.elect();
            cluster.greet();
            cluster.run(60);
            assert!(commits(&mut cluster), "{is_addition} after {changes}");
            cluster.run(5);
            let count = cluster.voters_of(leader).len();
            for index in 0..4 {
                assert_eq!(cluster.voters_of(index).len(), count, "after {changes}");
            }
            outcomes[usize::from(count != 3)] += 1;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}
