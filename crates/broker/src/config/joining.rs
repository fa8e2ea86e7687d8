//! The configuration of a node that joins a running cluster without a file: `ottla serve --join`.

use ottla_protocol::ids::{NodeId, Uuid};

use super::listeners::HostPort;
use super::read::Settings;
use super::{BrokerConfig, SINGLE_NODE};

/// A node without a configuration file that joins a running cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    pub node: NodeId,
    /// The incarnation under which the cluster keeps the id of a new node for it.
    pub incarnation: Option<Uuid>,
    /// Whether it is a controller too, and votes while there are few voters.
    pub is_controller: bool,
    /// Where the other controllers reach it, if it votes already. It stays there unless `listeners` has another port.
    pub votes_at: Option<HostPort>,
    /// `host:port` of the controllers.
    pub controllers: Vec<String>,
    /// The name of their listener.
    pub listener: String,
}

impl Joining {
    /// A quorum of so many voters survives the loss of one; more are for the user to decide.
    pub const VOTERS: usize = 3;

    fn base(&self) -> [(&'static str, String); 6] {
        let (roles, listeners) = if self.is_controller {
            let own = self.controller_listener("127.0.0.1");
            (
                "broker,controller",
                format!("PLAINTEXT://127.0.0.1:9092,{own}"),
            )
        } else {
            ("broker", "PLAINTEXT://127.0.0.1:9092".to_owned())
        };
        [
            ("process.roles", roles.to_owned()),
            ("node.id", self.node.to_string()),
            ("listeners", listeners),
            (
                "controller.quorum.auto.join.enable",
                self.is_controller.to_string(),
            ),
            ("controller.listener.names", self.listener.clone()),
            (
                "controller.quorum.bootstrap.servers",
                self.controllers.join(","),
            ),
        ]
    }

    fn controller_listener(&self, host: &str) -> String {
        let port = self.votes_at.as_ref().map_or(9093, |at| at.port);
        format!("{}://{host}:{port}", self.listener)
    }

    /// Adds the values that are not set.
    pub(super) fn add_to(&self, settings: &mut Settings) {
        if self.is_controller {
            let host = settings.first_host();
            let own = self.controller_listener(host.as_deref().unwrap_or("127.0.0.1"));
            settings.add_listener(&self.listener, &own);
        } else {
            settings.remove_listener(&self.listener);
        }
        let values = self.base();
        settings.add_base(&values.each_ref().map(|(key, value)| (*key, value.as_str())));
        settings.add_base(SINGLE_NODE);
    }

    /// What no key says.
    pub(super) fn apply(&self, config: &mut BrokerConfig) {
        config.incarnation = self.incarnation;
        config.quorum.joins_up_to = config.quorum.joins_up_to.map(|_| Self::VOTERS);
        if let Some(HostPort { port, .. }) = self.votes_at {
            config.network.may_move_controller = false;
            let own = config.network.controller_listeners.iter_mut();
            own.filter(|own| own.bind.port == 0)
                .for_each(|own| own.bind.port = port);
        }
    }
}
