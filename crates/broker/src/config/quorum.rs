//! Checks the keys of the metadata quorum. Only a quorum of this node alone is served yet; any other is refused.

use ottla_protocol::ids::NodeId;

use super::listeners::{self, Listeners};
use super::problems::Problems;
use super::values::Values;

const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";
const ONE_NODE: &str = "a quorum of more than this node is not served yet";

/// Checks `process.roles` and the two keys that name controllers.
pub(super) fn check(values: &Values, node: NodeId, listeners: &Listeners, problems: &mut Problems) {
    let roles = values.list("process.roles");
    if roles.is_empty() {
        problems.add(
            "process.roles",
            "it must be set, to broker,controller".to_owned(),
        );
    } else if !["broker", "controller"]
        .iter()
        .all(|role| roles.iter().any(|set| set == role))
    {
        problems.refuse(
            "process.roles",
            "only broker,controller is served yet: one node that is both",
        );
    }
    if listeners.controller.is_empty() {
        problems.add(
            "controller.listener.names",
            "it must name one of listeners, such as CONTROLLER://localhost:9093".to_owned(),
        );
    }
    check_voters(values, node, problems);
    check_bootstrap(values, listeners, problems);
}

fn check_voters(values: &Values, node: NodeId, problems: &mut Problems) {
    for voter in values.list(VOTERS) {
        let id = voter.split_once('@').and_then(|(id, address)| {
            listeners::parse_address(address)?;
            id.parse().ok().map(NodeId)
        });
        match id {
            None => problems.add(VOTERS, format!("{voter} is not id@host:port")),
            Some(id) if id != node => {
                problems.refuse(VOTERS, &format!("{voter} is not this node, and {ONE_NODE}"));
            }
            Some(_) => {}
        }
    }
}

fn check_bootstrap(values: &Values, listeners: &Listeners, problems: &mut Problems) {
    let servers = values.list(BOOTSTRAP);
    if servers.len() > 1 {
        problems.refuse(BOOTSTRAP, ONE_NODE);
    }
    for server in servers {
        let own = |port: u16| {
            listeners
                .controller
                .iter()
                .any(|listener| listener.bind.port == port)
        };
        match listeners::parse_address(&server) {
            None => problems.add(BOOTSTRAP, format!("{server} is not host:port")),
            Some(address) if !own(address.port) => problems.refuse(
                BOOTSTRAP,
                &format!("{server} is not the controller listener of this node, and {ONE_NODE}"),
            ),
            Some(_) => {}
        }
    }
}
