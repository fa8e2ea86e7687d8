//! `ottla group`: list, describe, delete, delete-offsets, reset-offsets.

mod delete;
mod delete_offsets;
mod describe;
mod lag;
mod list;
mod offset_file;
mod reset;

use anyhow::Result;
use clap::Subcommand;

use crate::connect::block_on;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  ottla group list
  ottla group describe billing 'audit-*'
  ottla group reset-offsets billing --topic orders --to-earliest            shows what would change
  ottla group reset-offsets billing --topic orders --to-earliest --execute  changes it
  ottla group reset-offsets billing --topic orders:0,3 --to-datetime 2026-11-24T10:00:00Z --execute
  ottla group reset-offsets billing --all-topics --to-current --export > offsets.csv
  ottla group reset-offsets billing --from-file offsets.csv --execute
  ottla group delete-offsets billing --topic orders
  ottla group delete billing";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the groups and their lag.
    List(list::Args),
    /// Show the committed offsets of groups, their lag, and their members.
    Describe(describe::Args),
    /// Delete groups that have no members, with all their offsets.
    Delete(delete::Args),
    /// Delete committed offsets of topics that the group no longer reads.
    DeleteOffsets(delete_offsets::Args),
    /// Set the offsets of a group without members. It only shows the change unless --execute is
    /// given.
    ResetOffsets(reset::Args),
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        match &args.action {
            Action::List(args) => list::run(args, output).await,
            Action::Describe(args) => describe::run(args, output).await,
            Action::Delete(args) => delete::run(args, output).await,
            Action::DeleteOffsets(args) => delete_offsets::run(args, output).await,
            Action::ResetOffsets(args) => reset::run(args, output).await,
        }
    })
}
