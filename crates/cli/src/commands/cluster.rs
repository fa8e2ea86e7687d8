//! `ottla cluster`: the brokers, their disks and versions, the metadata quorum, and what is wrong.
//!
//! All of it comes from public APIs. When one broker does not answer, its part is missing, a
//! message says so, and the rest is shown.

mod health;
mod if_lost;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use ottla_client::admin::{Broker, Feature, LogDir, Quorum};
use ottla_client::{Cluster, ClusterMetadata};

use crate::connect::{Connect, block_on};
use crate::output::{Output, message, print_json};

const EXAMPLES: &str = "\
Examples:
  ottla cluster                                     brokers, disks, and what is wrong
  ottla cluster --output json | jq .problems        for a check: empty when all is well";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
}

/// One snapshot of the cluster.
struct View {
    metadata: Arc<ClusterMetadata>,
    brokers: Vec<Broker>,
    features: BTreeMap<i32, Vec<Feature>>,
    log_dirs: BTreeMap<i32, Vec<LogDir>>,
    /// `None` when the cluster does not answer DescribeQuorum.
    quorum: Option<Quorum>,
    /// What is wrong, the worst first.
    problems: Vec<String>,
    /// True when each partition has a leader and all its replicas are in sync.
    are_partitions_well: bool,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        let cluster = args.connect.cluster().await?;
        let view = look_at(&cluster).await?;
        match output {
            Output::Json => print_json(&view.to_json()),
            Output::Text => view.print(),
        }
    })
}

async fn look_at(cluster: &Cluster) -> Result<View> {
    let metadata = cluster.refresh_all().await?;
    let brokers = cluster.describe_cluster().await?;
    let mut view = View {
        metadata,
        brokers,
        features: BTreeMap::new(),
        log_dirs: BTreeMap::new(),
        quorum: None,
        problems: Vec::new(),
        are_partitions_well: true,
    };
    for node in view.metadata.nodes.keys() {
        match cluster.features(*node).await {
            Ok(features) => {
                view.features.insert(*node, features);
            }
            Err(error) => view
                .problems
                .push(format!("broker {node} does not answer: {error}")),
        }
        match cluster.log_dirs(*node).await {
            Ok(log_dirs) => {
                view.log_dirs.insert(*node, log_dirs);
            }
            Err(error) => message(&format!(
                "broker {node} does not tell its log directories: {error}"
            )),
        }
    }
    match cluster.quorum().await {
        Ok(quorum) => view.quorum = Some(quorum),
        Err(error) => message(&format!("the cluster does not tell its quorum: {error}")),
    }
    let of_partitions = health::of_partitions(&view, cluster).await?;
    view.are_partitions_well = of_partitions.is_empty();
    let of_brokers = health::of_brokers(&view);
    view.problems.splice(0..0, of_partitions);
    view.problems.extend(of_brokers);
    Ok(view)
}
