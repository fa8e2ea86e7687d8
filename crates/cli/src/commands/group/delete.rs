//! `ottla group delete`.

use anyhow::{Result, bail};
use ottla_client::Cluster;
use serde_json::json;

use crate::connect::Connect;
use crate::outcomes::Outcomes;
use crate::output::Output;
use crate::patterns;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The groups, or patterns of them ('test-*').
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Only show what would be deleted, or why it would be refused.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let chosen = patterns::groups(&cluster, &args.groups).await?;
    let mut outcomes = Outcomes::of(output, &chosen, "group");
    for group in &chosen.names {
        let done = if args.dry_run {
            preview(&cluster, group).await
        } else {
            let deleted = cluster.delete_group(group).await;
            deleted
                .map(|()| format!("deleted group {group}"))
                .map_err(anyhow::Error::from)
        };
        match done {
            Ok(line) => outcomes.done(&line, json!(group))?,
            Err(error) => outcomes.failed(group, error),
        }
    }
    let (done, what) = if args.dry_run {
        ("would_delete", "groups would be refused")
    } else {
        ("deleted", "groups were not deleted")
    };
    outcomes.finish(done, what)
}

/// Checks by other requests what DeleteGroups would do: it has no dry run.
async fn preview(cluster: &Cluster, group: &str) -> Result<String> {
    let found = cluster.describe_group(group).await?;
    if !found.members.is_empty() {
        bail!(
            "group {group} has {} active members; stop them first (`ottla group describe {group}` shows who they are)",
            found.members.len()
        );
    }
    let committed = cluster.committed(group, None).await?;
    let count = committed.len();
    Ok(format!(
        "would delete group {group} with its offsets in {count} partitions"
    ))
}
