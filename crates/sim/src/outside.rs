//! The environment of nodes and clients: time, chance, the network, and the queue of events.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_log::files::simulated::Random;
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};

use crate::between::{Between, Links};
use crate::faults::{End, Fault};
use crate::messages::{ClientId, ConnectionId, Delivery, Reply, ReplyTo, Request};
use crate::network::{Network, Way};
use crate::node::event::{NodeEvent, ProcessId};
use crate::queue::Queue;
use crate::trace::Trace;

/// The wall clock when worlds begin.
const EPOCH: i64 = 1_700_000_000_000;

/// Something that happens at its time.
#[derive(Debug)]
pub enum Event {
    Deliver(Box<Delivery>),
    /// For this process; the event of one that is gone is dropped.
    Node(ProcessId, NodeEvent),
    /// A client's time has come.
    Client(ClientId),
    Fault(NodeId, Fault),
    /// A message between two nodes.
    Between(Box<Between>),
}

/// What a world went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that clients were answered, well or not.
    pub operations: u64,
    /// Records that were acknowledged.
    pub records: u64,
    pub kills: u64,
    pub power_cuts: u64,
    pub stops: u64,
    /// Other faults of disk, network and clock.
    pub faults: u64,
    /// Partitions, groups and topics compared with what clients know.
    pub checks: u64,
    /// Records that a power cut took although they were acknowledged, under `page-cache`.
    pub lost_of_page_cache: u64,
    /// How long the world lived, in its own time.
    pub milliseconds: u64,
}

impl Counts {
    pub fn crashes(&self) -> u64 {
        self.kills + self.power_cuts
    }

    /// A process has ended.
    pub fn ended(&mut self, end: End) {
        match end {
            End::Stop => self.stops += 1,
            End::Kill => self.kills += 1,
            End::PowerCut => self.power_cuts += 1,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.records += other.records;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.stops += other.stops;
        self.faults += other.faults;
        self.checks += other.checks;
        self.lost_of_page_cache += other.lost_of_page_cache;
        self.milliseconds += other.milliseconds;
    }
}

#[derive(Debug)]
pub struct Outside {
    pub random: Random,
    pub trace: Trace,
    pub network: Network,
    pub links: Links,
    pub counts: Counts,
    /// The nodes that serve clients.
    pub serving: BTreeSet<NodeId>,
    queue: Queue<Event>,
    time: Duration,
    /// How far the wall clock was moved, in milliseconds.
    wall_moved: i64,
}

impl Outside {
    pub fn new(seed: u64, is_readable: bool) -> Self {
        Self {
            random: Random::new(seed),
            trace: Trace::new(is_readable),
            network: Network::default(),
            links: Links::default(),
            counts: Counts::default(),
            serving: BTreeSet::new(),
            queue: Queue::default(),
            time: Duration::ZERO,
            wall_moved: 0,
        }
    }

    /// Goes to the next event.
    pub fn next(&mut self) -> Option<Event> {
        let (at, event) = self.queue.take()?;
        self.time = self.time.max(at);
        Some(event)
    }

    pub fn time(&self) -> Duration {
        self.time
    }

    pub fn now(&self) -> Now {
        let since = i64::try_from(self.time.as_millis()).unwrap_or(i64::MAX);
        Now {
            monotonic: MonotonicTime(self.time),
            wall: Timestamp(EPOCH + since + self.wall_moved),
        }
    }

    /// Puts the wall clock this much before or behind the right time; the monotonic clock goes on. The
    /// caller keeps to less than an hour, beyond which brokers refuse timestamps.
    pub fn move_wall_clock(&mut self, by: i64) {
        self.wall_moved = by;
    }

    pub fn note(&mut self, what: &'static str, numbers: [i64; 3]) {
        self.trace.note(self.time, what, numbers);
    }

    pub fn after(&mut self, delay: Duration, event: Event) {
        self.queue.put(self.time + delay, event);
    }

    /// A process has something to do after a delay.
    pub fn later(&mut self, process: ProcessId, delay: Duration, event: NodeEvent) {
        self.after(delay, Event::Node(process, event));
    }

    /// A duration between the two, in microseconds.
    pub fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(least + self.random.below(most - least))
    }

    pub fn request(&mut self, node: NodeId, to: ReplyTo, request: Request) {
        self.send(
            Way::ToNode,
            to.connection,
            Delivery::ToNode(node, to, request),
        );
    }

    pub fn reply(&mut self, to: ReplyTo, reply: Reply) {
        if let Some(client) = self.network.client(to.connection) {
            let delivery = Delivery::ToClient(client, to, reply);
            self.send(Way::ToClient, to.connection, delivery);
        }
    }

    fn send(&mut self, way: Way, connection: ConnectionId, delivery: Delivery) {
        let arrival = self
            .network
            .arrival(connection, way, self.time, &mut self.random);
        if let Some(at) = arrival {
            self.queue.put(at, Event::Deliver(Box::new(delivery)));
        }
    }

    /// Sends a message from one node to another.
    pub fn send_between(&mut self, message: &Between) {
        for delay in self.links.delays(message, &mut self.random) {
            self.after(delay, Event::Between(Box::new(message.clone())));
        }
    }

    /// Cuts a connection; its client is mostly told.
    pub fn cut(&mut self, connection: ConnectionId) {
        let Some(client) = self.network.client(connection) else {
            return;
        };
        let arrives_late = self.random.one_in(2);
        self.network.cut(connection, arrives_late);
        self.tell_closed(client, connection);
    }

    /// Cuts about half of the open connections.
    pub fn cut_connections(&mut self) {
        for connection in self.network.open() {
            if self.random.one_in(2) {
                self.cut(connection);
            }
        }
    }

    /// A node is gone: its clients are mostly told, the others wait for a reply in vain.
    pub fn lose(&mut self, node: NodeId) {
        for (connection, client) in self.network.lose(node) {
            self.tell_closed(client, connection);
        }
    }

    fn tell_closed(&mut self, client: ClientId, connection: ConnectionId) {
        if !self.random.one_in(4) {
            let delay = self.between(50, 2_000);
            let closed = Delivery::Closed(client, connection);
            self.after(delay, Event::Deliver(Box::new(closed)));
        }
    }
}
