//! `ottla topic`: create, list, describe, alter, trim, delete.

mod alter;
mod create;
mod delete;
mod describe;
mod list;
mod readers;
mod sizes;
mod trim;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use clap::Subcommand;
use ottla_client::admin::Validation;

use crate::connect::block_on;
use crate::output::Output;
use crate::quantity;

const EXAMPLES: &str = "\
Examples:
  ottla topic create orders --partitions 6 --config retention.ms=7d
  ottla topic list
  ottla topic describe orders 'billing-*'
  ottla topic alter orders --partitions 12 --dry-run
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
    /// Give topics more partitions, or change their configs.
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

/// Splits `KEY=VALUE`.
pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

/// The configs, with durations and sizes converted to the unit of the key. A key that is given
/// twice is an error.
pub fn resolved(settings: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut keys = BTreeSet::new();
    if let Some((key, _)) = settings.iter().find(|(key, _)| !keys.insert(key)) {
        bail!("{key} is set twice; give it once");
    }
    let resolved = settings
        .iter()
        .map(|(key, value)| Ok((key.clone(), quantity::resolve(key, value)?)));
    resolved.collect()
}

pub fn validation(is_dry_run: bool) -> Validation {
    if is_dry_run {
        Validation::Only
    } else {
        Validation::AndExecution
    }
}
