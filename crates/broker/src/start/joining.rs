//! A controller that joins a quorum: its metadata log is empty, and other controllers tell it of which cluster they are, and
//! who votes. It follows their log as an observer until it is added to the voters.

use std::net::{TcpListener, ToSocketAddrs as _};

use ottla_client::{ClientError, Options};
use ottla_log::files::Files as _;
use ottla_log::files::disk::Disk;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use ottla_protocol::messages::{DescribeQuorumRequestData, DescribeQuorumResponseData, ErrorCode};
use ottla_quorum::{METADATA_DIRECTORY, Voter, VoterEndpoint};
use tokio::time::timeout;

use super::in_turn::{ANSWERED_WITHIN, InTurn, describe};
use super::refusals::StartError;
use super::voter::has_static_voters;
use crate::config::{BrokerConfig, HostPort, Roles};
use crate::drivers::disk_work::blocking;

/// A quorum of other controllers.
#[derive(Debug, Clone)]
pub(super) struct Quorum {
    pub(super) cluster_id: String,
    pub(super) voters: Vec<Voter>,
}

/// The quorum that this controller joins; none if it has a metadata log, or begins one.
pub(super) async fn quorum(config: &BrokerConfig) -> Result<Option<Quorum>, StartError> {
    let of_disk = config.clone();
    if !blocking(move || joins(&of_disk)).await {
        return Ok(None);
    }
    let bootstrap = &config.quorum.bootstrap;
    let servers: Vec<String> = bootstrap.iter().map(HostPort::to_string).collect();
    tracing::info!(
        controllers = servers.join(","),
        "this controller joins the quorum of other controllers"
    );
    let limit = config.quorum.registration_timeout;
    match timeout(limit, ask(&servers)).await {
        Ok(quorum) => Ok(Some(quorum)),
        Err(_) => Err(StartError::NoController(servers.join(","))),
    }
}

/// Whether this controller has no metadata log, and others are named that have one.
fn joins(config: &BrokerConfig) -> bool {
    let bootstrap = &config.quorum.bootstrap;
    if config.quorum.roles == Roles::Broker
        || has_static_voters(config)
        || bootstrap.iter().all(|address| is_own(config, address))
    {
        return false;
    }
    let directory = config.storage.metadata_log_dir.join(METADATA_DIRECTORY);
    // A directory that cannot be read is refused when it is opened.
    let entries = Disk.list(&directory).unwrap_or_default();
    let has_records = |name: &str| {
        let path = directory.join(name);
        let is_filled = || {
            Disk.status(&path)
                .is_ok_and(|status| status.is_some_and(|it| it.length > 0))
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("checkpoint") => true,
            Some("log") => is_filled(),
            _ => false,
        }
    };
    !entries.iter().any(|entry| has_records(&entry.name))
}

/// Whether `address` is that of a controllers' listener of this node: the port is, and the host is this machine.
pub(super) fn is_own(config: &BrokerConfig, address: &HostPort) -> bool {
    let mut own = config.network.controller_listeners.iter();
    let is_port = own.any(|listener| {
        let advertised = listener.advertised.as_ref();
        listener.bind.port == address.port || advertised.is_some_and(|own| own == address)
    });
    let resolved = (address.host.as_str(), address.port).to_socket_addrs();
    // Only an address of this machine can be listened on. One that cannot be resolved may be its own too.
    let is_here = |mut found: std::vec::IntoIter<std::net::SocketAddr>| {
        found.any(|found| TcpListener::bind((found.ip(), 0)).is_ok())
    };
    is_port && resolved.map_or(true, is_here)
}

async fn ask(servers: &[String]) -> Quorum {
    let options = Options {
        connect_timeout: ANSWERED_WITHIN,
        request_timeout: ANSWERED_WITHIN,
        ..Options::default()
    };
    let mut controllers = InTurn::new(servers.to_vec());
    loop {
        let server = controllers.next().await;
        match ask_one(&server, &options, &mut controllers.known).await {
            Ok(Some(quorum)) => return quorum,
            Ok(None) => {}
            Err(error) => controllers.on_failure(&server, &error),
        }
    }
}

/// What one controller says: only the active one knows the voters. The others name their addresses.
async fn ask_one(
    server: &str,
    options: &Options,
    known: &mut Vec<String>,
) -> Result<Option<Quorum>, ClientError> {
    let (connection, cluster) = describe(server, options).await?;
    for node in &cluster.brokers {
        let address = format!("{}:{}", node.host, node.port);
        if !known.contains(&address) {
            known.push(address);
        }
    }
    let topic = TopicData::default()
        .with_topic_name("__cluster_metadata".to_owned().into())
        .with_partitions(vec![PartitionData::default()]);
    let request = DescribeQuorumRequestData::default().with_topics(vec![topic]);
    let voters = voters(&connection.call(&request).await?);
    Ok(voters.map(|voters| Quorum {
        cluster_id: cluster.cluster_id.as_str().to_owned(),
        voters,
    }))
}

/// The voters in the answer of an active controller.
fn voters(answer: &DescribeQuorumResponseData) -> Option<Vec<Voter>> {
    let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let partition = partitions.next()?;
    if partition.error_code != ErrorCode::None.code() || partition.current_voters.is_empty() {
        return None;
    }
    let voters = partition.current_voters.iter().map(|voter| {
        let mut nodes = answer.nodes.iter();
        let node = nodes.find(|node| node.node_id == voter.replica_id);
        let endpoints = node.into_iter().flat_map(|node| &node.listeners);
        let endpoints = endpoints.map(|listener| VoterEndpoint {
            listener: listener.name.as_str().to_owned(),
            host: listener.host.as_str().to_owned(),
            port: listener.port,
        });
        Voter {
            node_id: NodeId(voter.replica_id),
            directory_id: voter.replica_directory_id,
            endpoints: endpoints.collect(),
        }
    });
    Some(voters.collect())
}
