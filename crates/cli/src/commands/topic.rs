//! `ottla topic`: create, list, describe, alter, trim, delete.

mod alter;
mod create;
mod delete;
mod describe;
mod list;
mod readers;
mod replicas;
mod sizes;
mod trim;

use anyhow::Result;
use clap::Subcommand;

use crate::connect::block_on;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  ottla topic create orders --partitions 6 --config retention.ms=7d
  ottla topic list
  ottla topic describe orders 'billing-*'
  ottla topic alter orders --partitions 12 --dry-run
  ottla topic alter --all --replication-factor 3   Kafka's own topics too
  ottla topic alter orders --config cleanup.policy=compact --delete-config retention.ms
  ottla topic trim orders --to-datetime 7d         deletes the records that are older
  ottla topic delete orders 'test-*'";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create topics.
    Create(create::Args),
    /// List the topics.
    List(list::Args),
    /// Show topics: the replicas and offsets of their partitions, and the configs that were set.
    Describe(describe::Args),
    /// Give topics more partitions or another number of replicas, or change their configs.
    Alter(alter::Args),
    /// Delete the oldest records of topics.
    Trim(trim::Args),
    /// Delete topics with all their records.
    Delete(delete::Args),
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        match &args.action {
            Action::Create(args) => create::run(args, output).await,
            Action::List(args) => list::run(args, output).await,
            Action::Describe(args) => describe::run(args, output).await,
            Action::Alter(args) => alter::run(args, output).await,
            Action::Trim(args) => trim::run(args, output).await,
            Action::Delete(args) => delete::run(args, output).await,
        }
    })
}
