//! `ottla config`: the configs of topics, brokers and groups.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Subcommand;
use ottla_client::admin::{ConfigChange, Documentation, Resource};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use serde_json::{Value, json};

use super::topic::parse_setting;
use crate::connect::{Connect, block_on};
use crate::output::{Output, Table, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  ottla config describe --topic orders              what was set for the topic
  ottla config describe --topic orders --all        everything, with defaults and where they come from
  ottla config describe --broker 1 retention --all  configs whose name contains `retention`
  ottla config set --topic orders retention.ms=604800000 cleanup.policy=delete
  ottla config delete --topic orders retention.ms
  ottla config set --brokers log.retention.ms=604800000";

/// What `ottla config` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show configs and where their values come from.
    Describe(Describe),
    /// Set configs; the others stay as they are.
    Set(Set),
    /// Set configs back to their defaults.
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// The configs of this topic.
    #[arg(short, long, value_name = "NAME")]
    topic: Option<String>,
    /// The configs of the broker with this id.
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// The configs that all brokers share.
    #[arg(long)]
    brokers: bool,
    /// The configs of this group.
    #[arg(short, long, value_name = "NAME")]
    group: Option<String>,
}

impl Target {
    fn resource(&self) -> Resource {
        if let Some(topic) = &self.topic {
            Resource::Topic(topic.clone())
        } else if let Some(broker) = self.broker {
            Resource::Broker(broker)
        } else if let Some(group) = &self.group {
            Resource::Group(group.clone())
        } else {
            Resource::BrokerDefaults
        }
    }
}

#[derive(Debug, clap::Args)]
struct Describe {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    target: Target,
    /// Only configs whose names contain this.
    filter: Option<String>,
    /// Show those too that were not set.
    #[arg(short, long)]
    all: bool,
    /// Show what each config means.
    #[arg(long)]
    docs: bool,
}

#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    target: Target,
    /// Add to lists (`cleanup.policy`) instead of replacing them.
    #[arg(long, conflicts_with = "subtract")]
    append: bool,
    /// Take out of lists instead of replacing them.
    #[arg(long)]
    subtract: bool,
    /// The configs to set.
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    target: Target,
    /// The configs to delete.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
}

/// Carries out the subcommand.
pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        match &args.action {
            Action::Describe(args) => describe(args, output).await,
            Action::Set(args) => {
                let change = |value: &String| match (args.append, args.subtract) {
                    (true, _) => ConfigChange::Append(value.clone()),
                    (_, true) => ConfigChange::Subtract(value.clone()),
                    _ => ConfigChange::Set(value.clone()),
                };
                let settings = args.settings.iter();
                let changes = settings.map(|(key, value)| (key.clone(), change(value)));
                alter(&args.connect, &args.target, changes.collect(), output).await
            }
            Action::Delete(args) => {
                let keys = args.keys.iter();
                let changes = keys.map(|key| (key.clone(), ConfigChange::Delete));
                alter(&args.connect, &args.target, changes.collect(), output).await
            }
        }
    })
}

async fn describe(args: &Describe, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let documentation = if args.docs || output == Output::Json {
        Documentation::Included
    } else {
        Documentation::Omitted
    };
    let resource = args.target.resource();
    let mut configs = cluster.describe_configs(&resource, documentation).await?;
    let filter = args.filter.as_deref().unwrap_or("");
    configs.retain(|config| config.name.as_str().contains(filter) && (args.all || was_set(config)));
    configs.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    if output == Output::Json {
        return print_json(&configs.iter().map(to_json).collect());
    }
    let mut table = Table::new(&["CONFIG", "VALUE", "SOURCE"]);
    for config in &configs {
        table.row([
            config.name.to_string(),
            shown_value(config),
            source(config.config_source).to_owned(),
        ]);
        if let Some(text) = config.documentation.as_ref().filter(|_| args.docs) {
            table.row([format!("    {text}")]);
        }
    }
    table.print()
}

/// Whether somebody set it, in contrast to a default.
fn was_set(config: &DescribeConfigsResourceResult) -> bool {
    config.config_source != 5
}

fn shown_value(config: &DescribeConfigsResourceResult) -> String {
    match &config.value {
        Some(value) => value.to_string(),
        None if config.is_sensitive => "(hidden)".to_owned(),
        None => "(none)".to_owned(),
    }
}

fn source(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker",
        3 => "all brokers",
        4 => "server.properties",
        5 => "default",
        6 => "broker logger",
        7 => "client metrics",
        8 => "group",
        _ => "unknown",
    }
}

fn to_json(config: &DescribeConfigsResourceResult) -> Value {
    let synonyms = config.synonyms.iter().map(|synonym| {
        json!({
            "name": synonym.name.as_str(),
            "value": synonym.value.as_ref().map(ToString::to_string),
            "source": source(synonym.source),
        })
    });
    json!({
        "name": config.name.as_str(),
        "value": config.value.as_ref().map(ToString::to_string),
        "source": source(config.config_source),
        "read_only": config.read_only,
        "sensitive": config.is_sensitive,
        "synonyms": synonyms.collect::<Value>(),
        "documentation": config.documentation.as_ref().map(ToString::to_string),
    })
}

async fn alter(
    connect: &Connect,
    target: &Target,
    changes: BTreeMap<String, ConfigChange>,
    output: Output,
) -> Result<()> {
    if changes.is_empty() {
        bail!("nothing to change");
    }
    let cluster = connect.cluster().await?;
    cluster.alter_configs(&target.resource(), &changes).await?;
    let keys: Vec<_> = changes.keys().collect();
    match output {
        Output::Json => print_json(&json!({ "changed": keys })),
        Output::Text => keys
            .iter()
            .try_for_each(|key| print_line(&format!("changed {key}"))),
    }
}
