//! `ottla serve --join`: finds what a new node needs to know of a running cluster, by asking one of its brokers.
//!
//! A node that votes already asks nobody: its metadata log says where the other controllers are. After a power cut they
//! can start only together.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ottla_broker::config::{HostPort, Joining};
use ottla_broker::start::{Known, known};
use ottla_client::admin::{ControllerEndpoint, Quorum};
use ottla_client::{Cluster, Options};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_quorum::VoterEndpoint;

use super::node_ids::{Active, Kept};
use crate::failure::Advised;

/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the data is without `log.dirs`.
const DATA: &str = "./ottla-data";

/// A node that is about to join.
pub struct Joins {
    pub joining: Joining,
    /// Where a node id is to be had; none if the node has one.
    active: Option<Active>,
}

impl Joins {
    /// Has the cluster keep the node id for this process, or the next free one.
    pub async fn keep_node_id(&mut self) -> Result<Option<Kept>> {
        let Some(active) = self.active.take() else {
            return Ok(None);
        };
        let kept = active.keep(self.joining.node).await?;
        self.joining.node = kept.node;
        self.joining.incarnation = Some(kept.incarnation);
        Ok(Some(kept))
    }
}

/// Asks the cluster of the broker at `address` where its controllers are, how many vote, and which node ids are taken. A
/// node whose data directory is there already keeps its id.
pub async fn joining(address: &str, overrides: &[String]) -> Result<Joins> {
    let directory = data_directory(overrides);
    let metadata =
        last(overrides, "metadata.log.dir").map_or_else(|| directory.clone(), Into::into);
    let known = known(&directory, &metadata)?;
    if let Some(joining) = known.as_ref().and_then(of_voter) {
        tracing::info!("this node votes: its metadata log says where the other controllers are");
        return Ok(Joins {
            joining,
            active: None,
        });
    }
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
    let active = Active::open(&cluster, &quorum, PATIENCE).await?;
    let addresses = quorum.controllers.iter().map(ControllerEndpoint::address);
    let is_controller = may_vote(&quorum) && active.is_ottla().await;
    let role = if is_controller {
        "votes too"
    } else {
        "is a broker only"
    };
    tracing::info!(
        voters = quorum.voters.len(),
        "joining the cluster of {address}: this node {role}"
    );
    let joining = Joining {
        node: match &known {
            Some(known) => known.node,
            None => next_id(&cluster, &quorum).await?,
        },
        incarnation: None,
        is_controller,
        votes_at: None,
        listener: endpoint.listener.clone(),
        controllers: addresses.collect(),
    };
    Ok(Joins {
        joining,
        active: known.is_none().then_some(active),
    })
}

/// Whether another voter is of use, and the metadata log can take one.
fn may_vote(quorum: &Quorum) -> bool {
    let mut voters = quorum.voters.iter();
    quorum.voters.len() < Joining::VOTERS && voters.all(|voter| voter.directory != Uuid::ZERO)
}

/// An id above all that are known.
async fn next_id(cluster: &Cluster, quorum: &Quorum) -> Result<NodeId> {
    let brokers = cluster.describe_cluster().await?;
    let brokers = brokers.iter().map(|broker| broker.node.id);
    let controllers = quorum.voters.iter().chain(&quorum.observers);
    let taken = brokers.chain(controllers.map(|controller| controller.id));
    Ok(NodeId(taken.max().unwrap_or(0).saturating_add(1)))
}

/// A node that votes, as its metadata log has it.
fn of_voter(known: &Known) -> Option<Joining> {
    let voters = known.voters.as_ref()?;
    let endpoints = voters.iter().filter_map(|voter| voter.endpoints.first());
    let mut voters = voters.iter();
    let own = voters.find(|voter| voter.node_id == known.node)?;
    let own = own.endpoints.first()?;
    Some(Joining {
        node: known.node,
        incarnation: None,
        is_controller: true,
        votes_at: Some(HostPort {
            host: own.host.clone(),
            port: own.port,
        }),
        listener: own.listener.clone(),
        controllers: endpoints.map(VoterEndpoint::address).collect(),
    })
}

/// The first of `log.dirs`.
pub fn data_directory(overrides: &[String]) -> PathBuf {
    let mut directories = overrides.iter().rev().filter_map(|text| directories(text));
    let value = directories.next().unwrap_or(DATA);
    PathBuf::from(value.split(',').next().unwrap_or(value).trim())
}

fn last<'a>(overrides: &'a [String], key: &str) -> Option<&'a str> {
    let mut pairs = overrides
        .iter()
        .rev()
        .filter_map(|text| text.split_once('='));
    let found = pairs.find(|(known, _)| known.trim() == key);
    found.map(|(_, value)| value.trim())
}

/// Whether `KEY=VALUE` says where the data is.
pub fn is_data_directory(text: &str) -> bool {
    directories(text).is_some()
}

fn directories(text: &str) -> Option<&str> {
    let (key, value) = text.split_once('=')?;
    matches!(key.trim(), "log.dirs" | "log.dir").then_some(value)
}
