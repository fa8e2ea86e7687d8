//! A quorum of three and of five controllers, simulated from seeds: `quorum/world.rs` has the faults, `quorum/checks.rs`
//! what must hold. Planted bugs show that the checks find what they are there for.

#[path = "quorum/checks.rs"]
mod checks;
#[path = "quorum/machine.rs"]
mod machine;
#[path = "quorum/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::planted::{Bug, planting};

use crate::world::World;

const SECOND: u64 = 1_000_000;
/// Seeds of a run in the gate.
const SEEDS: u64 = 60;

/// A quorum runs with faults, and then without. In the end all machines have the same log and go on.
fn run(seed: u64) -> World {
    let machines = if seed.is_multiple_of(3) { 5 } else { 3 };
    run_in(World::new(seed, machines))
}

fn run_in(mut world: World) -> World {
    world.run_for(2 * SECOND);
    world.begin_faults();
    world.run_for(20 * SECOND);
    world.heal();
    world.run_for(8 * SECOND);
    let before = world.checks.high_watermark;
    world.run_for(4 * SECOND);
    assert!(
        world.checks.high_watermark > before,
        "nothing is committed any more"
    );
    assert_agree(&world);
    world
}

fn assert_agree(world: &World) {
    let end = world.checks.high_watermark;
    for found in world.ends() {
        let found = found.expect("all machines run");
        assert!(
            end.0 - found.0 < 40,
            "a machine stays behind: {found} of {end}"
        );
    }
    world.checks.assert_acknowledged();
    let logs: Vec<_> = world
        .machines
        .iter()
        .map(machine::Machine::batches)
        .collect();
    for log in &logs {
        for (offset, batch) in log {
            for other in &logs {
                let same = other.get(offset).is_none_or(|other| other == batch);
                assert!(same, "the logs differ at offset {offset}");
            }
        }
    }
    for machine in &world.machines {
        let node = machine.node.as_ref().expect("all machines run");
        let first = world.machines[0].node.as_ref().expect("it runs");
        assert_eq!(
            node.voters(),
            first.voters(),
            "machine {} has other voters",
            machine.index
        );
        assert!(!node.voters().is_empty());
    }
}

#[test]
fn a_quorum_survives_everything_that_a_minority_may_do() {
    let (mut epochs, mut commits, mut snapshots) = (0, 0, 0);
    for seed in 0..SEEDS {
        let world = catch_unwind(|| run(seed));
        let world = world.unwrap_or_else(|_| panic!("seed {seed}"));
        epochs += world.checks.leaders.len();
        commits += world.checks.committed.len();
        snapshots += world.restored;
    }
    assert!(
        epochs > 300,
        "only {epochs} elections: the faults do nothing"
    );
    assert!(commits > 10_000, "only {commits} commits");
    assert!(snapshots > 10, "only {snapshots} snapshots were installed");
}

/// Whenever the processes are killed, their directories have for Kafka all that was answered, and are taken over from it.
#[test]
fn a_quorum_goes_to_kafka_and_back() {
    for seed in 0..SEEDS {
        let gone = catch_unwind(|| {
            let mut world = World::new(seed, 3);
            world.run_for(2 * SECOND);
            for _ in 0..6 {
                world.begin_faults();
                world.run_for(SECOND * (1 + seed % 3));
                world.heal();
                world.go_to_kafka_and_back(None);
            }
            world.run_for(8 * SECOND);
            let before = world.checks.high_watermark;
            world.run_for(4 * SECOND);
            assert!(world.checks.high_watermark > before, "nothing is committed");
            assert_agree(&world);
        });
        gone.unwrap_or_else(|_| panic!("seed {seed}"));
    }
}

/// A controller that was down while the others ran under Kafka has another log of Raft. It takes no part until that is
/// removed.
#[test]
fn a_controller_that_was_not_under_kafka_takes_no_part() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        world.run_for(3 * SECOND);
        let kept = usize::try_from(seed % 3).expect("it is small");
        world.go_to_kafka_and_back(Some(kept));
        world.run_for(8 * SECOND);
        let ends = world.ends();
        let end = world.checks.high_watermark;
        for (index, found) in ends.into_iter().enumerate() {
            let is_near = end.0 - found.expect("all run").0 < 40;
            assert_eq!(is_near, index != kept, "seed {seed} machine {index}");
        }
        world.machines[kept].stop(None);
        world.machines[kept].forget_raft();
        let voters = world.voters.clone();
        world.machines[kept]
            .start(&voters)
            .expect("it can be taken over");
        world.run_for(8 * SECOND);
        assert_agree(&world);
    }
}

