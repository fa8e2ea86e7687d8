//! Worlds of a cluster from seeds: a controller, three brokers with replicas, clients that find the leaders.
//!
//! `cargo xtask sim --cluster` runs many seeds and prints a trace; `cargo test` a few. A failure prints its seed and its
//! last events.

#![expect(clippy::print_stdout, reason = "a seed and a trace are printed")]

mod seeds;

use ottla_protocol::planted::Bug;
use ottla_sim::{Counts, run_cluster};

use self::seeds::Kind;

const CLUSTER: Kind = Kind {
    run: run_cluster,
    command: "cargo xtask sim --cluster",
    gate: 20,
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
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    CLUSTER.must_catch(Bug::AnswerBeforeSync);
}

#[test]
fn a_high_watermark_below_the_min_isr_is_caught() {
    CLUSTER.must_catch(Bug::HighWatermarkBelowMinIsr);
}

#[test]
fn a_follower_that_counts_what_it_has_not_flushed_is_caught() {
    CLUSTER.must_catch(Bug::UnflushedFollowerCounts);
}

#[test]
fn a_leader_that_ignores_a_new_isr_is_caught() {
    CLUSTER.must_catch(Bug::StaleIsrKept);
}

#[test]
fn a_diverging_end_that_is_kept_is_caught() {
    CLUSTER.must_catch(Bug::DivergingEndKept);
}

#[test]
fn a_fenced_broker_that_leads_is_caught() {
    CLUSTER.must_catch(Bug::FencedBrokerLeads);
}

#[test]
fn a_claim_to_lead_after_an_unclean_shutdown_is_caught() {
    CLUSTER.must_catch(Bug::EligibleAfterUncleanShutdown);
}

#[test]
fn two_leaders_in_an_epoch_are_caught() {
    CLUSTER.must_catch(Bug::LeaderEpochNotRaised);
}

#[test]
fn metadata_that_is_answered_before_its_commit_is_caught() {
    CLUSTER.must_catch(Bug::MetadataNotSynced);
}

#[test]
fn a_group_that_is_answered_before_its_commit_is_caught() {
    CLUSTER.must_catch(Bug::GroupAnsweredEarly);
}

#[test]
fn producers_that_a_start_forgets_are_caught() {
    CLUSTER.must_catch(Bug::ProducersForgotten);
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
