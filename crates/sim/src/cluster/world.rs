//! One world: a controller, three brokers, clients and faults, for a span of simulated time.
//!
//! At its end all faults cease, and the cluster must become whole: every partition has a leader and all replicas in sync.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_replica::partition::RequiredAcks;

use super::checks::{self, Running, Seen};
use super::controller::ControllerProcess;
use super::deeds::{self, Deed};
use super::lifecycle::Stage;
use super::member::Member;
use crate::between::Between;
use crate::checks as after_start;
use crate::clients::{self, Admin, AnyClient, Committer, NEEDED_IN_CLUSTER, Producer, Reader};
use crate::faults::{Fault, Troubles};
use crate::messages::Delivery;
use crate::model::{Model, Presence};
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::failed::Failed;
use crate::node::start;
use crate::outside::{Event, Outside};
use crate::world::{Outcome, outcome};

/// How long a world lives, and how long after that the cluster has to become whole.
const LIFE: Duration = Duration::from_secs(40);
const RECOVERY: Duration = Duration::from_secs(25);
/// How often running brokers are compared with what clients know, beside at each acknowledgement.
const LOOK: Duration = Duration::from_millis(500);
/// How long a broker may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(8);
const CONTROLLER: NodeId = NodeId(100);
const BROKERS: &[NodeId] = &[NodeId(1), NodeId(2), NodeId(3)];
const NODES: &[NodeId] = &[NodeId(1), NodeId(2), NodeId(3), CONTROLLER];

/// Lives through the world of a seed.
pub fn run(seed: u64, is_readable: bool) -> Outcome {
    let mut world = World::new(seed, is_readable);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    outcome(lived, &world.outside)
}

#[derive(Debug)]
enum Process {
    Controller(Box<ControllerProcess>),
    Broker(Box<Member>),
}

impl Process {
    fn is_unopened(&self) -> bool {
        match self {
            Self::Controller(_) => false,
            Self::Broker(member) => member.broker().is_none(),
        }
    }

    fn id(&self) -> ProcessId {
        match self {
            Self::Controller(controller) => controller.id,
            Self::Broker(member) => member.id,
        }
    }
}

/// A computer with a disk, and the process that runs on it.
#[derive(Debug)]
struct Machine {
    disk: Simulated,
    process: Option<Process>,
    troubles: Troubles,
    /// Whether its last process has ended in an orderly way.
    was_stopped: bool,
    /// When a process that was asked to stop is killed.
    stops_by: Option<Duration>,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
    PowerCut,
}

#[derive(Debug)]
struct World {
    outside: Outside,
    machines: BTreeMap<NodeId, Machine>,
    clients: Vec<AnyClient>,
    model: Model,
    /// The metadata that was committed last.
    truth: MetadataImage,
    seen: Seen,
    looked_at: Duration,
    processes: u64,
    is_calm: bool,
}

