//! One world: three controllers or one, three brokers, clients and faults, for a span of simulated time.
//!
//! `world/faulting.rs` has what is done to machines. At its end all faults cease, and the cluster must become whole: every
//! partition has a leader and all replicas in sync.

mod faulting;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_replica::partition::RequiredAcks;

use super::checks::{self, Running, Seen};
use super::controller::ControllerProcess;
use super::deeds;
use super::machine::{Machine, Process};
use super::member::Member;
use super::quorum_checks::{Meaning, SeenQuorum};
use crate::between::Between;
use crate::checks as after_start;
use crate::clients::{
    self, Admin, AnyClient, Committer, Consumer, NEEDED_IN_CLUSTER, Pipeline, Producer, Reader,
};
use crate::faults::{End, Fault, SPARE, Troubles};
use crate::messages::Delivery;
use crate::model::{Model, Presence};
use crate::network::Way;
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::failed::Failed;
use crate::outside::{Event, Outside};
use crate::world::{Outcome, outcome};

/// How long a world lives, and how long after that the cluster has to become whole.
const LIFE: Duration = Duration::from_secs(40);
const RECOVERY: Duration = Duration::from_secs(25);
/// How often running brokers are compared with what clients know, beside at each acknowledgement.
const LOOK: Duration = Duration::from_millis(500);
const CONTROLLERS: &[NodeId] = &[NodeId(101), NodeId(102), NodeId(103)];
const BROKERS: &[NodeId] = &[NodeId(1), NodeId(2), NodeId(3)];

/// Lives through the world of a seed.
pub fn run(seed: u64, is_readable: bool) -> Outcome {
    let mut world = World::new(seed, is_readable);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    outcome(lived, &world.outside)
}

#[derive(Debug)]
struct World {
    outside: Outside,
    /// One in four worlds has one controller.
    controllers: &'static [NodeId],
    machines: BTreeMap<NodeId, Machine>,
    clients: Vec<AnyClient>,
    model: Model,
    /// The metadata that was committed last.
    truth: MetadataImage,
    quorum: SeenQuorum,
    seen: Seen,
    looked_at: Duration,
    processes: u64,
    is_calm: bool,
}

impl World {
    fn new(seed: u64, is_readable: bool) -> Self {
        let mut outside = Outside::new(seed, is_readable);
        let count = if outside.random.one_in(4) {
            1
        } else {
            CONTROLLERS.len()
        };
        let controllers = &CONTROLLERS[..count];
        let mut machines = BTreeMap::new();
        for id in BROKERS.iter().chain(controllers) {
            machines.insert(*id, Machine::new(*id, controllers, &outside));
            outside.after(Duration::ZERO, Event::Fault(*id, Fault::Start));
            let pause = deeds::pause(&mut outside.random) + Duration::from_secs(2);
            outside.after(pause, Event::Fault(*id, Fault::Any));
        }
        let clients = clients();
        for client in 0..clients.len() {
            let delay = outside.between(1_000, 500_000);
            outside.after(delay, Event::Client(client));
        }
        Self {
            outside,
            controllers,
            machines,
            clients,
            model: Model::default(),
            truth: MetadataImage::default(),
            quorum: SeenQuorum::default(),
            seen: Seen::default(),
            looked_at: Duration::ZERO,
            processes: 0,
            is_calm: false,
        }
    }

    fn live(&mut self) {
        while self.outside.time() < LIFE {
            self.step();
        }
        self.calm_down();
        let until = self.outside.time() + RECOVERY;
        while self.outside.time() < until {
            self.step();
        }
        self.is_whole();
        self.outside.counts.checks += self.quorum.checks;
    }

