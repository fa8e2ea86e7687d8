//! `ottla serve`: a broker.

use anyhow::{Result, bail};

/// What `ottla serve` takes.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the broker until it is told to stop.
pub fn run(_args: Args) -> Result<()> {
    bail!("the broker is not built yet")
}
