//! `ottla log`: prints, checks and repairs log files, with the broker's own code.

mod batches;
mod decoded;
mod dump;
mod indexes;
mod repair;
mod verify;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  ottla log dump ottla-data/orders-0/00000000000000000000.log            its batches
  ottla log dump --records ottla-data/orders-0/00000000000000000000.log  and their records
  ottla log dump ottla-data/orders-0                                     all segments of a partition
  ottla log dump ottla-data/orders-0/*.index ottla-data/orders-0/*.snapshot
  ottla log dump --records ottla-data/__consumer_offsets-7               what groups have committed
  ottla log dump --records ottla-data/__cluster_metadata-0               topics, brokers, configs
  ottla log verify ottla-data                                            everything in a log directory
  ottla log repair ottla-data                                            what would repair it; --execute does it";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print segments, indexes and snapshots.
    Dump(dump::Args),
    /// Check log directories that no broker uses: checksums, offsets, epochs, indexes. It changes
    /// nothing.
    Verify(verify::Args),
    /// Repair log directories that no broker uses. It only lists the steps unless --execute is
    /// given.
    Repair(repair::Args),
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    match &args.action {
        Action::Dump(args) => dump::run(args, output),
        Action::Verify(args) => verify::run(args, output),
        Action::Repair(args) => repair::run(args, output),
    }
}
