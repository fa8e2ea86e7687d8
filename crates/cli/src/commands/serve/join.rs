//! `ottla serve --join`: finds what a new node needs to know of a running cluster, by asking one of its brokers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ottla_broker::config::Joining;
use ottla_broker::start::known_node;
use ottla_client::admin::ControllerEndpoint;
use ottla_client::{Cluster, Options};
use ottla_protocol::ids::NodeId;

use crate::failure::Advised;

/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the data is without `log.dirs`.
const DATA: &str = "./ottla-data";

/// Asks the cluster of the broker at `address` where its controllers are, and which node ids are taken. A node whose data
/// directory is there already keeps its id.
pub async fn joining(address: &str, overrides: &[String]) -> Result<Joining> {
    let options = Options {
        client_id: "ottla-join".to_owned(),
        request_timeout: PATIENCE,
        retry_for: PATIENCE,
        connect_timeout: PATIENCE,
        ..Options::default()
    };
    let cluster = Cluster::connect(&[address.to_owned()], options)
        .await
        .with_context(|| format!("cannot join the cluster of {address}"))?;
    let quorum = cluster.quorum().await?;
    let endpoint = quorum.controllers.first().ok_or_else(|| Advised {
        error: anyhow::anyhow!("the cluster of {address} does not tell where its controllers are"),
        next: "write a configuration file with controller.quorum.bootstrap.servers".to_owned(),
    })?;
    let brokers = cluster.describe_cluster().await?;
    let taken = brokers.iter().map(|broker| broker.node.id);
    let taken = taken.chain(quorum.voters.iter().map(|voter| voter.id));
    let node = match known_node(&data_directory(overrides))? {
        Some(node) => node,
        None => NodeId(taken.max().unwrap_or(0).saturating_add(1)),
    };
    let addresses = quorum.controllers.iter().map(ControllerEndpoint::address);
    Ok(Joining {
        node,
        listener: endpoint.listener.clone(),
        controllers: addresses.collect(),
    })
}

/// The first of `log.dirs`.
pub fn data_directory(overrides: &[String]) -> PathBuf {
    let mut directories = overrides.iter().rev().filter_map(|text| directories(text));
    let value = directories.next().unwrap_or(DATA);
    PathBuf::from(value.split(',').next().unwrap_or(value).trim())
}

/// Whether `KEY=VALUE` says where the data is.
pub fn is_data_directory(text: &str) -> bool {
    directories(text).is_some()
}

fn directories(text: &str) -> Option<&str> {
    let (key, value) = text.split_once('=')?;
    matches!(key.trim(), "log.dirs" | "log.dir").then_some(value)
}
