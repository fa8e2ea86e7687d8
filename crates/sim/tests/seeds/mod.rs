//! What the tests of worlds share: a seed must hold, a planted bug must be caught, and the commands of `cargo xtask sim`.

use ottla_protocol::planted::{Bug, planting};
use ottla_sim::{Counts, Outcome};

/// A kind of world.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub run: fn(u64, bool) -> Outcome,
    /// How a seed is run again.
    pub command: &'static str,
    /// The seeds of the gate.
    pub gate: u64,
}

impl Kind {
    /// Runs a seed that must hold.
    pub fn must_hold(&self, seed: u64) -> Outcome {
        let outcome = (self.run)(seed, false);
        if let Some((message, events)) = &outcome.failure {
            let events = events.join("\n");
            let command = self.command;
            panic!("{events}\nseed {seed}: {message}\nagain: {command} --seed {seed}");
        }
        outcome
    }

    /// A bug in the code is caught by a seed of the gate, which without it holds.
    pub fn must_catch(&self, bug: Bug) {
        let failure = |seed: &u64| planting(Some(bug), || (self.run)(*seed, false)).failure;
        let caught = (0..self.gate).find_map(|seed| Some((seed, failure(&seed)?.0)));
        let (seed, message) =
            caught.unwrap_or_else(|| panic!("{bug:?} was not caught by {} seeds", self.gate));
        println!("{bug:?} is caught by seed {seed}: {message}");
        assert!(message.contains("check: "), "{message}");
        self.must_hold(seed);
    }

    /// A seed gives the same events each time.
    pub fn must_repeat(&self) {
        for seed in 0..5 {
            assert_eq!(self.must_hold(seed), self.must_hold(seed), "seed {seed}");
        }
        assert_ne!(self.must_hold(0).hash, self.must_hold(1).hash);
    }

    /// The seeds of a range, with a step, as the environment names them.
    pub fn seeds(&self) {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let from = number("OTTLA_SIM_FROM").unwrap_or(0);
        let to = number("OTTLA_SIM_TO").unwrap_or(from + 1);
        let step = number("OTTLA_SIM_STEP").unwrap_or(1);
        let mut all = Counts::default();
        for (count, seed) in (1..).zip((from..to).step_by(usize::try_from(step).unwrap_or(1))) {
            all.add(&self.must_hold(seed).counts);
            if count % 20 == 0 || seed + step >= to {
                report(count, &all);
            }
        }
    }

    /// Prints every event of the seed that the environment names.
    pub fn trace(&self) {
        let seed = std::env::var("OTTLA_SIM_FROM").ok();
        let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(0);
        let outcome = (self.run)(seed, true);
        println!("{}", outcome.text.unwrap_or_default());
        println!("{:?}", outcome.counts);
        if let Some((message, _)) = outcome.failure {
            panic!("seed {seed}: {message}");
        }
    }
}

fn report(count: u64, all: &Counts) {
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

/// How long this thread has run, in milliseconds; the machine has others to run.
fn milliseconds_of_core() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat
        .split(' ')
        .next()
        .and_then(|nanos| nanos.parse::<u64>().ok());
    nanos.unwrap_or(0) / 1_000_000
}
