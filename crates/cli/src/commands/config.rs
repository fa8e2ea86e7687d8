//! `ottla config`: the configs of topics, brokers and groups.

use std::collections::BTreeMap;

use anyhow::{Error, Result};
use clap::Subcommand;
use ottla_client::admin::{ConfigChange, Documentation, Resource};
use ottla_client::{ClientError, Cluster, ErrorCode};
use ottla_metadata::config_keys::{FROM_NEXT_START, WITHOUT_EFFECT};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use serde_json::{Value, json};

use crate::connect::{Connect, advised, block_on};
use crate::outcomes::Outcomes;
use crate::output::{Output, Table, message};
use crate::patterns;
use crate::settings::{parse_setting, resolved, validation};
use crate::unset;

const EXAMPLES: &str = "\
Examples:
  ottla config describe --topic orders              what was set for the topic
  ottla config describe --topic orders --all        everything, with defaults and where they come from
  ottla config describe --broker 1 retention --all  configs whose name contains `retention`
  ottla config set --topic orders retention.ms=7d retention.bytes=10GiB
  ottla config set --topic 'test-*' retention.ms=1h --dry-run
  ottla config delete --topic orders retention.ms
  ottla config set --brokers log.retention.ms=7d";

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
    /// The configs of this topic, or of those that fit a pattern; may be given several times.
    #[arg(short, long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// The configs of the broker with this id; may be given several times.
    #[arg(long = "broker", value_name = "ID")]
    broker_ids: Vec<i32>,
    /// The configs that all brokers share.
    #[arg(long)]
    brokers: bool,
    /// The configs of this group, or of those that fit a pattern; may be given several times.
    #[arg(short, long = "group", value_name = "GROUP")]
    groups: Vec<String>,
}

/// The resources that the options name, and the patterns that match nothing.
struct Resources {
    found: Vec<Resource>,
    outcomes: Outcomes,
}

impl Target {
    async fn resources(&self, cluster: &Cluster, output: Output) -> Result<Resources> {
        let (chosen, resource, what): (_, fn(String) -> Resource, _) = if !self.topics.is_empty() {
            let chosen = patterns::topics(cluster, &self.topics).await?;
            (chosen, Resource::Topic, "topic")
        } else if !self.groups.is_empty() {
            let chosen = patterns::groups(cluster, &self.groups).await?;
            (chosen, Resource::Group, "group")
        } else {
            let found: Vec<_> = if self.brokers {
                vec![Resource::BrokerDefaults]
            } else {
                let ids = self.broker_ids.iter();
                ids.map(|id| Resource::Broker(*id)).collect()
            };
            let outcomes = Outcomes::new(output, found.len());
            return Ok(Resources { found, outcomes });
        };
        let outcomes = Outcomes::of(output, &chosen, what);
        let found = chosen.names.into_iter().map(resource).collect();
        Ok(Resources { found, outcomes })
    }
}

