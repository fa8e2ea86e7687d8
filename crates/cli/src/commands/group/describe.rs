//! `ottla group describe`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ottla_client::admin::{Group, Member};
use ottla_client::{Cluster, CommittedOffset, PartitionOffset, TopicPartition};
use serde_json::{Value, json};

use super::lag::{TotalLag, ends, lag};
use crate::connect::Connect;
use crate::outcomes::Outcomes;
use crate::output::{Output, Table, message, print_line};
use crate::patterns;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The groups, or patterns of them ('billing-*').
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

/// A group as `describe` shows it.
struct Description {
    group: Group,
    rows: Vec<Row>,
    lag: TotalLag,
}

/// A partition that is assigned to a member or has a committed offset.
struct Row {
    partition: TopicPartition,
    committed: Option<i64>,
    end: Option<i64>,
    /// The index of the member that reads it, in the list of members.
    member: Option<usize>,
}

impl Row {
    fn lag(&self) -> Option<i64> {
        Some(lag(self.committed?, self.end?))
    }
}

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let chosen = patterns::groups(&cluster, &args.groups).await?;
    let mut outcomes = Outcomes::of(output, &chosen, "group");
    for group in &chosen.names {
        match look_at(&cluster, group).await {
            Ok(description) => {
                if output == Output::Text {
                    description.print()?;
                }
                outcomes.shown(description.to_json());
            }
            Err(error) => outcomes.failed(group, error),
        }
    }
    outcomes.finish_list("groups could not be described")
}

async fn look_at(cluster: &Cluster, name: &str) -> Result<Description> {
    let group = cluster.describe_group(name).await?;
    let committed = cluster.committed(name, None).await?;
    let assigned = group.members.iter().flat_map(|member| &member.partitions);
    let partitions: BTreeSet<_> = assigned.chain(committed.keys()).cloned().collect();
    let ends = ends(cluster, &partitions).await?;
    let rows = partitions
        .into_iter()
        .map(|partition| row(&group, partition, &committed, &ends.of));
    let rows: Vec<_> = rows.collect();
    let lag = total_lag(&rows, &ends.leaderless);
    Ok(Description { group, rows, lag })
}

fn total_lag(rows: &[Row], leaderless: &BTreeSet<TopicPartition>) -> TotalLag {
    let mut total = TotalLag::default();
    for row in rows {
        let is_leaderless = leaderless.contains(&row.partition);
        total.add(row.lag(), is_leaderless && row.committed.is_some());
    }
    total
}

fn row(
    group: &Group,
    partition: TopicPartition,
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
    ends: &BTreeMap<TopicPartition, PartitionOffset>,
) -> Row {
    let reads = |member: &Member| member.partitions.contains(&partition);
    Row {
        committed: committed.get(&partition).map(|at| at.offset),
        end: ends.get(&partition).map(|at| at.offset),
        member: group.members.iter().position(reads),
        partition,
    }
}

impl Description {
    fn print(&self) -> Result<()> {
        let group = &self.group;
        print_line(&format!(
            "group {}  state {}  members {}  assignor {}  coordinator {}  lag {}",
            group.group,
            group.state,
            group.members.len(),
            if group.assignor.is_empty() {
                "-"
            } else {
                &group.assignor
            },
            group.coordinator,
            self.lag.shown(),
        ))?;
        self.lag.explain(&group.group);
        if group.members.is_empty() {
            message(&format!("group {} has no active members", group.group));
        }
        let titles = [
            "TOPIC",
            "PARTITION",
            "COMMITTED",
            "END",
            "LAG",
            "MEMBER",
            "HOST",
            "CLIENT ID",
        ];
        let mut table = Table::new(&titles);
        let or_dash =
            |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        for row in &self.rows {
            let member = row.member.map(|place| &group.members[place]);
            let of_member = |field: fn(&Member) -> &String| {
                member.map_or("-".to_owned(), |member| field(member).clone())
            };
            table.row([
                row.partition.topic.clone(),
                row.partition.partition.to_string(),
                or_dash(row.committed),
                or_dash(row.end),
                or_dash(row.lag()),
                of_member(|member| &member.member_id),
                of_member(|member| &member.host),
                of_member(|member| &member.client_id),
            ]);
        }
        table.print()
    }

    fn to_json(&self) -> Value {
        let members = self.group.members.iter().map(|member| {
            let partitions = member.partitions.iter();
            let partitions =
                partitions.map(|of| json!({"topic": of.topic, "partition": of.partition}));
            json!({
                "member_id": member.member_id,
                "instance_id": member.instance_id,
                "client_id": member.client_id,
                "host": member.host,
                "partitions": partitions.collect::<Value>(),
            })
        });
        let offsets = self.rows.iter().map(|row| {
            json!({
                "topic": row.partition.topic,
                "partition": row.partition.partition,
                "committed": row.committed,
                "end": row.end,
                "lag": row.lag(),
                "member_id": row.member.map(|place| &self.group.members[place].member_id),
            })
        });
        json!({
            "group": self.group.group,
            "state": self.group.state,
            "assignor": self.group.assignor,
            "coordinator": self.group.coordinator,
            "lag": self.lag.known,
            "partitions_without_leader": self.lag.leaderless,
            "members": members.collect::<Value>(),
            "offsets": offsets.collect::<Value>(),
        })
    }
}
