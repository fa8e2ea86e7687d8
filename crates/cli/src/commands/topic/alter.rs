//! `ottla topic alter`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use ottla_client::Cluster;
use ottla_client::admin::{ConfigChange, Resource};
use serde_json::json;

use super::replicas;
use crate::connect::Connect;
use crate::moving::How;
use crate::outcomes::Outcomes;
use crate::output::{Output, message};
use crate::patterns::{self, Chosen};
use crate::settings::{parse_setting, resolved, validation};
use crate::unset;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topics, or patterns of them ('orders-*').
    #[arg(
        required_unless_present = "all",
        conflicts_with = "all",
        value_name = "TOPIC"
    )]
    names: Vec<String>,
    /// All topics, Kafka's own too; with --replication-factor.
    #[arg(long, requires = "replication_factor")]
    all: bool,
    /// The new number of partitions of each topic. From then on, keys may go to other partitions
    /// than before.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// The new number of replicas of each partition, on brokers in as many racks as there are. Waits
    /// until they are in sync; when it is interrupted, the same command continues.
    /// min.insync.replicas is raised to 2 last, for three or more replicas, unless it was set.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..),
        conflicts_with_all = ["partitions", "configs", "deleted_configs"])]
    replication_factor: Option<u8>,
    #[command(flatten)]
    how: How,
    /// A config to set; a time or a size may have a unit (retention.ms=7d). May be given several
    /// times.
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
    /// A config to set back to its default; may be given several times.
    #[arg(long = "delete-config", value_name = "KEY")]
    deleted_configs: Vec<String>,
}

pub async fn run(args: &Args, output: Output) -> Result<()> {
    if let Some(factor) = args.replication_factor {
        return alter_replicas(args, factor.into(), output).await;
    }
    let changes = changes(args)?;
    let cluster = args.connect.cluster().await?;
    let chosen = patterns::topics(&cluster, &args.names).await?;
    let mut outcomes = Outcomes::of(output, &chosen, "topic");
    for name in &chosen.names {
        match alter(args, &cluster, name, changes.clone()).await {
            Ok(altered) => {
                let document = json!({
                    "name": name,
                    "partitions": args.partitions,
                    "configs_changed": altered.keys,
                    "configs_not_set": altered.unset,
                });
                outcomes.done(&altered.line(args, name), document)?;
                if output == Output::Text {
                    altered
                        .unset
                        .iter()
                        .for_each(|key| message(&unset::note(key)));
                }
            }
            Err(error) => outcomes.failed(name, error),
        }
    }
    let (done, what) = if args.how.dry_run {
        ("would_alter", "topics would be refused")
    } else {
        ("altered", "topics were not altered")
    };
    outcomes.finish(done, what)
}

async fn alter_replicas(args: &Args, factor: usize, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let names = if args.all {
        let metadata = cluster.refresh_all().await?;
        metadata.topics.keys().cloned().collect()
    } else {
        let chosen = patterns::topics(&cluster, &args.names).await?;
        if let Some(pattern) = chosen.unmatched.first() {
            return Err(Chosen::unmatched_error("topic", pattern));
        }
        for name in &chosen.names {
            cluster.topic(name).await?;
        }
        chosen.names
    };
    replicas::alter(&cluster, &names, (factor, &args.how), output).await
}

/// The configs of a topic that were changed, or would be changed.
struct Altered {
    keys: Vec<String>,
    /// The keys that were given to delete but were not set.
    unset: Vec<String>,
}

impl Altered {
    fn line(&self, args: &Args, name: &str) -> String {
        let partitions = args.partitions.map(|count| format!("partitions {count}"));
        let changed: Vec<_> = partitions.into_iter().chain(self.keys.clone()).collect();
        let changed = changed.join(", ");
        match (changed.is_empty(), args.how.dry_run) {
            (true, _) => format!("topic {name} stays as it is"),
            (false, true) => format!("would alter topic {name}: {changed}"),
            (false, false) => format!("altered topic {name}: {changed}"),
        }
    }
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
        bail!(
            "nothing to alter; give --partitions, --replication-factor, --config KEY=VALUE or --delete-config KEY"
        );
    }
    Ok(changes)
}

/// Validates both changes before it makes one, so that a refusal leaves the topic unchanged.
async fn alter(
    args: &Args,
    cluster: &Cluster,
    name: &str,
    mut changes: BTreeMap<String, ConfigChange>,
) -> Result<Altered> {
    let resource = Resource::Topic(name.to_owned());
    let unset = unset::take_out(cluster, &resource, &mut changes).await?;
    let both = !changes.is_empty() && args.partitions.is_some();
    let passes: &[bool] = match (args.how.dry_run, both) {
        (true, _) => &[true],
        (false, true) => &[true, false],
        (false, false) => &[false],
    };
    for is_dry_run in passes {
        let validation = validation(*is_dry_run);
        if !changes.is_empty() {
            cluster
                .alter_configs(&resource, &changes, validation)
                .await?;
        }
        if let Some(count) = args.partitions {
            cluster.create_partitions(name, count, validation).await?;
        }
    }
    Ok(Altered {
        keys: changes.into_keys().collect(),
        unset,
    })
}
