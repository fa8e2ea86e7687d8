//! Connections between clients and nodes. Messages have delays. They keep their order within one
//! direction of a connection, but not between connections. A cut connection loses the messages to
//! the client. Messages to the node may still arrive, so the client cannot know whether its request
//! was done.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_log::files::simulated::Random;
use ottla_protocol::ids::NodeId;

use crate::messages::{ClientId, ConnectionId};

#[derive(Debug)]
struct Link {
    client: ClientId,
    node: NodeId,
    is_cut: bool,
    /// Whether requests under way arrive after the cut.
    arrives_late: bool,
    last_to_node: Duration,
    last_to_client: Duration,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToNode,
    ToClient,
}

#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<ConnectionId, Link>,
    connections: u64,
}

impl Network {
    pub fn connect(&mut self, client: ClientId, node: NodeId) -> ConnectionId {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        self.links.insert(
            id,
            Link {
                client,
                node,
                is_cut: false,
                arrives_late: false,
                last_to_node: Duration::ZERO,
                last_to_client: Duration::ZERO,
            },
        );
        id
    }

    /// When a message that is sent now arrives; never on a connection that is cut.
    pub fn arrival(
        &mut self,
        connection: ConnectionId,
        way: Way,
        now: Duration,
        random: &mut Random,
    ) -> Option<Duration> {
        let link = self
            .links
            .get_mut(&connection)
            .filter(|link| !link.is_cut)?;
        let slow = if random.one_in(200) { 200_000 } else { 400 };
        let at = now + Duration::from_micros(50 + random.below(slow));
        let last = match way {
            Way::ToNode => &mut link.last_to_node,
            Way::ToClient => &mut link.last_to_client,
        };
        *last = at.max(*last + Duration::from_nanos(1));
        Some(*last)
    }

    /// Whether a message that arrives is still wanted.
    pub fn delivers(&self, connection: ConnectionId, way: Way) -> bool {
        let link = self.links.get(&connection);
        link.is_some_and(|link| !link.is_cut || (way == Way::ToNode && link.arrives_late))
    }

    /// The client at the other end.
    pub fn client(&self, connection: ConnectionId) -> Option<ClientId> {
        self.links.get(&connection).map(|link| link.client)
    }

    /// Cuts a connection.
    pub fn cut(&mut self, connection: ConnectionId, arrives_late: bool) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.arrives_late = arrives_late && !link.is_cut;
            link.is_cut = true;
        }
    }

    /// A node is gone, and all of its connections are: nothing arrives any more. Returns those that were open.
    pub fn lose(&mut self, node: NodeId) -> Vec<(ConnectionId, ClientId)> {
        let gone = self.links.extract_if(.., |_, link| link.node == node);
        let open = gone.filter(|(_, link)| !link.is_cut);
        open.map(|(id, link)| (id, link.client)).collect()
    }

    /// The open connections.
    pub fn open(&self) -> Vec<ConnectionId> {
        let open = self.links.iter().filter(|(_, link)| !link.is_cut);
        open.map(|(id, _)| *id).collect()
    }
}
