//! `ottla group`: list, describe, delete, delete-offsets, reset-offsets.

mod delete;
mod delete_offsets;
mod describe;
mod list;
mod offset_file;
mod reset;

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Subcommand;
use ottla_client::{Cluster, TopicPartition};

use crate::connect::block_on;
use crate::output::{Output, message};

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

/// Partitions with and without a leader. Deleted partitions are in neither set.
struct Standing {
    led: BTreeSet<TopicPartition>,
    leaderless: BTreeSet<TopicPartition>,
}

/// Looks up which of these partitions have a leader now.
async fn standing(cluster: &Cluster, partitions: &BTreeSet<TopicPartition>) -> Result<Standing> {
    let topics: BTreeSet<_> = partitions.iter().map(|of| of.topic.clone()).collect();
    cluster
        .refresh(&topics.into_iter().collect::<Vec<_>>())
        .await?;
    let metadata = cluster.metadata();
    let exists = |of: &&TopicPartition| metadata.partition(of).is_some();
    let existing = partitions.iter().filter(exists).cloned();
    let (led, leaderless) = existing.partition(|of| metadata.leader(of).is_some());
    Ok(Standing { led, leaderless })
}

/// The lag of a group, summed over all partitions with a committed offset.
#[derive(Debug, Default, Clone, Copy)]
struct TotalLag {
    /// The sum over partitions whose end is known; `None` when there are none.
    known: Option<i64>,
    /// The number of partitions left out because they have no leader.
    leaderless: usize,
}

impl TotalLag {
    fn add(&mut self, lag: Option<i64>, is_leaderless: bool) {
        if let Some(lag) = lag {
            self.known = Some(self.known.unwrap_or(0) + lag);
        }
        self.leaderless += usize::from(is_leaderless);
    }

    /// As text. When partitions are left out, the lag is shown as a lower bound.
    fn shown(self) -> String {
        match self.known {
            None => "-".to_owned(),
            Some(lag) if self.leaderless > 0 => format!(">={lag}"),
            Some(lag) => lag.to_string(),
        }
    }

    /// Prints a message when the lag leaves partitions out.
    fn explain(self, group: &str) {
        if self.leaderless > 0 {
            let s = if self.leaderless == 1 { "" } else { "s" };
            message(&format!(
                "the lag of group {group} leaves out {} partition{s} without a leader; `ottla cluster` shows what is wrong",
                self.leaderless
            ));
        }
    }
}

/// The lag of one partition: the offsets between the committed one and the end.
fn lag(committed: i64, end: i64) -> i64 {
    (end - committed).max(0)
}
