//! `cargo xtask failover`: how long clients wait when one of three nodes fails, Apache Kafka and
//! Ottla in one run.
//!
//! `tests/cluster/failover.py` measures, with default settings of nodes and clients, and prints a
//! table. No limit is checked.

use anyhow::Result;

use crate::cluster::{Driver, System};

/// Options of `cargo xtask failover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often each event is measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Whose nodes.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        System::Kafka, System::Ottla,
    ])]
    systems: Vec<System>,

    /// How many of the three nodes are controllers too.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    controllers: u32,
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let driver = Driver::new("failover.py", &args.systems, args.controllers)?;
    driver.with("runs", args.runs).run(
        format!("each event {} times", args.runs),
        "a system could not be measured",
    )
}
