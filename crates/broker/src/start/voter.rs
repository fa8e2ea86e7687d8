//! This node as the only voter of its metadata quorum.

use ottla_protocol::ids::Uuid;
use ottla_quorum::{Voter, VoterEndpoint};

use crate::config::BrokerConfig;

/// Whether the voters are named by the configuration (`kraft.version` 0), and not by the log.
pub(super) fn has_static_voters(config: &BrokerConfig) -> bool {
    let voters = config.statics.values.get("controller.quorum.voters");
    voters.is_some_and(|voters| !voters.trim().is_empty())
}

/// This node as the only voter, with its controller listeners as endpoints.
pub(super) fn voter(config: &BrokerConfig, directory_id: Uuid) -> Voter {
    let endpoints = config.network.controller_listeners.iter().map(|listener| {
        let address = listener.advertised.as_ref().unwrap_or(&listener.bind);
        let host = match address.host.as_str() {
            "" | "0.0.0.0" | "::" => "localhost",
            host => host,
        };
        VoterEndpoint {
            listener: listener.name.clone(),
            host: host.to_owned(),
            port: address.port,
        }
    });
    Voter {
        node_id: config.node_id,
        directory_id,
        endpoints: endpoints.collect(),
    }
}