    /// All faults cease.
    fn calm_down(&mut self) {
        self.is_calm = true;
        self.outside.note("faults cease", [0; 3]);
        self.outside.links.calm_down();
        for id in self.nodes() {
            self.machine(id).limit = None;
            self.end(id, End::Kill);
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    /// The cluster has had time to recover.
    fn is_whole(&mut self) {
        self.look();
        for (name, topic) in &self.model.topics {
            if topic.presence != Presence::Live {
                continue;
            }
            for index in 0..topic.partitions {
                let partition = self.truth.partition(topic.id, PartitionIndex(index));
                let partition = partition.expect("check: acknowledged partitions are there");
                let (isr, replicas) = (partition.isr.len(), partition.replicas.len());
                assert!(
                    partition.leader.is_some() && isr == replicas,
                    "check: the cluster becomes whole: {name} {index}: {partition:?}"
                );
            }
        }
        let now = self.outside.now().monotonic;
        for running in running(&self.machines) {
            for partition in running.broker.replicas.all() {
                checks::order(&partition, &self.model, now);
            }
        }
    }

    fn step(&mut self) {
        let event = self
            .outside
            .next()
            .expect("clients always have something to do");
        let records = self.outside.counts.records;
        match event {
            Event::Node(process, event) => self.on_node_event(process, event),
            Event::Deliver(delivery) => self.deliver(*delivery),
            Event::Client(client) => {
                self.clients[client].on_time(&mut self.model, &mut self.outside);
            }
            Event::Fault(node, fault) => self.on_fault(node, fault),
            Event::Between(message) => self.on_message(*message),
        }
        let is_acknowledged = self.outside.counts.records > records;
        if is_acknowledged || self.outside.time() >= self.looked_at + LOOK {
            self.looked_at = self.outside.time();
            self.look();
        }
    }

    /// Compares the running brokers with what clients know.
    fn look(&mut self) {
        let now = self.outside.now().monotonic;
        let running = running(&self.machines);
        let checks = self.seen.logs(&running, &self.truth, &mut self.model, now);
        self.outside.counts.checks += checks;
    }

    fn machine(&mut self, id: NodeId) -> &mut Machine {
        self.machines.get_mut(&id).expect("the machine is there")
    }

    /// How long the process of a machine does not run yet.
    fn pause_of(&self, id: NodeId) -> Option<Duration> {
        let until = self.machines[&id].paused_until;
        let left = until.checked_sub(self.outside.time())?;
        (left > Duration::ZERO).then_some(left)
    }

    fn on_node_event(&mut self, of: ProcessId, event: NodeEvent) {
        if let Some(pause) = self.pause_of(of.node) {
            return self.outside.later(of, pause, event);
        }
        let process = self.machine(of.node).process.as_ref();
        if process.is_none_or(|process| process.id() != of) {
            return;
        }
        self.with_process(of.node, |process, outside| process.on_event(event, outside));
        if let NodeEvent::Load(index) = event {
            self.check_groups(of.node, index);
        }
    }

    fn on_message(&mut self, message: Between) {
        let (from, to) = (message.from, message.to);
        if !self.outside.links.delivers(from, to) {
            return;
        }
        if let Some(pause) = self.pause_of(to) {
            let again = Event::Between(Box::new(message));
            return self.outside.after(pause, again);
        }
        self.with_process(to, |process, outside| process.on_message(message, outside));
    }

    /// The process of a machine does something, if it runs.
    fn with_process(
        &mut self,
        id: NodeId,
        does: impl FnOnce(&mut Process, &mut Outside) -> Result<(), Failed>,
    ) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        if let Some(process) = &mut machine.process {
            let outcome = does(process, &mut self.outside);
            self.after(id, &outcome);
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        if let Delivery::ToNode(id, to, _) = &delivery
            && let Some(pause) = self.pause_of(*id)
        {
            // Its client has given up, or waits.
            if self.outside.network.delivers(to.connection, Way::ToClient) {
                let again = Event::Deliver(Box::new(delivery));
                self.outside.after(pause, again);
            }
            return;
        }
        let Self {
            clients,
            model,
            outside,
            ..
        } = self;
        let Some((id, to, request)) = clients::deliver(delivery, clients, model, outside) else {
            return;
        };
        let machine = self.machines.get_mut(&id).expect("a request to a machine");
        if let Some(Process::Broker(member)) = &mut machine.process {
            member.on_request(to, request, &mut self.outside);
            self.after(id, &Ok(()));
        }
    }

    /// A process has done something: it may have failed, stopped, or come to its end in the middle.
    fn after(&mut self, id: NodeId, outcome: &Result<(), Failed>) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        let is_power_off = machine.disk.is_power_off();
        if let Err(failed) = outcome {
            assert!(
                machine.troubles.excuse_failures(&machine.disk),
                "a failure without a cause on {}: {failed}",
                id.0
            );
        }
        if is_power_off {
            let end = if self.outside.random.one_in(3) {
                End::Kill
            } else {
                End::PowerCut
            };
            return self.end(id, end);
        }
        match &machine.process {
            Some(Process::Controller(_)) => {
                if outcome.is_err() {
                    return self.end(id, End::Kill);
                }
                self.look_at_controller(id);
            }
            Some(Process::Broker(member)) if member.lifecycle.may_stop() => {
                self.end(id, End::Stop);
            }
            Some(Process::Broker(member)) => {
                let is_late = machine.stops_by.is_some_and(|by| by < self.outside.time());
                let (image, end) = member.followed();
                self.quorum.same(id, end, image);
                if is_late || member.is_crippled() {
                    self.end(id, End::Kill);
                } else if member.has_failed_directory() && !machine.troubles.is_noticed {
                    self.notice(id);
                }
            }
            None => {}
        }
    }

    /// Compares a controller with the others.
    fn look_at_controller(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        let Some(Process::Controller(controller)) = &mut machine.process else {
            return;
        };
        let process = controller.id;
        self.quorum.status(id, controller.status());
        for event in controller.take_seen() {
            match self.quorum.hears(process, &event) {
                Meaning::NewCommit => self.on_commit(),
                Meaning::Leads => {
                    after_start::metadata(self.quorum.image(), &self.model);
                }
                Meaning::Nothing => {}
            }
        }
        if let Some(Process::Controller(controller)) = &self.machines[&id].process {
            let (image, end) = controller.committed();
            self.quorum.same(id, end, image);
        }
    }

    /// The controllers have committed something.
    fn on_commit(&mut self) {
        let truth = self.quorum.image().clone();
        let is_same = truth.topics == self.truth.topics && truth.brokers == self.truth.brokers;
        let before = std::mem::replace(&mut self.truth, truth);
        self.note_partitions(&before);
        if is_same {
            return;
        }
        for (id, broker) in &self.truth.brokers {
            let known = before.brokers.get(id).map(|known| known.epoch);
            if known == Some(broker.epoch) || self.machines[id].was_stopped {
                continue;
            }
            let partitions = self
                .truth
                .topics
                .values()
                .flat_map(|topic| topic.partitions.values());
            for partition in partitions {
                let has_claim =
                    partition.isr.contains(id) || partition.eligible_leaders.contains(id);
                assert!(
                    !has_claim,
                    "check: an unclean shutdown ends the claim to lead: {} of {partition:?}",
                    id.0
                );
            }
        }
        self.outside.counts.checks += self.seen.metadata(&self.truth);
    }

    /// Notes which partitions have another leader or ISR.
    fn note_partitions(&mut self, before: &MetadataImage) {
        let mask = |ids: &[NodeId]| ids.iter().fold(0, |mask, id| mask | 1 << id.0);
        for (topic, index, partition) in self.truth.topics.values().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(move |(index, partition)| (topic, index, partition))
        }) {
            if before.partition(topic.id, *index) == Some(partition) {
                continue;
            }
            let place = (topic.id, *index);
            self.model
                .leader_epochs
                .insert(place, partition.leader_epoch);
            let leader = partition.leader.map_or(-1, |leader| i64::from(leader.0));
            let epoch = i64::from(partition.leader_epoch.0);
            let numbers = [index.0.into(), leader, epoch];
            self.outside.note("leader", numbers);
            let (isr, eligible) = (mask(&partition.isr), mask(&partition.eligible_leaders));
            self.outside.note("isr", [index.0.into(), isr, eligible]);
        }
    }

    /// What groups have committed, in a coordinator that has just read its partition.
    fn check_groups(&mut self, node: NodeId, index: i32) {
        let machine = &self.machines[&node];
        let Some(Process::Broker(member)) = &machine.process else {
            return;
        };
        let Some(broker) = member.broker() else {
            return;
        };
        let topic = self.truth.topic("__consumer_offsets");
        let state = topic.and_then(|topic| topic.partitions.get(&PartitionIndex(index)));
        let known = broker.coordinators.led_in(index);
        let is_true = state
            .is_some_and(|state| state.leader == Some(node) && known == Some(state.leader_epoch.0));
        if is_true {
            let checks = after_start::groups(broker, index, &self.model);
            self.outside.counts.checks += checks;
        }
    }

    fn start(&mut self, id: NodeId) {
        self.processes += 1;
        let process = ProcessId {
            node: id,
            number: self.processes,
        };
        let wall = self.outside.now().wall.0;
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        if machine.process.is_some() {
            return;
        }
        machine.troubles = Troubles::default();
        machine.troubles.full = machine.limit.is_some();
        machine
            .disk
            .limit_space(machine.limit.map(|limit| limit + SPARE));
        machine.disk.set_clock(wall);
        let disk = machine.disk.clone();
        self.outside
            .note("starts", [id.0.into(), self.processes.cast_signed(), 0]);
        let outside = &mut self.outside;
        let started = if self.controllers.contains(&id) {
            let started = ControllerProcess::start(process, self.controllers, &disk, outside);
            let started = started
                .unwrap_or_else(|error| panic!("a start fails without a cause: {}", error.0));
            let (image, end) = started.committed();
            if self.quorum.starts(process, end, image) == Meaning::NewCommit {
                self.on_commit();
            }
            Process::Controller(Box::new(started))
        } else {
            let started = Member::start(process, self.controllers, &disk, outside);
            let started =
                started.unwrap_or_else(|error| panic!("a start fails without a cause: {error}"));
            Process::Broker(Box::new(started))
        };
        self.machine(id).process = Some(started);
        self.after(id, &Ok(()));
    }
}

