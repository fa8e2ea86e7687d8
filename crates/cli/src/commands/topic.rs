//! `ottla topic`: create, list, describe, alter, delete.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use clap::Subcommand;
use ottla_client::admin::{ConfigChange, Documentation, NewTopic, Resource, Validation};
use ottla_client::{
    Cluster, ErrorCode, Isolation, OffsetSpec, PartitionOffset, TopicMetadata, TopicPartition,
};
use serde_json::{Value, json};

use crate::connect::{Connect, block_on};
use crate::output::{Output, Table, join, message, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  ottla topic create orders --partitions 6 --config retention.ms=604800000
  ottla topic list
  ottla topic describe orders
  ottla topic alter orders --partitions 12
  ottla topic alter orders --config cleanup.policy=compact --delete-config retention.ms
  ottla topic delete orders";

/// What `ottla topic` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a topic.
    Create(Create),
    /// List the topics.
    List(List),
    /// Show a topic: where its partitions are, which offsets they hold, which configs were set.
    Describe(Describe),
    /// Give a topic more partitions, or change its configs.
    Alter(Alter),
    /// Delete topics with all their records.
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct Create {
    #[command(flatten)]
    connect: Connect,
    /// The topic's name: letters, digits, `.`, `_` and `-`.
    name: String,
    /// How many partitions [default: the broker's num.partitions].
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many copies of each [default: the broker's default.replication.factor].
    #[arg(short, long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A config of the topic; may be given several times.
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
    /// It is no error when the topic exists.
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether it could be created.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    connect: Connect,
    /// Show Kafka's own topics too.
    #[arg(long)]
    internal: bool,
}

#[derive(Debug, clap::Args)]
struct Describe {
    #[command(flatten)]
    connect: Connect,
    /// The topics.
    #[arg(required = true)]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Alter {
    #[command(flatten)]
    connect: Connect,
    /// The topic.
    name: String,
    /// How many partitions it shall have in all; keys move to other partitions from then on.
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A config to set; may be given several times.
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
    /// A config to set back to its default; may be given several times.
    #[arg(long = "delete-config", value_name = "KEY")]
    deleted_configs: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[command(flatten)]
    connect: Connect,
    /// The topics.
    #[arg(required = true)]
    names: Vec<String>,
    /// It is no error when a topic does not exist.
    #[arg(long)]
    if_exists: bool,
}

/// Carries out the subcommand.
pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        match &args.action {
            Action::Create(args) => create(args, output).await,
            Action::List(args) => list(args, output).await,
            Action::Describe(args) => describe(args, output).await,
            Action::Alter(args) => alter(args, output).await,
            Action::Delete(args) => delete(args, output).await,
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

async fn create(args: &Create, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let topic = NewTopic {
        name: args.name.clone(),
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        assignment: BTreeMap::new(),
        configs: args.configs.iter().cloned().collect(),
    };
    let validation = if args.dry_run {
        Validation::Only
    } else {
        Validation::AndExecution
    };
    let created = match cluster.create_topic(&topic, validation).await {
        Err(error) if args.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
            message(&format!("topic {} exists already", args.name));
            return Ok(());
        }
        created => created?,
    };
    if output == Output::Json {
        return print_json(&json!({
            "name": args.name,
            "id": created.id.to_string(),
            "partitions": created.partitions,
            "replication_factor": created.replication_factor,
            "dry_run": args.dry_run,
        }));
    }
    let done = if args.dry_run {
        "would create"
    } else {
        "created"
    };
    print_line(&format!(
        "{done} topic {}: partitions {}, replication factor {}",
        args.name, created.partitions, created.replication_factor
    ))
}

async fn list(args: &List, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let metadata = cluster.refresh_all().await?;
    let topics = metadata.topics.values();
    let shown: Vec<_> = topics
        .filter(|topic| args.internal || !topic.is_internal)
        .collect();
    if output == Output::Json {
        let topics = shown.iter().map(|topic| {
            json!({
                "name": topic.name,
                "id": topic.id.to_string(),
                "partitions": topic.partitions.len(),
                "replication_factor": replication_factor(topic),
                "internal": topic.is_internal,
            })
        });
        return print_json(&topics.collect());
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS", "ID"]);
    for topic in shown {
        table.row([
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replication_factor(topic).to_string(),
            topic.id.to_string(),
        ]);
    }
    table.print()
}

fn replication_factor(topic: &TopicMetadata) -> usize {
    let first = topic.partitions.values().next();
    first.map_or(0, |partition| partition.replicas.len())
}

async fn describe(args: &Describe, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let mut documents = Vec::new();
    for name in &args.names {
        let description = look_at(&cluster, name).await?;
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

/// A topic as `describe` shows it.
struct Description {
    topic: TopicMetadata,
    earliest: BTreeMap<TopicPartition, PartitionOffset>,
    latest: BTreeMap<TopicPartition, PartitionOffset>,
    /// What was set for this topic, in contrast to the broker's defaults.
    configs: BTreeMap<String, String>,
}

/// `config_source` of a config that was set for the topic itself.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;

async fn look_at(cluster: &Cluster, name: &str) -> Result<Description> {
    let topic = cluster.topic(name).await?;
    let indexes = topic.partitions.iter();
    let led = indexes.filter(|(_, partition)| partition.leader.is_some());
    let led: BTreeSet<_> = led
        .map(|(index, _)| TopicPartition::new(name, *index))
        .collect();
    let uncommitted = Isolation::ReadUncommitted;
    let earliest = cluster
        .list_offsets(&led, OffsetSpec::Earliest, uncommitted)
        .await?;
    let latest = cluster
        .list_offsets(&led, OffsetSpec::Latest, uncommitted)
        .await?;
    let resource = Resource::Topic(name.to_owned());
    let configs = cluster
        .describe_configs(&resource, Documentation::Omitted)
        .await?;
    let set = configs
        .iter()
        .filter(|config| config.config_source == DYNAMIC_TOPIC_CONFIG);
    let text = |value: &Option<_>| value.as_ref().map_or_else(String::new, ToString::to_string);
    let configs = set.map(|config| (config.name.to_string(), text(&config.value)));
    Ok(Description {
        configs: configs.collect(),
        topic,
        earliest,
        latest,
    })
}

impl Description {
    fn offsets(&self, index: i32) -> (Option<i64>, Option<i64>) {
        let key = TopicPartition::new(&self.topic.name, index);
        let of = |offsets: &BTreeMap<_, PartitionOffset>| offsets.get(&key).map(|at| at.offset);
        (of(&self.earliest), of(&self.latest))
    }

    fn print(&self) -> Result<()> {
        let topic = &self.topic;
        let settings = self
            .configs
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let settings = settings.collect::<Vec<_>>().join(", ");
        print_line(&format!(
            "topic {}  id {}  configs set: {}",
            topic.name,
            topic.id,
            if settings.is_empty() {
                "none"
            } else {
                &settings
            }
        ))?;
        let mut table = Table::new(&[
            "PARTITION",
            "LEADER",
            "EPOCH",
            "REPLICAS",
            "IN SYNC",
            "START",
            "END",
        ]);
        let or_dash =
            |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        for (index, partition) in &topic.partitions {
            let (start, end) = self.offsets(*index);
            table.row([
                index.to_string(),
                or_dash(partition.leader.map(i64::from)),
                partition.leader_epoch.to_string(),
                join(&partition.replicas),
                join(&partition.isr),
                or_dash(start),
                or_dash(end),
            ]);
        }
        table.print()
    }

    fn to_json(&self) -> Value {
        let partitions = self.topic.partitions.iter().map(|(index, partition)| {
            let (start, end) = self.offsets(*index);
            json!({
                "partition": index,
                "leader": partition.leader,
                "leader_epoch": partition.leader_epoch,
                "replicas": partition.replicas,
                "in_sync": partition.isr,
                "offline": partition.offline,
                "start_offset": start,
                "end_offset": end,
            })
        });
        json!({
            "name": self.topic.name,
            "id": self.topic.id.to_string(),
            "internal": self.topic.is_internal,
            "configs": self.configs,
            "partitions": partitions.collect::<Value>(),
        })
    }
}

async fn alter(args: &Alter, output: Output) -> Result<()> {
    let mut changes = BTreeMap::new();
    for (key, value) in &args.configs {
        changes.insert(key.clone(), ConfigChange::Set(value.clone()));
    }
    for key in &args.deleted_configs {
        if changes.insert(key.clone(), ConfigChange::Delete).is_some() {
            bail!("{key} is both set and deleted; give it once");
        }
    }
    if changes.is_empty() && args.partitions.is_none() {
        bail!("nothing to alter; give --partitions, --config KEY=VALUE or --delete-config KEY");
    }
    let cluster = args.connect.cluster().await?;
    if !changes.is_empty() {
        let resource = Resource::Topic(args.name.clone());
        cluster.alter_configs(&resource, &changes).await?;
    }
    if let Some(count) = args.partitions {
        cluster.create_partitions(&args.name, count).await?;
    }
    if output == Output::Json {
        let keys: Vec<_> = changes.keys().collect();
        return print_json(&json!({
            "name": args.name, "partitions": args.partitions, "configs_changed": keys,
        }));
    }
    print_line(&format!("altered topic {}", args.name))
}

async fn delete(args: &Delete, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let mut deleted = Vec::new();
    for name in &args.names {
        match cluster.delete_topic(name).await {
            Err(error)
                if args.if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition) =>
            {
                message(&format!("topic {name} does not exist"));
            }
            done => {
                done?;
                deleted.push(name);
            }
        }
    }
    if output == Output::Json {
        return print_json(&json!({ "deleted": deleted }));
    }
    for name in deleted {
        print_line(&format!("deleted topic {name}"))?;
    }
    Ok(())
}
