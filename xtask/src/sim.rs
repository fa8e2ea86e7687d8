//! `cargo xtask sim`: a whole node and its clients on simulated disk, clock and network, from many seeds (`crates/sim`).

use anyhow::{Result, bail};

use crate::seeds::Suite;

const SUITE: Suite = Suite {
    package: "ottla-sim",
    test: "sim",
    variables: "OTTLA_SIM",
    progress: "sim: ",
    counts: &[
        "seeds",
        "ms simulated",
        "ms of one core",
        "operations",
        "records acknowledged",
        "crashes",
        "other faults",
        "checks",
    ],
};

/// Options of `cargo xtask sim`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many seeds are run.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,

    /// Run this one only, and print every event.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the seeds. Returns a line with the counts of their events, and the speed.
pub fn run(args: &Args) -> Result<String> {
    if let Some(seed) = args.seed {
        SUITE.show("trace", seed)?;
        return Ok(format!("seed {seed} holds"));
    }
    let counts = SUITE.run(args.seeds, None)?;
    let [
        seeds,
        simulated,
        taken,
        operations,
        records,
        crashes,
        faults,
        checks,
    ] = counts[..]
    else {
        bail!("the simulation counts something else");
    };
    let times = simulated / taken.max(1);
    Ok(format!(
        "{seeds} seeds, {} simulated seconds, {operations} operations, {records} records acknowledged, {crashes} \
         crashes, {faults} other faults, {checks} checks: nothing was lost; {times} times as fast as real time on one core",
        simulated / 1000
    ))
}
