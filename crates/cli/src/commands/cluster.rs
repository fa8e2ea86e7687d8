//! `ottla cluster`: the brokers, their disks and versions, the metadata quorum, and what is wrong.
//!
//! All of it comes from public APIs. When one broker does not answer, its part is missing, a
//! message says so, and the rest is shown.

mod health;
mod if_lost;
mod show;
mod voters;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use ottla_client::admin::{Broker, Feature, LogDir, Quorum};
use ottla_client::{Cluster, ClusterMetadata};
use tokio::time::{Instant, sleep};

use crate::connect::{Connect, block_on};
use crate::output::{Output, message, print_json};

const EXAMPLES: &str = "\
Examples:
  ottla cluster                                     brokers, disks, and what is wrong
  ottla cluster --wait 120                          wait until nothing is wrong, as between two restarts
  ottla cluster --output json | jq .problems        for a check: empty when all is well";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,

    /// Wait until nothing is wrong, and fail when something still is after this time.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

/// The time between two looks.
const PAUSE: Duration = Duration::from_millis(500);

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
        let view = match args.wait {
            None => look_at(&*args.connect.cluster().await?).await?,
            Some(seconds) => wait(args, Duration::from_secs(seconds)).await?,
        };
        match output {
            Output::Json => print_json(&view.to_json())?,
            Output::Text => view.print()?,
        }
        match args.wait {
            Some(seconds) if !view.problems.is_empty() => {
                bail!("something is still wrong after {seconds} s")
            }
            _ => Ok(()),
        }
    })
}

/// Looks until nothing is wrong, or the time is over. Each look begins with a new connection: the broker of the last one
/// may be what is wrong.
async fn wait(args: &Args, limit: Duration) -> Result<View> {
    let end = Instant::now() + limit;
    loop {
        let seen = async { look_at(&*args.connect.cluster().await?).await };
        let seen = seen.await;
        let is_over = Instant::now() >= end;
        match seen {
            Ok(view) if is_over || view.problems.is_empty() => return Ok(view),
            Err(error) if is_over => return Err(error),
            Ok(_) | Err(_) => sleep(PAUSE).await,
        }
    }
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
