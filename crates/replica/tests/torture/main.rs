//! A torture of the partitions of a node, from a seed. Several partitions are in one or two log directories on one
//! simulated disk, and run the code that the broker's threads run. At any moment, during a start too, the process is
//! killed, the power is cut, an operation fails, or space or descriptors run out. After each start everything is
//! compared with a model.
//!
//! `cargo xtask torture` runs many seeds; `cargo test` a few hundred. A failure prints its seed and its last steps. The
//! bugs of `ottla_log::planted` show that the net catches something.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a seed is printed"
)]

mod batches;
mod check;
mod model;
mod node;
mod produce;
mod steps;
mod trace;
mod world;

use self::world::World;
use ottla_log::planted::{Bug, planting};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The outcome of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    hash: u64,
    crashes: u64,
    checks: u64,
    /// What went wrong, with the last steps.
    failure: Option<(String, Vec<String>)>,
}

fn run(seed: u64, bug: Option<Bug>) -> Outcome {
    let mut world = World::new(seed);
    let lived = planting(bug, || catch_unwind(AssertUnwindSafe(|| world.run())));
    let failure = lived.err().map(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        (message.unwrap_or_default(), world.trace.last_steps())
    });
    Outcome {
        hash: world.trace.hash(),
        crashes: world.trace.crashes,
        checks: world.trace.checks,
        failure,
    }
}

/// Runs a seed, which must not fail.
fn must_hold(seed: u64) -> Outcome {
    let outcome = run(seed, None);
    if let Some((message, steps)) = &outcome.failure {
        let steps = steps.join("\n");
        panic!("{steps}\nseed {seed}: {message}\nagain: cargo xtask torture --seed {seed}");
    }
    outcome
}

/// A planted bug must be caught within this number of seeds.
const NET: u64 = 400;

/// A planted bug is caught by a seed, which does not fail without it.
fn must_catch(bug: Bug) {
    let caught = (0..NET).find(|seed| run(*seed, Some(bug)).failure.is_some());
    let seed = caught.unwrap_or_else(|| panic!("{bug:?} was not caught by {NET} seeds"));
    println!("{bug:?} is caught by seed {seed}");
    must_hold(seed);
}

#[test]
fn a_hundred_seeds_hold() {
    let crashes: u64 = (0..100).map(|seed| must_hold(seed).crashes).sum();
    assert!(crashes > 300, "{crashes}");
}

/// One start found no space for an index, and the next was cut short by a power cut.
#[test]
fn a_torn_index_of_a_start_that_did_not_end_is_not_trusted() {
    must_hold(3872);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..5 {
        assert_eq!(must_hold(seed).hash, must_hold(seed).hash, "seed {seed}");
    }
    assert_ne!(must_hold(0).hash, must_hold(1).hash);
}

#[test]
fn an_answer_before_the_sync_is_caught() {
    must_catch(Bug::AnswerBeforeSync);
}

#[test]
fn a_rename_without_a_sync_of_the_directory_is_caught() {
    must_catch(Bug::RenameWithoutDirectorySync);
}

#[test]
fn names_of_new_segments_that_are_not_synced_are_caught() {
    must_catch(Bug::NewNamesNotSynced);
}

#[test]
fn a_failed_sync_that_is_tried_again_is_caught() {
    must_catch(Bug::FailedSyncRetried);
}

#[test]
fn an_index_that_is_trusted_over_the_log_is_caught() {
    must_catch(Bug::IndexTrustedOverLog);
}

#[test]
fn a_recovery_that_cuts_one_batch_more_is_caught() {
    must_catch(Bug::RecoveryCutsOneBatchMore);
}

#[test]
fn a_truncation_that_is_one_batch_short_is_caught() {
    must_catch(Bug::TruncationOneBatchShort);
}

#[test]
fn a_recovery_that_does_not_sync_is_caught() {
    must_catch(Bug::RecoveredNotSynced);
}

#[test]
fn a_recovery_point_ahead_of_the_data_is_caught() {
    must_catch(Bug::RecoveryPointAheadOfData);
}

#[test]
fn a_tombstone_that_goes_early_is_caught() {
    must_catch(Bug::TombstoneDroppedEarly);
}

#[test]
fn checkpoints_of_an_earlier_partition_are_caught() {
    must_catch(Bug::StaleCheckpointsKept);
}

/// The seeds of `cargo xtask torture`: from one number to another, with a step.
#[test]
#[ignore = "cargo xtask torture runs it"]
fn seeds() {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let from = number("OTTLA_TORTURE_FROM").unwrap_or(0);
    let to = number("OTTLA_TORTURE_TO").unwrap_or(from + 1);
    let step = number("OTTLA_TORTURE_STEP").unwrap_or(1);
    let (mut crashes, mut checks) = (0, 0);
    for (count, seed) in (1..).zip((from..to).step_by(usize::try_from(step).unwrap())) {
        let outcome = must_hold(seed);
        crashes += outcome.crashes;
        checks += outcome.checks;
        if count % 100 == 0 || seed + step >= to {
            println!("torture: {count} seeds {crashes} crashes {checks} checks");
        }
    }
}