#[test]
fn voters_change_one_at_a_time_whatever_a_minority_does() {
    let (mut changes, mut commits, mut snapshots) = (0, 0, 0);
    for seed in 0..SEEDS {
        let first = usize::try_from(seed % 3).unwrap() + 1;
        let world = catch_unwind(|| run_in(World::with_spares(seed, first, 5 - first)));
        let world = world.unwrap_or_else(|_| panic!("seed {seed}"));
        changes += world.changes;
        commits += world.checks.committed.len();
        snapshots += world.restored;
    }
    println!("{changes} changes, {commits} commits, {snapshots} snapshots");
    assert!(changes > 500, "only {changes} changes of the voters");
    assert!(commits > 10_000, "only {commits} commits");
    assert!(snapshots > 10, "only {snapshots} snapshots were installed");
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let (first, second) = (run(4), run(4));
    assert_eq!(first.checks.committed, second.checks.committed);
    assert_eq!(first.checks.leaders, second.checks.leaders);
    assert_eq!(first.ends(), second.ends());
}

/// The first seed at which a planted bug is found.
fn found_at(bug: Bug) -> Option<u64> {
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..200).find(|seed| {
        let work = AssertUnwindSafe(|| planting(Some(bug), || drop(run(*seed))));
        catch_unwind(work).is_err()
    });
    let _ = std::panic::take_hook();
    found
}

#[test]
fn every_planted_bug_is_found() {
    let bugs = [
        Bug::RaftEntryNotSynced,
        Bug::CommitWithoutMajority,
        Bug::VoteNotPersisted,
        Bug::TermFenceSkipped,
        Bug::SnapshotWithoutVoters,
    ];
    let found = bugs.map(|bug| (bug, found_at(bug)));
    println!("{found:?}");
    for (bug, seed) in found {
        assert!(seed.is_some(), "{bug:?} is not found");
    }
}

/// With one link cut in one direction, the leader of a quorum stays, and its epoch too.
#[test]
fn a_link_cut_in_one_direction_causes_no_elections() {
    for seed in 0..10 {
        for way in 0..4 {
            let mut world = World::new(seed, 3);
            world.run_for(3 * SECOND);
            let led = world
                .machines
                .iter()
                .find(|machine| machine.leads.is_some());
            let leader = led.expect("a quorum without faults has a leader").index;
            let epochs = world.checks.leaders.len();
            let other = (leader + 1) % 3;
            let third = (leader + 2) % 3;
            world.cut.insert(
                [
                    (leader, other),
                    (other, leader),
                    (other, third),
                    (third, other),
                ][way],
            );
            let before = world.checks.high_watermark;
            world.run_for(20 * SECOND);
            let last = world
                .checks
                .leaders
                .last_key_value()
                .map(|(epoch, _)| *epoch);
            assert!(
                world.checks.high_watermark.0 > before.0 + 100,
                "seed {seed} way {way}"
            );
            assert_eq!(
                world.checks.leaders.len(),
                epochs,
                "seed {seed} way {way}: {last:?}"
            );
            assert!(last < Some(LeaderEpoch(5)));
        }
    }
}

/// When the machine of a leader does not answer, nobody waits for the election's timeout, which is up to half a second here.
#[test]
fn a_leader_that_has_vanished_is_replaced_soon() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        world.run_for(3 * SECOND);
        let mut machines = world.machines.iter();
        let leader = machines.find(|machine| machine.leads.is_some());
        let leader = leader.expect("a quorum without faults has a leader").index;
        for other in (0..3).filter(|other| *other != leader) {
            world.cut.extend([(leader, other), (other, leader)]);
        }
        world.run_for(SECOND * 3 / 10);
        let is_replaced = (0..3)
            .filter(|other| *other != leader)
            .any(|other| world.machines[other].leads.is_some());
        assert!(is_replaced, "seed {seed}");
    }
}
