//! `cargo xtask torture`: the log on a simulated disk that fails in every way, from many seeds
//! (`crates/replica/tests/torture`).

use anyhow::{Result, bail};

use crate::seeds::Suite;

const SUITE: Suite = Suite {
    package: "ottla-replica",
    test: "torture",
    variables: "OTTLA_TORTURE",
    progress: "torture: ",
    counts: &["seeds", "crashes", "checks"],
};

/// Options of `cargo xtask torture`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many seeds are run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,

    /// Run this one only.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the seeds. Returns a line that counts them and their crashes.
pub fn run(args: &Args) -> Result<String> {
    let [seeds, crashes, checks] = SUITE.run(args.seeds, args.seed)?[..] else {
        bail!("the torture counts something else");
    };
    Ok(format!(
        "{seeds} seeds, {crashes} crashes, {checks} checks: nothing was lost"
    ))
}
