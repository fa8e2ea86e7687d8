//! `ottla group`: list, describe, delete, reset-offsets.

mod reset;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use clap::Subcommand;
use ottla_client::admin::{Group, Member};
use ottla_client::{
    Cluster, CommittedOffset, Isolation, OffsetSpec, PartitionOffset, TopicPartition,
};
use serde_json::{Value, json};

use crate::connect::{Connect, block_on};
use crate::output::{Output, Table, message, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  ottla group list
  ottla group describe billing
  ottla group reset-offsets billing --topic orders --to-earliest            shows what would change
  ottla group reset-offsets billing --topic orders --to-earliest --execute  changes it
  ottla group reset-offsets billing --topic orders:0,3 --to-datetime 2026-11-24T10:00:00Z --execute
  ottla group delete billing";

/// What `ottla group` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the groups.
    List(List),
    /// Show what a group has read, how far it is behind, and its members.
    Describe(Describe),
    /// Delete groups that have no members, with all their offsets.
    Delete(Delete),
    /// Move a group without members to other offsets: a dry run unless --execute is given.
    ResetOffsets(reset::Args),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct Describe {
    #[command(flatten)]
    connect: Connect,
    /// The groups.
    #[arg(required = true)]
    groups: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[command(flatten)]
    connect: Connect,
    /// The groups.
    #[arg(required = true)]
    groups: Vec<String>,
}

/// Carries out the subcommand.
pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        match &args.action {
            Action::List(args) => list(args, output).await,
            Action::Describe(args) => describe(args, output).await,
            Action::Delete(args) => delete(args, output).await,
            Action::ResetOffsets(args) => reset::run(args, output).await,
        }
    })
}

async fn list(args: &List, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let groups = cluster.list_groups().await?;
    if output == Output::Json {
        let groups = groups.iter().map(|group| {
            json!({
                "group": group.group,
                "state": group.state,
                "type": group.group_type,
                "protocol_type": group.protocol_type,
                "coordinator": group.coordinator,
            })
        });
        return print_json(&groups.collect());
    }
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "COORDINATOR"]);
    for group in groups {
        let coordinator = group.coordinator.to_string();
        table.row([group.group, group.state, group.group_type, coordinator]);
    }
    table.print()
}

async fn delete(args: &Delete, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    for group in &args.groups {
        cluster.delete_group(group).await?;
        if output == Output::Text {
            print_line(&format!("deleted group {group}"))?;
        }
    }
    match output {
        Output::Json => print_json(&json!({ "deleted": args.groups })),
        Output::Text => Ok(()),
    }
}

/// A group as `describe` shows it.
struct Description {
    group: Group,
    rows: Vec<Row>,
}

/// A partition that the group reads or has read.
struct Row {
    partition: TopicPartition,
    committed: Option<i64>,
    end: Option<i64>,
    /// The place of its reader among the members.
    member: Option<usize>,
}

impl Row {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

async fn describe(args: &Describe, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let mut documents = Vec::new();
    for group in &args.groups {
        let description = look_at(&cluster, group).await?;
        match output {
            Output::Json => documents.push(description.to_json()),
            Output::Text => description.print()?,
        }
    }
    match output {
        Output::Json => print_json(&Value::Array(documents)),
        Output::Text => Ok(()),
    }
}

async fn look_at(cluster: &Cluster, name: &str) -> Result<Description> {
    let group = cluster.describe_group(name).await?;
    let committed = cluster.committed(name, None).await?;
    let assigned = group.members.iter().flat_map(|member| &member.partitions);
    let partitions: BTreeSet<_> = assigned.chain(committed.keys()).cloned().collect();
    let existing = existing(cluster, &partitions).await?;
    let ends = cluster
        .list_offsets(&existing, OffsetSpec::Latest, Isolation::ReadUncommitted)
        .await?;
    let rows = partitions
        .into_iter()
        .map(|partition| row(&group, partition, &committed, &ends));
    let rows = rows.collect();
    Ok(Description { group, rows })
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

/// Those of `partitions` whose topic was not deleted meanwhile.
async fn existing(
    cluster: &Cluster,
    partitions: &BTreeSet<TopicPartition>,
) -> Result<BTreeSet<TopicPartition>> {
    let topics: BTreeSet<_> = partitions.iter().map(|of| of.topic.clone()).collect();
    cluster
        .refresh(&topics.into_iter().collect::<Vec<_>>())
        .await?;
    let metadata = cluster.metadata();
    let exists = |of: &&TopicPartition| metadata.leader(of).is_some();
    Ok(partitions.iter().filter(exists).cloned().collect())
}

impl Description {
    fn print(&self) -> Result<()> {
        let group = &self.group;
        print_line(&format!(
            "group {}  state {}  members {}  assignor {}  coordinator {}",
            group.group,
            group.state,
            group.members.len(),
            if group.assignor.is_empty() {
                "-"
            } else {
                &group.assignor
            },
            group.coordinator
        ))?;
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
            "members": members.collect::<Value>(),
            "offsets": offsets.collect::<Value>(),
        })
    }
}
