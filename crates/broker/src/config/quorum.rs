//! What this node is, and where the controllers are: `process.roles` and the keys of the metadata quorum.

use std::time::Duration;

use ottla_protocol::ids::NodeId;

use super::listeners::{self, HostPort, Listeners};
use super::problems::Problems;
use super::values::Values;

const ROLES: &str = "process.roles";
const NAMES: &str = "controller.listener.names";
const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";
const ONE_NODE: &str = "a quorum of more than this node is not served yet";

/// `process.roles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// It has partitions, and follows controllers on other nodes.
    Broker,
    /// It has partitions, and votes.
    BrokerAndController,
}

/// The metadata quorum, as this node is configured for it.
#[derive(Debug, Clone)]
pub struct QuorumConfig {
    pub roles: Roles,
    /// Where controllers are found: `controller.quorum.bootstrap.servers`, and the addresses of `controller.quorum.voters`.
    pub controllers: Vec<HostPort>,
    /// `initial.broker.registration.timeout.ms`.
    pub registration_timeout: Duration,
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
}

/// The roles in `process.roles`.
pub(super) fn roles(values: &Values, problems: &mut Problems) -> Roles {
    let mut roles = values.list(ROLES);
    roles.sort_unstable();
    roles.dedup();
    match roles.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["broker"] => return Roles::Broker,
        ["broker", "controller"] => {}
        ["controller"] => problems.refuse(ROLES, "a node that is only a controller is not served yet"),
        [] => problems.add(
            ROLES,
            "it must be set: to broker,controller, or to broker where the controllers are other nodes".to_owned(),
        ),
        _ => problems.add(ROLES, "the roles are broker and controller".to_owned()),
    }
    Roles::BrokerAndController
}

/// Reads and checks the keys that name controllers.
pub(super) fn read(
    values: &Values,
    (node, roles): (NodeId, Roles),
    listeners: &Listeners,
    problems: &mut Problems,
) -> QuorumConfig {
    let voters = voters(values, problems);
    let bootstrap = bootstrap(values, problems);
    match roles {
        Roles::Broker => check_broker(values, node, (&voters, &bootstrap), problems),
        Roles::BrokerAndController => {
            check_controller(node, listeners, (&voters, &bootstrap), problems);
        }
    }
    let of_voters = voters.into_iter().map(|(_, address)| address);
    QuorumConfig {
        roles,
        controllers: bootstrap.into_iter().chain(of_voters).collect(),
        registration_timeout: values.duration("initial.broker.registration.timeout.ms"),
        heartbeat_interval: values.duration("broker.heartbeat.interval.ms"),
    }
}

fn voters(values: &Values, problems: &mut Problems) -> Vec<(NodeId, HostPort)> {
    let mut voters = Vec::new();
    for voter in values.list(VOTERS) {
        let parsed = voter.split_once('@').and_then(|(id, address)| {
            let address = listeners::parse_address(address)?;
            Some((NodeId(id.parse().ok()?), address))
        });
        match parsed {
            Some(parsed) => voters.push(parsed),
            None => problems.add(VOTERS, format!("{voter} is not id@host:port")),
        }
    }
    voters
}

fn bootstrap(values: &Values, problems: &mut Problems) -> Vec<HostPort> {
    let mut servers = Vec::new();
    for server in values.list(BOOTSTRAP) {
        match listeners::parse_address(&server) {
            Some(address) => servers.push(address),
            None => problems.add(BOOTSTRAP, format!("{server} is not host:port")),
        }
    }
    servers
}

fn check_broker(
    values: &Values,
    node: NodeId,
    (voters, bootstrap): (&[(NodeId, HostPort)], &[HostPort]),
    problems: &mut Problems,
) {
    if values.list(NAMES).is_empty() {
        problems.add(
            NAMES,
            "it must name the listener of the controllers, such as CONTROLLER".to_owned(),
        );
    }
    if voters.is_empty() && bootstrap.is_empty() {
        problems.add(
            BOOTSTRAP,
            "a broker without the role of a controller needs the host:port of the controllers here"
                .to_owned(),
        );
    }
    if voters.iter().any(|(id, _)| *id == node) {
        problems.add(
            VOTERS,
            format!("it names this node {node}, and process.roles does not have controller"),
        );
    }
}

fn check_controller(
    node: NodeId,
    listeners: &Listeners,
    (voters, bootstrap): (&[(NodeId, HostPort)], &[HostPort]),
    problems: &mut Problems,
) {
    if listeners.controller.is_empty() {
        problems.add(
            NAMES,
            "it must name one of listeners, such as CONTROLLER://localhost:9093".to_owned(),
        );
    }
    for (id, address) in voters.iter().filter(|(id, _)| *id != node) {
        let HostPort { host, port } = address;
        problems.refuse(
            VOTERS,
            &format!("{id}@{host}:{port} is not this node, and {ONE_NODE}"),
        );
    }
    if bootstrap.len() > 1 {
        problems.refuse(BOOTSTRAP, ONE_NODE);
    }
    for HostPort { host, port } in bootstrap {
        let mut own = listeners.controller.iter();
        if !own.any(|listener| listener.bind.port == *port) {
            problems.refuse(
                BOOTSTRAP,
                &format!(
                    "{host}:{port} is not the controller listener of this node, and {ONE_NODE}"
                ),
            );
        }
    }
}
