//! What this node is, and where the controllers are: `process.roles` and the keys of the metadata quorum.

use std::time::Duration;

use ottla_protocol::ids::{NodeId, Uuid};

use super::listeners::{self, HostPort, Listeners};
use super::problems::Problems;
use super::values::Values;

const ROLES: &str = "process.roles";
const NAMES: &str = "controller.listener.names";
const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";
const AUTO_JOIN: &str = "controller.quorum.auto.join.enable";
const CLUSTER_ID: &str = "ottla.cluster.id";
/// A shorter timeout would have healthy controllers ask for votes.
const SHORTEST_ELECTION: Duration = Duration::from_millis(100);

/// `process.roles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// It has partitions, and follows controllers on other nodes.
    Broker,
    /// It has partitions, and votes.
    BrokerAndController,
    /// It votes.
    Controller,
}

/// The metadata quorum, as this node is configured for it.
#[derive(Debug, Clone)]
pub struct QuorumConfig {
    pub roles: Roles,
    /// `controller.quorum.voters`; none if the metadata log names the voters.
    pub voters: Vec<(NodeId, HostPort)>,
    /// `controller.quorum.bootstrap.servers`.
    pub bootstrap: Vec<HostPort>,
    /// How long a controller waits for news of the active one before it asks for votes.
    pub election_timeout: Duration,
    /// The number of voters up to which this controller adds itself to them, if it does: see
    /// `controller.quorum.auto.join.enable`.
    pub joins_up_to: Option<usize>,
    /// `ottla.cluster.id`.
    pub cluster_id: Option<String>,
    /// Where controllers are found: `controller.quorum.bootstrap.servers`, and the addresses of `controller.quorum.voters`.
    pub controllers: Vec<HostPort>,
    /// `initial.broker.registration.timeout.ms`.
    pub registration_timeout: Duration,
    /// The shorter of `ottla.broker.heartbeat.interval.ms` and `broker.heartbeat.interval.ms`.
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
        ["controller"] => return Roles::Controller,
        [] => problems.add(
            ROLES,
            "it must be set: to broker,controller, or to one of them".to_owned(),
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
        Roles::BrokerAndController | Roles::Controller => {
            check_controller(node, listeners, &voters, problems);
        }
    }
    let of_voters = voters.iter().map(|(_, address)| address);
    let election = values.duration("controller.quorum.election.timeout.ms");
    let fetch = values.duration("controller.quorum.fetch.timeout.ms");
    QuorumConfig {
        roles,
        controllers: bootstrap.iter().chain(of_voters).cloned().collect(),
        election_timeout: election.min(fetch).max(SHORTEST_ELECTION),
        cluster_id: cluster_id(values, problems),
        joins_up_to: values.flag(AUTO_JOIN).then_some(usize::MAX),
        voters,
        bootstrap,
        registration_timeout: values.duration("initial.broker.registration.timeout.ms"),
        heartbeat_interval: values
            .duration("ottla.broker.heartbeat.interval.ms")
            .min(values.duration("broker.heartbeat.interval.ms")),
    }
}

fn cluster_id(values: &Values, problems: &mut Problems) -> Option<String> {
    let id = values.set(CLUSTER_ID)?.trim().to_owned();
    if Uuid::from_base64(&id).is_err() {
        problems.add(
            CLUSTER_ID,
            format!("{id} is no id: it has 22 characters, as kafka-storage random-uuid prints"),
        );
    }
    Some(id)
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
    voters: &[(NodeId, HostPort)],
    problems: &mut Problems,
) {
    if listeners.controller.is_empty() {
        problems.add(
            NAMES,
            "it must name one of listeners, such as CONTROLLER://localhost:9093".to_owned(),
        );
    }
    for (at, (id, _)) in voters.iter().enumerate() {
        if voters.iter().take(at).any(|(earlier, _)| earlier == id) {
            problems.add(VOTERS, format!("it names node {id} twice"));
        }
    }
    if !voters.is_empty() && !voters.iter().any(|(id, _)| *id == node) {
        problems.add(
            VOTERS,
            format!("it does not name this node {node}, and process.roles has controller"),
        );
    }
}
