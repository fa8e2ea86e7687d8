//! `cargo xtask scale`: thousands of partitions with replication 3 on three controllers and five
//! brokers, Apache Kafka and Ottla in one run.
//!
//! `tests/cluster/scale.py` measures, with default settings of nodes, and prints a table. No limit
//! is checked. Figures that are quoted come from `--release`.

use anyhow::Result;

use crate::cluster::{Driver, System};
use crate::toolbox::ottla;

/// Options of `cargo xtask scale`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many partitions.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(5..))]
    partitions: u32,

    /// How many for Apache Kafka.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(5..))]
    kafka_partitions: u32,

    /// Whose nodes.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        System::Kafka, System::Ottla,
    ])]
    systems: Vec<System>,

    /// Measure the build that users install.
    #[arg(long)]
    release: bool,
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let build = ottla::in_profile(args.release);
    let driver = Driver::without_load("scale.py", &args.systems, build)?
        .with("partitions", args.partitions)
        .with("kafka-partitions", args.kafka_partitions);
    driver.run(
        format!("{} partitions", args.partitions),
        "a step did not end in time",
    )
}