fn label(resource: &Resource) -> String {
    match resource {
        Resource::Topic(name) => format!("topic {name}"),
        Resource::Broker(id) => format!("broker {id}"),
        Resource::BrokerDefaults => "all brokers".to_owned(),
        Resource::Group(name) => format!("group {name}"),
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
    /// Show also the configs that were not set.
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
    /// Remove from lists (`cleanup.policy`) instead of replacing them.
    #[arg(long)]
    subtract: bool,
    /// Only check whether the broker would accept the configs.
    #[arg(long)]
    dry_run: bool,
    /// The configs to set; a time or a size may have a unit: 7d, 12h, 64MiB, 1GB.
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    target: Target,
    /// Only check whether the broker would accept the deletion.
    #[arg(long)]
    dry_run: bool,
    /// The configs to delete.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        match &args.action {
            Action::Describe(args) => describe(args, output).await,
            Action::Set(args) => {
                let change = |value: String| match (args.append, args.subtract) {
                    (true, _) => ConfigChange::Append(value),
                    (_, true) => ConfigChange::Subtract(value),
                    _ => ConfigChange::Set(value),
                };
                let settings = resolved(&args.settings)?.into_iter();
                let change = Change {
                    configs: settings.map(|(key, value)| (key, change(value))).collect(),
                    is_dry_run: args.dry_run,
                };
                change.make(&args.connect, &args.target, output).await
            }
            Action::Delete(args) => {
                let keys = args.keys.iter();
                let change = Change {
                    configs: keys
                        .map(|key| (key.clone(), ConfigChange::Delete))
                        .collect(),
                    is_dry_run: args.dry_run,
                };
                change.make(&args.connect, &args.target, output).await
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
    let Resources {
        found,
        mut outcomes,
    } = args.target.resources(&cluster, output).await?;
    let are_several = found.len() > 1;
    let mut table = Table::new(if are_several {
        &["OF", "CONFIG", "VALUE", "SOURCE"]
    } else {
        &["CONFIG", "VALUE", "SOURCE"]
    });
    let mut described = 0;
    for resource in &found {
        let label = label(resource);
        let mut configs = match cluster.describe_configs(resource, documentation).await {
            Ok(configs) => configs,
            Err(error) => {
                outcomes.failed(&label, error);
                continue;
            }
        };
        described += 1;
        let filter = args.filter.as_deref().unwrap_or("");
        configs.retain(|config| {
            config.name.as_str().contains(filter) && (args.all || was_set(config))
        });
        configs.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        for config in &configs {
            let mut cells = vec![
                config.name.to_string(),
                shown_value(config),
                source(config.config_source).to_owned(),
            ];
            if are_several {
                cells.insert(0, label.clone());
            }
            table.row(cells);
            if let Some(text) = config.documentation.as_ref().filter(|_| args.docs) {
                table.row([format!("    {text}")]);
            }
            outcomes.shown(to_json(&label, config));
        }
    }
    if output == Output::Text && described > 0 {
        table.print()?;
    }
    outcomes.finish_list("resources could not be described")
}

/// Whether the value was set by somebody and is not a default.
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

fn to_json(label: &str, config: &DescribeConfigsResourceResult) -> Value {
    let synonyms = config.synonyms.iter().map(|synonym| {
        json!({
            "name": synonym.name.as_str(),
            "value": synonym.value.as_ref().map(ToString::to_string),
            "source": source(synonym.source),
        })
    });
    json!({
        "of": label,
        "name": config.name.as_str(),
        "value": config.value.as_ref().map(ToString::to_string),
        "source": source(config.config_source),
        "read_only": config.read_only,
        "sensitive": config.is_sensitive,
        "synonyms": synonyms.collect::<Value>(),
        "documentation": config.documentation.as_ref().map(ToString::to_string),
    })
}

/// The changes, the same for each resource.
struct Change {
    configs: BTreeMap<String, ConfigChange>,
    is_dry_run: bool,
}

impl Change {
    async fn make(&self, connect: &Connect, target: &Target, output: Output) -> Result<()> {
        let cluster = connect.cluster().await?;
        let Resources {
            found,
            mut outcomes,
        } = target.resources(&cluster, output).await?;
        let (done, what) = if self.is_dry_run {
            ("would_change", "resources would be refused")
        } else {
            ("changed", "resources were not changed")
        };
        for resource in &found {
            match self.make_for(&cluster, resource).await {
                Ok(made) => made.tell(&mut outcomes, output)?,
                Err(error) => outcomes.failed(&label(resource), error),
            }
        }
        outcomes.finish(done, what)
    }

    async fn make_for(&self, cluster: &Cluster, resource: &Resource) -> Result<Made> {
        let mut configs = self.configs.clone();
        let unset = unset::take_out(cluster, resource, &mut configs).await?;
        let validation = validation(self.is_dry_run);
        if !configs.is_empty() {
            let altered = cluster.alter_configs(resource, &configs, validation).await;
            altered.map_err(|error| explained(error, resource, &configs))?;
        }
        Ok(Made {
            label: label(resource),
            is_dry_run: self.is_dry_run,
            keys: configs.into_keys().collect(),
            unset,
            notes: self.notes(cluster, resource).await,
        })
    }

    /// What the broker says about the new values, by key. It is requested after the change, and a
    /// failure is ignored, because the values are set already.
    async fn notes(
        &self,
        cluster: &Cluster,
        resource: &Resource,
    ) -> BTreeMap<String, &'static str> {
        let is_set = |key: &str| {
            let change = self.configs.get(key);
            change.is_some_and(|change| *change != ConfigChange::Delete)
        };
        if self.is_dry_run || !self.configs.keys().any(|key| is_set(key)) {
            return BTreeMap::new();
        }
        let described = cluster.describe_configs(resource, Documentation::Included);
        let described = described.await.unwrap_or_default();
        let set = described
            .iter()
            .filter(|config| is_set(config.name.as_str()));
        notes(set).into_iter().collect()
    }
}

/// Adds the next step to a refusal. The step depends on the kind of resource.
fn explained(
    error: ClientError,
    resource: &Resource,
    configs: &BTreeMap<String, ConfigChange>,
) -> Error {
    let code = error.code();
    let is_of_configs = [ErrorCode::InvalidConfig, ErrorCode::InvalidRequest].map(Some);
    if !is_of_configs.contains(&code) {
        return error.into();
    }
    let of = match resource {
        Resource::Topic(name) => format!("--topic {name}"),
        Resource::Broker(id) => format!("--broker {id}"),
        Resource::BrokerDefaults => "--broker ID".to_owned(),
        Resource::Group(name) => format!("--group {name}"),
    };
    let text = error.to_string();
    let step = if text.contains("broker id must be specified") {
        "--broker ID sets it for one broker".to_owned()
    } else if let Some(key) = configs.keys().find_map(|key| in_milliseconds(key)) {
        format!(
            "{key} sets the same (as milliseconds, or 7d, 12h), and can be changed while brokers run"
        )
    } else {
        format!("`ottla config describe {of} --all --docs` shows the names, values and meanings")
    };
    advised(error.into(), step)
}

/// The key in milliseconds for a key in hours or minutes. Brokers read the latter only when they
/// start.
fn in_milliseconds(key: &str) -> Option<&'static str> {
    match key {
        "log.retention.hours" | "log.retention.minutes" => Some("log.retention.ms"),
        "log.roll.hours" => Some("log.roll.ms"),
        "log.roll.jitter.hours" => Some("log.roll.jitter.ms"),
        _ => None,
    }
}

