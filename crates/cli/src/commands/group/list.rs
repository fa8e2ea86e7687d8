//! `ottla group list`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ottla_client::admin::ListedGroup;
use ottla_client::{Cluster, TopicPartition};
use serde_json::json;

use super::lag::{TotalLag, ends, lag};
use crate::connect::Connect;
use crate::output::{Output, Table, message, print_json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
}

/// Committed offsets.
type Committed = BTreeMap<TopicPartition, i64>;

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let groups = cluster.list_groups().await?;
    let lags = lags(&cluster, &groups).await?;
    let lag = |group: &ListedGroup| lags.get(&group.group).copied().unwrap_or_default();
    if output == Output::Json {
        let groups = groups.iter().map(|group| {
            json!({
                "group": group.group,
                "state": group.state,
                "type": group.group_type,
                "protocol_type": group.protocol_type,
                "coordinator": group.coordinator,
                "lag": lag(group).known,
                "partitions_without_leader": lag(group).leaderless,
            })
        });
        return print_json(&groups.collect());
    }
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "COORDINATOR", "LAG"]);
    for group in groups {
        let lag = lag(&group);
        lag.explain(&group.group);
        let lag = lag.shown();
        let coordinator = group.coordinator.to_string();
        table.row([group.group, group.state, group.group_type, coordinator, lag]);
    }
    table.print()
}

/// The lag of each group. A group without committed offsets has none.
async fn lags(cluster: &Cluster, groups: &[ListedGroup]) -> Result<BTreeMap<String, TotalLag>> {
    let mut committed = BTreeMap::<&str, Committed>::new();
    for group in groups {
        match cluster.committed(&group.group, None).await {
            Ok(offsets) => {
                let offsets = offsets.into_iter().map(|(of, at)| (of, at.offset));
                committed.insert(&group.group, offsets.collect());
            }
            // An error for one group must not hide the others.
            Err(error) => message(&format!(
                "the lag of group {} is not known: {error}",
                group.group
            )),
        }
    }
    let partitions: BTreeSet<_> = committed
        .values()
        .flat_map(Committed::keys)
        .cloned()
        .collect();
    let ends = ends(cluster, &partitions).await?;
    let total = |offsets: &Committed| {
        let mut total = TotalLag::default();
        for (of, at) in offsets {
            let end = ends.of.get(of).map(|end| end.offset);
            let behind = end.map(|end| lag(*at, end));
            total.add(behind, ends.leaderless.contains(of));
        }
        total
    };
    let lags = committed.iter();
    let lags = lags.map(|(group, offsets)| ((*group).to_owned(), total(offsets)));
    Ok(lags.collect())
}
