//! Worlds of a cluster from seeds: controllers, three brokers with replicas, clients that find the leaders.
//!
//! `cargo xtask sim --cluster` runs many seeds and prints a trace; `cargo test` a few. A failure prints its seed and its
//! last events.

#![expect(clippy::print_stdout, reason = "a seed and a trace are printed")]

mod seeds;

use ottla_protocol::planted::Bug;
use ottla_sim::{Counts, run_cluster};

use self::seeds::Kind;

/// With each planted bug, and a seed at which it is caught. When a change moves the seeds,
/// `planted_bugs_are_searched` finds new ones.
const CLUSTER: Kind = Kind {
    run: run_cluster,
    command: "cargo xtask sim --cluster",
    gate: 20,
    planted: &[
        // The replicas.
        (Bug::AnswerBeforeSync, 0),
        (Bug::UnflushedFollowerCounts, 0),
        (Bug::HighWatermarkBelowMinIsr, 1),
        (Bug::StaleIsrKept, 0),
        (Bug::DivergingEndKept, 0),
        (Bug::TruncatedBelowHighWatermark, 0),
        (Bug::ProducersForgotten, 0),
        // The controller.
        (Bug::FencedBrokerLeads, 0),
        (Bug::EligibleAfterUncleanShutdown, 0),
        (Bug::LeaderEpochNotRaised, 0),
        // The quorum.
        (Bug::RaftEntryNotSynced, 8),
        (Bug::VoteNotPersisted, 14),
        (Bug::CommitWithoutMajority, 5),
    ],
};

#[test]
fn twenty_seeds_hold() {
    let mut counts = Counts::default();
    for seed in 0..CLUSTER.gate {
        counts.add(&CLUSTER.must_hold(seed).counts);
    }
    println!("{counts:?}");
    assert!(counts.crashes() > 5 * CLUSTER.gate, "{counts:?}");
    let seconds = counts.milliseconds / 1000;
    assert!(counts.records > 2 * seconds, "too little load: {counts:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    CLUSTER.must_repeat();
    CLUSTER.must_repeat_in_another_process();
}

#[test]
#[ignore = "the_same_seed_gives_the_same_trace runs it in a process of its own"]
fn hash_of_a_seed() {
    CLUSTER.hash();
}

#[test]
fn every_planted_bug_is_caught_at_its_seed() {
    CLUSTER.must_catch_planted();
}

/// Prints the first seed at which each planted bug is caught.
#[test]
#[ignore = "takes minutes; it is for a change that moves the seeds"]
fn planted_bugs_are_searched() {
    CLUSTER.search_planted();
}

/// The command `cargo xtask sim --cluster`: the seeds of a range, with a step.
#[test]
#[ignore = "cargo xtask sim --cluster runs it"]
fn seeds() {
    CLUSTER.seeds();
}

/// Prints every event of a seed.
#[test]
#[ignore = "cargo xtask sim --cluster --seed runs it"]
fn trace() {
    CLUSTER.trace();
}
