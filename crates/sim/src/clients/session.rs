//! A client's connections, its request that is under way, and who serves what in a cluster.
//!
//! In a cluster a client asks any node who leads a partition or coordinates a group, and then that node. It never goes
//! back to an earlier leader epoch than one that it knows.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ottla_coordinator::Unavailable;
use ottla_protocol::ids::{LeaderEpoch, NodeId};
use ottla_protocol::messages::ErrorCode;

use crate::messages::{
    ClientId, ConnectionId, Fetch, Place, Produce, Reply, ReplyTo, Request, RequestId, Served,
    group_of,
};
use crate::outside::{Event, Outside};

/// How long a client waits for a reply; for joins longer.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_OF_MEMBERS: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Session {
    client: ClientId,
    nodes: Vec<NodeId>,
    connections: BTreeMap<NodeId, ConnectionId>,
    /// Who serves what, as far as is known.
    routes: BTreeMap<Served, Route>,
    /// How many requests may be under way at once.
    depth: usize,
    /// The requests that are under way, the oldest first.
    waits: VecDeque<Wait>,
    /// What is asked once it is known who serves it.
    looks_for: Option<(Served, Request, Asked)>,
    requests: u64,
    /// When it does the next thing.
    acts_at: Duration,
    /// When it is woken next.
    wakes_at: Option<Duration>,
}

/// How a request is asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// How long it is waited for.
    patience: Duration,
    /// The client's name of the request.
    tag: usize,
    /// Whether it asks who serves something.
    is_search: bool,
}

/// A request that is under way.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    to: ReplyTo,
    until: Duration,
    pub tag: usize,
    is_search: bool,
}

/// Who served something in the newest epoch that is known; nobody if that node refused.
#[derive(Debug, Clone, Copy)]
struct Route {
    node: Option<NodeId>,
    epoch: LeaderEpoch,
}

impl Session {
    pub fn new(client: ClientId, nodes: &[NodeId]) -> Self {
        Self::with_depth(client, nodes, 1)
    }

