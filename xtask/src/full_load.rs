//! `cargo xtask full-load`: no healthy node is fenced under full load.
//!
//! `tests/cluster/full_load.py` keeps three nodes, their clients and all cores busy, and lets one
//! disk after the other stand still for five seconds.

use anyhow::Result;

use crate::cluster::{Driver, System};
use crate::toolbox::ottla;

/// Options of `cargo xtask full-load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For how long.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,

    /// How many of the three nodes are controllers too.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    controllers: u32,

    /// Run the build that users install.
    #[arg(long)]
    release: bool,
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let build = ottla::in_profile(args.release);
    let driver = Driver::of_build("full_load.py", &[System::Ottla], build)?
        .with("controllers", args.controllers)
        .with("minutes", args.minutes);
    driver.run(
        format!("no node fenced in {} minutes of full load", args.minutes),
        "a healthy node was fenced, or a client was not served",
    )
}
