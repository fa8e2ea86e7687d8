//! Worlds from seeds: each must hold, a seed gives the same events each time, and planted bugs are caught.
//!
//! `cargo xtask sim` runs many seeds and prints a trace; `cargo test` a few. A failure prints its seed and its last events.

#![expect(clippy::print_stdout, reason = "a seed and a trace are printed")]

mod seeds;

use ottla_protocol::planted::Bug;
use ottla_sim::{Counts, run};

use self::seeds::Kind;

const NODE: Kind = Kind {
    run,
    command: "cargo xtask sim",
    gate: 50,
};

#[test]
fn fifty_seeds_hold() {
    let mut counts = Counts::default();
    for seed in 0..NODE.gate {
        counts.add(&NODE.must_hold(seed).counts);
    }
    println!("{counts:?}");
    assert!(counts.crashes() > 3 * NODE.gate, "{counts:?}");
    let seconds = counts.milliseconds / 1000;
    assert!(
        counts.operations > 20 * seconds,
        "too little load: {counts:?}"
    );
    assert!(
        counts.lost_of_page_cache > 0,
        "page-cache lost nothing: a missing sync would not be seen: {counts:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    NODE.must_repeat();
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    NODE.must_catch(Bug::AnswerBeforeSync);
}

#[test]
fn a_group_that_is_answered_before_its_commit_is_caught() {
    NODE.must_catch(Bug::GroupAnsweredEarly);
}

#[test]
fn metadata_that_is_answered_before_its_commit_is_caught() {
    NODE.must_catch(Bug::MetadataNotSynced);
}

#[test]
fn producers_that_a_start_forgets_are_caught() {
    NODE.must_catch(Bug::ProducersForgotten);
}

/// The command `cargo xtask sim`: the seeds of a range, with a step.
#[test]
#[ignore = "cargo xtask sim runs it"]
fn seeds() {
    NODE.seeds();
}

/// Prints every event of a seed.
#[test]
#[ignore = "cargo xtask sim --seed runs it"]
fn trace() {
    NODE.trace();
}
