//! What the tests of worlds share: a seed must hold, a planted bug must be caught, and the commands of `cargo xtask sim`.

use std::process::Command;

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
    /// Bugs in the code, and a seed that catches each of them.
    pub planted: &'static [(Bug, u64)],
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

    /// Each planted bug is caught at its seed, which without it holds.
    pub fn must_catch_planted(&self) {
        for (bug, seed) in self.planted {
            let message = self.failure(*bug, *seed);
            let message =
                message.unwrap_or_else(|| panic!("{bug:?} was not caught by seed {seed}"));
            println!("{bug:?} is caught by seed {seed}: {message}");
            assert!(message.contains("check: "), "{message}");
            self.must_hold(*seed);
        }
    }

    /// Prints the first seed that catches each planted bug, and holds without it.
    pub fn search_planted(&self) {
        let to = number("OTTLA_SIM_TO").unwrap_or(400);
        for (bug, _) in self.planted {
            let is_caught = |seed: &u64| {
                let message = self.failure(*bug, *seed);
                let is_caught = message.is_some_and(|message| message.contains("check: "));
                is_caught && (self.run)(*seed, false).failure.is_none()
            };
            println!("{bug:?}: {:?}", (0..to).find(is_caught));
        }
    }

    fn failure(&self, bug: Bug, seed: u64) -> Option<String> {
        let outcome = planting(Some(bug), || (self.run)(seed, false));
        outcome.failure.map(|(message, _)| message)
    }

    /// A seed gives the same events each time.
    pub fn must_repeat(&self) {
        for seed in 0..5 {
            assert_eq!(self.must_hold(seed), self.must_hold(seed), "seed {seed}");
        }
        assert_ne!(self.must_hold(0).hash, self.must_hold(1).hash);
    }

    /// A seed gives the same events in another process, where maps with a random order would have another one.
    pub fn must_repeat_in_another_process(&self) {
        let own = std::env::current_exe().expect("a test is a file");
        let run = Command::new(own)
            .args(["--exact", "hash_of_a_seed", "--ignored", "--nocapture"])
            .env("OTTLA_SIM_FROM", "3")
            .output()
            .expect("a test can be run");
        let text = String::from_utf8_lossy(&run.stdout);
        let expected = format!("hash {} of seed 3", self.must_hold(3).hash);
        assert!(text.contains(&expected), "no {expected}: {text}");
    }

    /// Prints the hash of the events of the seed that the environment names.
    pub fn hash(&self) {
        let seed = number("OTTLA_SIM_FROM").unwrap_or(0);
        println!("hash {} of seed {seed}", self.must_hold(seed).hash);
    }

    /// The seeds of a range, with a step, as the environment names them.
    pub fn seeds(&self) {
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
        let seed = number("OTTLA_SIM_FROM").unwrap_or(0);
        let outcome = (self.run)(seed, true);
        println!("{}", outcome.text.unwrap_or_default());
        println!("{:?}", outcome.counts);
        if let Some((message, _)) = outcome.failure {
            panic!("seed {seed}: {message}");
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
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