    /// A client that has up to `depth` requests under way.
    pub fn with_depth(client: ClientId, nodes: &[NodeId], depth: usize) -> Self {
        Self {
            depth,
            client,
            nodes: nodes.to_vec(),
            connections: BTreeMap::new(),
            routes: BTreeMap::new(),
            waits: VecDeque::new(),
            looks_for: None,
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
        self.ask_for(request, Asked::within(PATIENCE), outside);
    }

    /// Sends a request with a name.
    pub fn ask_tagged(&mut self, request: Request, tag: usize, outside: &mut Outside) {
        let asked = Asked {
            tag,
            ..Asked::within(PATIENCE)
        };
        self.ask_for(request, asked, outside);
    }

    /// Whether the request of this name is under way, or who serves it is looked for.
    pub fn awaits(&self, tag: usize) -> bool {
        self.waits.iter().any(|wait| wait.tag == tag)
    }

    /// Sends a request that waits for other members.
    pub fn ask_of_group(&mut self, request: Request, outside: &mut Outside) {
        self.ask_for(request, Asked::within(PATIENCE_OF_MEMBERS), outside);
    }

    fn ask_for(&mut self, request: Request, asked: Asked, outside: &mut Outside) {
        self.looks_for = None;
        if let [only] = self.nodes[..] {
            return self.send(only, request, asked, outside);
        }
        let Some(served) = served(&request) else {
            return self.send_to_any(request, asked, outside);
        };
        if let Some(Route {
            node: Some(node),
            epoch,
        }) = self.routes.get(&served).copied()
        {
            return self.send(node, in_epoch(request, epoch), asked, outside);
        }
        self.looks_for = Some((served.clone(), request, asked));
        let search = Asked {
            patience: PATIENCE,
            is_search: true,
            ..asked
        };
        self.send_to_any(Request::Find(served), search, outside);
    }

    fn send_to_any(&mut self, request: Request, asked: Asked, outside: &mut Outside) {
        let node = self.nodes[outside.random.index(self.nodes.len())];
        self.send(node, request, asked, outside);
    }

    fn send(&mut self, node: NodeId, request: Request, asked: Asked, outside: &mut Outside) {
        if !outside.serving.contains(&node) {
            self.forget_routes_to(node);
            self.rest(50_000, 300_000, outside);
            return;
        }
        let network = &mut outside.network;
        let connection = self.connections.entry(node);
        let connection = *connection.or_insert_with(|| network.connect(self.client, node));
        self.requests += 1;
        let to = ReplyTo {
            connection,
            request: RequestId(self.requests),
        };
        self.waits.push_back(Wait {
            to,
            until: outside.time() + asked.patience,
            tag: asked.tag,
            is_search: asked.is_search,
        });
        outside.request(node, to, request);
    }

    /// Whether the partition has another leader than the one that was asked. It is looked for then.
    pub fn has_asked_an_old_leader(&mut self, place: Place, newest: Option<LeaderEpoch>) -> bool {
        let route = self.routes.get_mut(&Served::Partition(place));
        let old = route.filter(|route| Some(route.epoch) < newest);
        old.map(|route| route.node = None).is_some()
    }

    fn forget_routes_to(&mut self, node: NodeId) {
        let routes = self.routes.values_mut();
        for route in routes.filter(|route| route.node == Some(node)) {
            route.node = None;
        }
    }

    /// Takes a reply. If it told who serves something, the request is sent there, and nothing is returned. A node that
    /// does not serve what it was asked for is not asked again before another one was looked for.
    pub fn on_reply(&mut self, to: Wait, reply: Reply, outside: &mut Outside) -> Option<Reply> {
        if to.is_search {
            let (served, request, asked) = self.looks_for.take()?;
            if let Reply::Found(Some((node, epoch))) = reply {
                let known = self.routes.entry(served);
                let route = known.or_insert(Route { node: None, epoch });
                if epoch >= route.epoch {
                    let node = Some(node);
                    *route = Route { node, epoch };
                    self.ask_for(request, asked, outside);
                    return None;
                }
            }
            self.rest(50_000, 300_000, outside);
            return None;
        }
        if self.nodes.len() > 1 && is_served_elsewhere(&reply) {
            for route in self.routes.values_mut() {
                route.node = None;
            }
            if let Reply::Fetched(Err(_)) = reply {
                return Some(Reply::Fetched(Err(ErrorCode::NotLeaderOrFollower)));
            }
        }
        Some(reply)
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
        let at = match self.waits.front() {
            Some(first) if self.is_full() => first.until,
            Some(first) => first.until.min(self.acts_at),
            None => self.acts_at,
        };
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
        let mut waits = self.waits.iter();
        waits.any(|wait| wait.until <= outside.time())
    }

    /// Whether nothing more is asked until there is an answer. A search is asked for alone.
    fn is_full(&self) -> bool {
        let mut waits = self.waits.iter();
        self.waits.len() >= self.depth || waits.any(|wait| wait.is_search)
    }

    pub fn may_act(&self, outside: &Outside) -> bool {
        !self.is_full() && self.acts_at <= outside.time()
    }

    /// Waits no longer; the connection is of no use any more.
    pub fn give_up(&mut self, outside: &mut Outside) {
        for Wait { to, .. } in std::mem::take(&mut self.waits) {
            self.forget(to.connection);
            outside.cut(to.connection);
        }
    }

    fn forget(&mut self, connection: ConnectionId) {
        let known = self.connections.iter();
        let mut of_node = known.filter(|(_, known)| **known == connection);
        if let Some(node) = of_node.next().map(|(node, _)| *node) {
            self.connections.remove(&node);
            self.forget_routes_to(node);
        }
    }

    /// The request to which this is the reply, if it is waited for.
    pub fn takes(&mut self, to: ReplyTo) -> Option<Wait> {
        let at = self.waits.iter().position(|wait| wait.to == to)?;
        self.waits.remove(at)
    }

    /// The connection was closed by others; whether a request was under way.
    pub fn closed(&mut self, connection: ConnectionId) -> bool {
        self.forget(connection);
        let mut waits = self.waits.iter();
        let was_under_way = waits.any(|wait| wait.to.connection == connection);
        if was_under_way {
            // The client asks for all of them again.
            self.waits.clear();
        }
        was_under_way
    }
}

impl Asked {
    const fn within(patience: Duration) -> Self {
        Self {
            patience,
            tag: 0,
            is_search: false,
        }
    }
}

/// What a request needs a certain node for.
fn served(request: &Request) -> Option<Served> {
    match request {
        Request::Produce(Produce { place, .. })
        | Request::Fetch(Fetch { place, .. })
        | Request::DeleteRecords { place, .. } => Some(Served::Partition(*place)),
        Request::Group(request) => Some(Served::Group(group_of(request).to_owned())),
        Request::InitProducerId
        | Request::Controller(_)
        | Request::Describe(_)
        | Request::Find(_) => None,
    }
}

/// A fetch names the epoch of the leader that the client knows.
fn in_epoch(request: Request, epoch: LeaderEpoch) -> Request {
    match request {
        Request::Fetch(fetch) => Request::Fetch(Fetch {
            leader_epoch: Some(epoch),
            ..fetch
        }),
        request => request,
    }
}

fn is_served_elsewhere(reply: &Reply) -> bool {
    let is_unserved = |code: ErrorCode| {
        matches!(
            code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::UnknownTopicId
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
        )
    };
    match reply {
        Reply::Produced(Err(code)) | Reply::Fetched(Err(code)) | Reply::Deleted(Err(code)) => {
            is_unserved(*code)
        }
        Reply::Group(Err(unavailable)) => *unavailable == Unavailable::NotCoordinator,
        _ => false,
    }
}
