//! What the requests that change the voters have in common: who may be asked, and what a refusal says.

use std::time::Duration;

use ottla_client::{ClientError, Connection, Options};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::{ApiVersionsRequestData, ErrorCode, KafkaString};
use ottla_quorum::{Voter, VoterChange, VoterEndpoint, VotersRefused};
use tokio::time::timeout;

use crate::broker::Broker;
use crate::cluster::quorum_inbox::QuorumInbox;
use crate::cluster::quorum_leader;
use crate::cluster::voter_changes::Asks;

/// How long a change may take if the caller gives no time.
const COMMITTED_WITHIN: Duration = Duration::from_secs(30);
/// How long a controller that becomes a voter may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Upper bound of the endpoints of a voter.
const MAX_ENDPOINTS: usize = 16;

/// Why the voters are not changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("cluster.id {0} is not that of this cluster, {1}")]
    OtherCluster(String, String),
    #[error("a voter has a node id and a directory.id; the request has {0} and {1}")]
    NoVoter(i32, Uuid),
    #[error(
        "the voter names no address for the listener {0} of the controllers (key controller.listener.names)"
    )]
    NoEndpoint(String),
    #[error("its range of kraft.version does not have {0}")]
    KraftVersion(i16),
    #[error("the new voter does not answer at {0}: {1}")]
    Unreachable(String, ClientError),
    #[error(transparent)]
    Quorum(#[from] VotersRefused),
}

impl Refused {
    /// The error code for the caller.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::OtherCluster(..) => ErrorCode::InconsistentClusterId,
            Self::NoVoter(..) | Self::NoEndpoint(_) | Self::KraftVersion(_) => {
                ErrorCode::InvalidRequest
            }
            Self::Unreachable(..) => ErrorCode::RequestTimedOut,
            Self::Quorum(refused) => refused.code(),
        }
    }
}

/// Refuses a request for another cluster, and one at a controller that is not the active one.
pub fn check_here(broker: &Broker, cluster: Option<&KafkaString>) -> Result<(), Refused> {
    if !quorum_leader::is_this_cluster(broker, cluster) {
        let theirs = cluster.map_or("", KafkaString::as_str).to_owned();
        let ours = broker.cluster_id.as_str().to_owned();
        return Err(Refused::OtherCluster(theirs, ours));
    }
    match quorum_leader::status(broker) {
        Some(status) if status.is_active => Ok(()),
        _ => Err(VotersRefused::NotLeader.into()),
    }
}

/// The way to the controller's thread.
pub fn inbox(broker: &Broker) -> Result<&QuorumInbox, Refused> {
    let inbox = broker.quorum_inbox.get();
    Ok(inbox.ok_or(VotersRefused::NotLeader)?)
}

/// The name of the controllers' listener.
fn listener(broker: &Broker) -> String {
    let mut listeners = broker.config.network.controller_listeners.iter();
    let listener = listeners.next().map(|listener| listener.name.clone());
    listener.unwrap_or_default()
}

/// The voter that a request names, and its address for the other controllers.
pub fn named(
    broker: &Broker,
    (node, directory): (i32, Uuid),
    endpoints: Vec<VoterEndpoint>,
) -> Result<(Voter, String), Refused> {
    check_key(node, directory)?;
    let listener = listener(broker);
    let mut known = endpoints.iter().take(MAX_ENDPOINTS);
    let known = known.find(|endpoint| endpoint.listener == listener);
    let address = known.map(VoterEndpoint::address);
    let address = address.ok_or(Refused::NoEndpoint(listener))?;
    let voter = Voter {
        node_id: NodeId(node),
        directory_id: directory,
        endpoints: endpoints.into_iter().take(MAX_ENDPOINTS).collect(),
    };
    Ok((voter, address))
}

/// Refuses what identifies no voter.
pub fn check_key(node: i32, directory: Uuid) -> Result<(), Refused> {
    if node < 0 || directory == Uuid::ZERO {
        return Err(Refused::NoVoter(node, directory));
    }
    Ok(())
}

/// Has a change made, within the caller's time. See [`QuorumInbox::ask`].
pub async fn change(
    inbox: &QuorumInbox,
    change: (VoterChange, usize),
    (asks, timeout_ms): (Asks, i32),
) -> Result<(), Refused> {
    let limit = u64::try_from(timeout_ms).ok().filter(|limit| *limit > 0);
    let limit = limit.map_or(COMMITTED_WITHIN, Duration::from_millis);
    match timeout(limit, inbox.ask(change, asks)).await {
        Ok(outcome) => Ok(outcome?),
        // It may be committed later: the caller asks who the voters are.
        Err(_) => Err(VotersRefused::Pending.into()),
    }
}

/// Asks the controller that is to become a voter whether it supports the `kraft.version` of the cluster.
pub async fn check_supported(address: &str, kraft_version: i16) -> Result<(), Refused> {
    let options = Options {
        connect_timeout: ANSWERED_WITHIN,
        request_timeout: ANSWERED_WITHIN,
        ..Options::default()
    };
    let answer = async {
        let connection = Connection::open(address, &options).await?;
        let request = ApiVersionsRequestData::default()
            .with_client_software_name("ottla-controller".to_owned().into())
            .with_client_software_version(env!("CARGO_PKG_VERSION").to_owned().into());
        connection.call(&request).await
    };
    let unreachable = |error| Refused::Unreachable(address.to_owned(), error);
    let answer = answer.await.map_err(unreachable)?;
    let mut features = answer.supported_features.iter();
    let kraft = features.find(|feature| feature.name.as_str() == ottla_metadata::versions::KRAFT);
    let is_supported =
        kraft.is_some_and(|range| (range.min_version..=range.max_version).contains(&kraft_version));
    if is_supported {
        Ok(())
    } else {
        Err(Refused::KraftVersion(kraft_version))
    }
}
