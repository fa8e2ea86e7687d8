//! A client's connection, and its request that is under way.

use std::time::Duration;

use ottla_protocol::ids::NodeId;

use crate::messages::{ClientId, ConnectionId, ReplyTo, Request, RequestId};
use crate::outside::{Event, Outside};

/// How long a client waits for a reply; for joins longer.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_OF_MEMBERS: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Session {
    client: ClientId,
    node: NodeId,
    connection: Option<ConnectionId>,
    /// The request that is under way, and how long it is waited for.
    waits: Option<(RequestId, Duration)>,
    requests: u64,
    /// When it does the next thing.
    acts_at: Duration,
    /// When it is woken next.
    wakes_at: Option<Duration>,
}

impl Session {
    pub fn new(client: ClientId, node: NodeId) -> Self {
        Self {
            client,
            node,
            connection: None,
            waits: None,
            requests: 0,
            acts_at: Duration::ZERO,
            wakes_at: None,
        }
    }

    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Sends a request; where the node is not there, it is tried again later.
    pub fn ask(&mut self, request: Request, outside: &mut Outside) {
        self.ask_for(request, PATIENCE, outside);
    }

    /// Sends a request that waits for other members.
    pub fn ask_of_group(&mut self, request: Request, outside: &mut Outside) {
        self.ask_for(request, PATIENCE_OF_MEMBERS, outside);
    }

    fn ask_for(&mut self, request: Request, patience: Duration, outside: &mut Outside) {
        if !outside.serving.contains(&self.node) {
            self.rest(50_000, 300_000, outside);
            return;
        }
        let network = &mut outside.network;
        let connection = self.connection;
        let connection = connection.unwrap_or_else(|| network.connect(self.client, self.node));
        self.connection = Some(connection);
        self.requests += 1;
        let id = RequestId(self.requests);
        let to = ReplyTo {
            connection,
            request: id,
        };
        self.waits = Some((id, outside.time() + patience));
        outside.request(self.node, to, request);
    }

    /// Does nothing for some time, in microseconds.
    pub fn rest(&mut self, least: u64, most: u64, outside: &mut Outside) {
        self.acts_at = outside.time() + outside.between(least, most);
    }

    /// Lets everything arrive that is still under way.
    pub fn settle(&mut self, outside: &mut Outside) {
        self.rest(1_000_000, 1_500_000, outside);
    }

    /// Has the client woken when something is to be done.
    pub fn wake_again(&mut self, outside: &mut Outside) {
        let at = self.waits.map_or(self.acts_at, |(_, until)| until);
        let at = at.max(outside.time());
        let is_early = self
            .wakes_at
            .is_some_and(|wakes| wakes > outside.time() && wakes <= at);
        if !is_early {
            self.wakes_at = Some(at);
            let delay = at.saturating_sub(outside.time());
            outside.after(delay, Event::Client(self.client));
        }
    }

    pub fn has_waited_too_long(&self, outside: &Outside) -> bool {
        self.waits.is_some_and(|(_, until)| until <= outside.time())
    }

    pub fn may_act(&self, outside: &Outside) -> bool {
        self.waits.is_none() && self.acts_at <= outside.time()
    }

    /// Waits no longer; the connection is of no use any more.
    pub fn give_up(&mut self, outside: &mut Outside) {
        self.waits = None;
        if let Some(connection) = self.connection.take() {
            outside.cut(connection);
        }
    }

    /// Whether this is the reply that is waited for.
    pub fn takes(&mut self, to: ReplyTo) -> bool {
        let is_awaited = self.connection == Some(to.connection)
            && self.waits.is_some_and(|(request, _)| request == to.request);
        if is_awaited {
            self.waits = None;
        }
        is_awaited
    }

    /// The connection was closed by others; whether a request was under way.
    pub fn closed(&mut self, connection: ConnectionId) -> bool {
        if self.connection != Some(connection) {
            return false;
        }
        self.connection = None;
        self.waits.take().is_some()
    }
}