/// The outcome for one resource.
struct Made {
    label: String,
    is_dry_run: bool,
    /// The keys that were changed.
    keys: Vec<String>,
    /// The keys that were given to delete but were not set.
    unset: Vec<String>,
    notes: BTreeMap<String, &'static str>,
}

impl Made {
    fn tell(&self, outcomes: &mut Outcomes, output: Output) -> Result<()> {
        let label = &self.label;
        let keys = self.keys.join(", ");
        let line = match (self.keys.is_empty(), self.is_dry_run) {
            (true, _) => format!("{label} stays as it is"),
            (false, true) => format!("would change {label}: {keys}"),
            (false, false) => format!("changed {label}: {keys}"),
        };
        let document = json!({
            "of": label, "keys": self.keys, "not_set": self.unset, "notes": self.notes,
        });
        outcomes.done(&line, document)?;
        if output == Output::Text {
            self.unset.iter().for_each(|key| message(&unset::note(key)));
            for (key, note) in &self.notes {
                message(&format!("note: {key}: {note}"));
            }
        }
        Ok(())
    }
}

/// An Ottla broker marks configs that have no effect, or none before its next start.
fn notes<'a>(
    configs: impl Iterator<Item = &'a DescribeConfigsResourceResult>,
) -> Vec<(String, &'static str)> {
    let note = |config: &DescribeConfigsResourceResult| {
        let text = config.documentation.as_ref()?.as_str();
        let note = if text == WITHOUT_EFFECT {
            "accepted, but without effect in this release"
        } else if text.ends_with(FROM_NEXT_START) {
            "takes effect when the broker starts next"
        } else {
            return None;
        };
        Some((config.name.to_string(), note))
    };
    configs.filter_map(note).collect()
}