/// The brokers whose logs are open.
fn running(machines: &BTreeMap<NodeId, Machine>) -> Vec<Running<'_>> {
    let processes = machines.values().flat_map(|machine| &machine.process);
    let brokers = processes.filter_map(|process| match process {
        Process::Broker(member) => Some(Running {
            id: member.id,
            broker: member.broker()?,
        }),
        Process::Controller(_) => None,
    });
    brokers.collect()
}

fn clients() -> Vec<AnyClient> {
    let mut clients = vec![AnyClient::new(Admin::new(0, BROKERS, NEEDED_IN_CLUSTER))];
    for is_idempotent in [true, true, true, false] {
        let (number, acks) = (clients.len(), RequiredAcks::All);
        let producer = Producer::new(number, BROKERS, is_idempotent, acks);
        clients.push(AnyClient::new(producer));
    }
    for _ in 0..2 {
        clients.push(AnyClient::new(Pipeline::new(clients.len(), BROKERS)));
        clients.push(AnyClient::new(Consumer::new(clients.len(), BROKERS)));
        clients.push(AnyClient::new(Reader::new(clients.len(), BROKERS)));
    }
    for _ in 0..2 {
        clients.push(AnyClient::new(Committer::new(clients.len(), BROKERS)));
    }
    clients
}