impl World {
    fn new(seed: u64, is_readable: bool) -> Self {
        let mut outside = Outside::new(seed, is_readable);
        let mut machines = BTreeMap::new();
        for id in NODES {
            let disk = Simulated::new();
            if *id == CONTROLLER {
                start::format(&disk, *id, &outside);
            } else {
                start::format_broker(&disk, *id, &outside);
            }
            let machine = Machine {
                disk,
                process: None,
                troubles: Troubles::default(),
                was_stopped: true,
                stops_by: None,
            };
            machines.insert(*id, machine);
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
            machines,
            clients,
            model: Model::default(),
            truth: MetadataImage::default(),
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
    }

    /// All faults cease.
    fn calm_down(&mut self) {
        self.is_calm = true;
        self.outside.note("faults cease", [0; 3]);
        self.outside.links.mend();
        for id in NODES {
            self.end(*id, End::Kill);
        }
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

    fn on_node_event(&mut self, of: ProcessId, event: NodeEvent) {
        let machine = self
            .machines
            .get_mut(&of.node)
            .expect("a machine of the world");
        let process = machine.process.as_mut();
        let outcome = match process.filter(|process| process.id() == of) {
            Some(Process::Controller(controller)) => controller.on_event(event, &mut self.outside),
            Some(Process::Broker(member)) => member.on_event(event, &mut self.outside),
            None => return,
        };
        self.after(of.node, &outcome);
        if let NodeEvent::Load(index) = event {
            self.check_groups(of.node, index);
        }
    }

    fn on_message(&mut self, message: Between) {
        let (from, to) = (message.from, message.to);
        if !self.outside.links.delivers(from, to) {
            return;
        }
        let machine = self.machines.get_mut(&to).expect("a machine of the world");
        let outcome = match &mut machine.process {
            Some(Process::Controller(controller)) => {
                controller.on_message(message, &mut self.outside);
                Ok(())
            }
            Some(Process::Broker(member)) => member.on_message(message, &mut self.outside),
            None => return,
        };
        self.after(to, &outcome);
    }

    fn deliver(&mut self, delivery: Delivery) {
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
            let is_excused = machine.troubles.is_any() || is_power_off;
            assert!(
                is_excused,
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
            Some(Process::Controller(controller)) => {
                let image = controller.image();
                let differs =
                    image.topics != self.truth.topics || image.brokers != self.truth.brokers;
                if let Some(truth) = differs.then(|| image.clone()) {
                    self.on_truth(truth);
                }
            }
            Some(Process::Broker(member)) if member.lifecycle.may_stop() => {
                self.end(id, End::Stop);
            }
            Some(Process::Broker(member)) => {
                let is_late = machine.stops_by.is_some_and(|by| by < self.outside.time());
                if is_late || member.is_crippled() {
                    self.end(id, End::Kill);
                }
            }
            None => {}
        }
    }

    /// The controller has committed something.
    fn on_truth(&mut self, truth: MetadataImage) {
        let before = std::mem::replace(&mut self.truth, truth);
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

    fn on_fault(&mut self, id: NodeId, fault: Fault) {
        match fault {
            Fault::Any if !self.is_calm => {
                let pause = deeds::pause(&mut self.outside.random);
                self.outside.after(pause, Event::Fault(id, Fault::Any));
                self.do_something(id);
            }
            Fault::Start => self.start(id),
            Fault::MendLinks => self.outside.links.mend(),
            Fault::Any | Fault::EndCrippled | Fault::FreeDisk => {}
        }
    }

    fn do_something(&mut self, id: NodeId) {
        if self.machine(id).process.is_none() {
            return;
        }
        let deed = Deed::choose(&mut self.outside.random);
        self.outside.note("fault", [deed as i64, id.0.into(), 0]);
        match deed {
            Deed::Kill => return self.end(id, End::Kill),
            Deed::PowerCut => return self.end(id, End::PowerCut),
            Deed::Blackout => {
                for id in NODES {
                    self.end(*id, End::PowerCut);
                }
                return;
            }
            Deed::Stop => return self.begin_stop(id),
            Deed::EndSoon => {
                let operations = 1 + self.outside.random.below(60);
                self.machine(id).disk.cut_power_after(operations);
            }
            Deed::Stall => self.stall(id),
            Deed::MoveWallClock => {
                let by = self.outside.random.signed(3_000_000) - 1_500_000;
                self.outside.move_wall_clock(by);
            }
            Deed::CutConnections => {
                for connection in self.outside.network.open() {
                    if self.outside.random.one_in(2) {
                        self.outside.cut(connection);
                    }
                }
            }
            Deed::CutLinks => {
                for (from, to) in deeds::links_to_cut(id, NODES, &mut self.outside.random) {
                    self.outside.links.cut(from, to);
                }
                let delay = self.outside.between(300_000, 8_000_000);
                self.outside
                    .after(delay, Event::Fault(id, Fault::MendLinks));
            }
        }
        self.outside.counts.faults += 1;
    }

    fn stall(&mut self, id: NodeId) {
        let directory = self.outside.random.index(2);
        let until = self.outside.time() + self.outside.between(100_000, 12_000_000);
        if let Some(Process::Broker(member)) = &mut self.machine(id).process
            && let Some(broker) = member.broker_mut()
        {
            broker.stall(directory, until);
        }
    }

    /// A broker moves its leaderships first; a controller ends at once.
    fn begin_stop(&mut self, id: NodeId) {
        let stops_by = self.outside.time() + STOP;
        let machine = self.machine(id);
        match &mut machine.process {
            Some(Process::Broker(member)) if member.lifecycle.stage == Stage::Open => {
                member.lifecycle.stage = Stage::Stopping;
                machine.stops_by = Some(stops_by);
            }
            _ => self.end(id, End::Kill),
        }
    }

    /// A process ends; its machine starts another one soon.
    fn end(&mut self, id: NodeId, end: End) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        self.outside.serving.remove(&id);
        if let Some(process) = machine.process.take() {
            self.outside.note("ends", [end as i64, id.0.into(), 0]);
            // A process that has not opened its logs leaves them as they were.
            machine.was_stopped &= process.is_unopened();
            if let (Process::Broker(mut member), End::Stop) = (process, end) {
                let stopped = member.stop(&mut self.outside);
                let is_excused = machine.troubles.is_any() || machine.disk.is_power_off();
                assert!(
                    stopped.is_ok() || is_excused,
                    "a stop fails without a cause: {stopped:?}"
                );
                machine.was_stopped = stopped.is_ok() && !machine.disk.is_power_off();
            }
            let counts = &mut self.outside.counts;
            match end {
                End::Stop => counts.stops += 1,
                End::Kill => counts.kills += 1,
                End::PowerCut => counts.power_cuts += 1,
            }
            let delay = self.outside.between(20_000, 4_000_000);
            self.outside.after(delay, Event::Fault(id, Fault::Start));
        }
        self.outside.lose(id);
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        machine.stops_by = None;
        assert_eq!(
            machine.disk.open_handles(),
            0,
            "files are open after the end"
        );
        machine.disk = match end {
            End::PowerCut => machine.disk.power_cut(self.outside.random.next()),
            End::Stop | End::Kill => machine.disk.process_killed(),
        };
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
        machine.disk.set_clock(wall);
        let disk = machine.disk.clone();
        self.outside
            .note("starts", [id.0.into(), self.processes.cast_signed(), 0]);
        let started = if id == CONTROLLER {
            let started = ControllerProcess::start(process, &disk, &mut self.outside);
            let started = started
                .unwrap_or_else(|error| panic!("a start fails without a cause: {}", error.0));
            after_start::metadata(started.image(), &self.model);
            Process::Controller(Box::new(started))
        } else {
            let started = Member::start(process, CONTROLLER, &disk, &mut self.outside);
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
        clients.push(AnyClient::new(Reader::new(clients.len(), BROKERS)));
    }
    for _ in 0..2 {
        clients.push(AnyClient::new(Committer::new(clients.len(), BROKERS)));
    }
    clients
}
