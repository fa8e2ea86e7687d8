//! Worlds from seeds: each must hold, a seed gives the same events each time, and planted bugs are caught.
//!
//! `cargo xtask sim` runs many seeds and prints a trace; `cargo test` a few. A failure prints its seed and its last events.

#![expect(clippy::print_stdout, reason = "a seed and a trace are printed")]

use ottla_protocol::planted::{Bug, planting};
use ottla_sim::{Counts, Outcome, run};

/// The seeds of the gate.
const GATE: u64 = 50;

/// Runs a seed that must hold.
fn must_hold(seed: u64) -> Outcome {
    let outcome = run(seed, false);
    if let Some((message, events)) = &outcome.failure {
        let events = events.join("\n");
        panic!("{events}\nseed {seed}: {message}\nagain: cargo xtask sim --seed {seed}");
    }
    outcome
}

/// A bug in the code is caught by a seed of the gate, which without it holds.
fn must_catch(bug: Bug) {
    let failure = |seed: &u64| planting(Some(bug), || run(*seed, false)).failure;
    let caught = (0..GATE).find_map(|seed| Some((seed, failure(&seed)?.0)));
    let (seed, message) =
        caught.unwrap_or_else(|| panic!("{bug:?} was not caught by {GATE} seeds"));
    println!("{bug:?} is caught by seed {seed}: {message}");
    assert!(message.starts_with("check: "), "{message}");
    must_hold(seed);
}

#[test]
fn fifty_seeds_hold() {
    let mut counts = Counts::default();
    for seed in 0..GATE {
        counts.add(&must_hold(seed).counts);
    }
    println!("{counts:?}");
    assert!(counts.crashes() > 3 * GATE, "{counts:?}");
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
    for seed in 0..5 {
        assert_eq!(must_hold(seed), must_hold(seed), "seed {seed}");
    }
    assert_ne!(must_hold(0).hash, must_hold(1).hash);
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    must_catch(Bug::AnswerBeforeSync);
}

#[test]
fn a_group_that_is_answered_before_its_commit_is_caught() {
    must_catch(Bug::GroupAnsweredEarly);
}

#[test]
fn metadata_that_is_answered_before_its_commit_is_caught() {
    must_catch(Bug::MetadataNotSynced);
}

#[test]
fn producers_that_a_start_forgets_are_caught() {
    must_catch(Bug::ProducersForgotten);
}

/// The command `cargo xtask sim`: the seeds of a range, with a step.
#[test]
#[ignore = "cargo xtask sim runs it"]
fn seeds() {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let from = number("OTTLA_SIM_FROM").unwrap_or(0);
    let to = number("OTTLA_SIM_TO").unwrap_or(from + 1);
    let step = number("OTTLA_SIM_STEP").unwrap_or(1);
    let mut all = Counts::default();
    for (count, seed) in (1..).zip((from..to).step_by(usize::try_from(step).unwrap_or(1))) {
        all.add(&must_hold(seed).counts);
        if count % 20 == 0 || seed + step >= to {
            let Counts {
                operations,
                records,
                faults,
                checks,
                milliseconds,
                ..
            } = all;
            let (taken, crashes) = (milliseconds_of_core(), all.crashes());
            println!(
                "sim: {count} {milliseconds} {taken} {operations} {records} {crashes} {faults} {checks}"
            );
        }
    }
}

/// How long this thread has run, in milliseconds; the machine has others to run.
fn milliseconds_of_core() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat
        .split(' ')
        .next()
        .and_then(|nanos| nanos.parse::<u64>().ok());
    nanos.unwrap_or(0) / 1_000_000
}

/// Prints every event of a seed.
#[test]
#[ignore = "cargo xtask sim --seed runs it"]
fn trace() {
    let seed = std::env::var("OTTLA_SIM_FROM").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let outcome = run(seed, true);
    println!("{}", outcome.text.unwrap_or_default());
    println!("{:?}", outcome.counts);
    if let Some((message, _)) = outcome.failure {
        panic!("seed {seed}: {message}");
    }
}
