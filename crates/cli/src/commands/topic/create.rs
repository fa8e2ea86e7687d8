//! `ottla topic create`.

use std::collections::BTreeMap;

use anyhow::Result;
use ottla_client::ErrorCode;
use ottla_client::admin::NewTopic;
use serde_json::json;

use crate::connect::{Connect, advised};
use crate::outcomes::Outcomes;
use crate::output::{Output, message};
use crate::settings::{parse_setting, resolved, validation};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topics' names: letters, digits, `.`, `_` and `-`.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// The number of partitions of each topic [default: the broker's num.partitions].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// The number of replicas of each partition [default: the broker's default.replication.factor].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A config of the topics; a time or a size may have a unit (retention.ms=7d,
    /// segment.bytes=64MiB). May be given several times.
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
    /// Do not fail when a topic exists.
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether the broker would create the topics.
    #[arg(long)]
    dry_run: bool,
}

/// The next step names any topic, because the new one does not exist yet.
const CONFIGS: &str = "`ottla config describe --topic TOPIC --all --docs` shows the names and meanings, by any topic \
     that exists";

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let configs = resolved(&args.configs)?;
    let cluster = args.connect.cluster().await?;
    let mut outcomes = Outcomes::new(output, args.names.len());
    for name in &args.names {
        let topic = NewTopic {
            name: name.clone(),
            partitions: args.partitions,
            replication_factor: args.replication_factor,
            assignment: BTreeMap::new(),
            configs: configs.clone(),
        };
        match cluster.create_topic(&topic, validation(args.dry_run)).await {
            Err(error)
                if args.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) =>
            {
                message(&format!("topic {name} already exists"));
            }
            Err(error) if error.code() == Some(ErrorCode::InvalidConfig) => {
                outcomes.failed(name, advised(error.into(), CONFIGS.to_owned()));
            }
            Err(error) => outcomes.failed(name, error),
            Ok(created) => {
                let verb = if args.dry_run {
                    "would create"
                } else {
                    "created"
                };
                let (partitions, copies) = (created.partitions, created.replication_factor);
                let line = format!(
                    "{verb} topic {name}: partitions {partitions}, replication factor {copies}"
                );
                let document = json!({
                    "name": name,
                    // A dry run creates no topic, so there is no id.
                    "id": (!args.dry_run).then(|| created.id.to_string()),
                    "partitions": partitions,
                    "replication_factor": copies,
                });
                outcomes.done(&line, document)?;
            }
        }
    }
    let (done, what) = if args.dry_run {
        ("would_create", "topics would be refused")
    } else {
        ("created", "topics were not created")
    };
    outcomes.finish(done, what)
}
