//! `cargo xtask sim`: a whole node, or a cluster, and its clients on simulated disks, clock and network, from many seeds
//! (`crates/sim`).

use anyhow::{Result, bail};

use crate::seeds::Suite;

/// One node that is broker and controller.
const NODE: Suite = Suite {
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

/// Three controllers or one, and three brokers.
const CLUSTER: Suite = Suite {
    test: "cluster",
    ..NODE
};

/// Options of `cargo xtask sim`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many seeds are run.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,

    /// Simulate a cluster instead of one node.
    #[arg(long)]
    cluster: bool,

    /// Run this one only, and print every event.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the seeds. Returns a line with the counts of their events, and the speed.
pub fn run(args: &Args) -> Result<String> {
    let suite = if args.cluster { CLUSTER } else { NODE };
    if let Some(seed) = args.seed {
        suite.show("trace", seed)?;
        return Ok(format!("seed {seed} holds"));
    }
    let counts = suite.run(args.seeds, None)?;
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
