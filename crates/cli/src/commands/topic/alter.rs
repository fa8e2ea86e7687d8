//! `ottla topic alter`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use ottla_client::Cluster;
use ottla_client::admin::{ConfigChange, Resource};
use serde_json::json;

use super::{parse_setting, resolved, validation};
use crate::connect::Connect;
use crate::outcomes::Outcomes;
use crate::output::Output;
use crate::patterns;

/// What `ottla topic alter` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topics, or patterns of them ('orders-*').
    #[arg(required = true, value_name = "TOPIC")]
    names: Vec<String>,
    /// How many partitions each shall have in all; keys move to other partitions from then on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A config to set, with a unit if you like (retention.ms=7d); may be given several times.
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
    /// A config to set back to its default; may be given several times.
    #[arg(long = "delete-config", value_name = "KEY")]
    deleted_configs: Vec<String>,
    /// Only check whether the topics could be altered.
    #[arg(long)]
    dry_run: bool,
}

/// Alters the topics.
pub async fn run(args: &Args, output: Output) -> Result<()> {
    let changes = changes(args)?;
    let cluster = args.connect.cluster().await?;
    let chosen = patterns::topics(&cluster, &args.names).await?;
    let mut outcomes = Outcomes::of(output, &chosen, "topic");
    let keys: Vec<_> = changes.keys().collect();
    for name in &chosen.names {
        match alter(args, &cluster, name, &changes).await {
            Ok(()) => {
                let verb = if args.dry_run {
                    "would alter"
                } else {
                    "altered"
                };
                let document = json!({
                    "name": name, "partitions": args.partitions, "configs_changed": keys,
                });
                outcomes.done(&format!("{verb} topic {name}"), document)?;
            }
            Err(error) => outcomes.failed(name, error),
        }
    }
    let done = if args.dry_run {
        "would_alter"
    } else {
        "altered"
    };
    outcomes.finish(done, "topics were not altered")
}

fn changes(args: &Args) -> Result<BTreeMap<String, ConfigChange>> {
    let mut changes = BTreeMap::new();
    for (key, value) in resolved(&args.configs)? {
        changes.insert(key, ConfigChange::Set(value));
    }
    for key in &args.deleted_configs {
        if changes.insert(key.clone(), ConfigChange::Delete).is_some() {
            bail!("{key} is both set and deleted; give it once");
        }
    }
    if changes.is_empty() && args.partitions.is_none() {
        bail!("nothing to alter; give --partitions, --config KEY=VALUE or --delete-config KEY");
    }
    Ok(changes)
}

/// Both changes are checked before one is made, so that what is refused leaves nothing half done.
async fn alter(
    args: &Args,
    cluster: &Cluster,
    name: &str,
    changes: &BTreeMap<String, ConfigChange>,
) -> Result<()> {
    let resource = Resource::Topic(name.to_owned());
    let both = !changes.is_empty() && args.partitions.is_some();
    let passes: &[bool] = match (args.dry_run, both) {
        (true, _) => &[true],
        (false, true) => &[true, false],
        (false, false) => &[false],
    };
    for is_dry_run in passes {
        let validation = validation(*is_dry_run);
        if !changes.is_empty() {
            cluster
                .alter_configs(&resource, changes, validation)
                .await?;
        }
        if let Some(count) = args.partitions {
            cluster.create_partitions(name, count, validation).await?;
        }
    }
    Ok(())
}
