//! One world: a machine with its node, clients and faults, for a span of simulated time.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_protocol::ids::NodeId;
use ottla_replica::partition::RequiredAcks;

use crate::checks::{self, Before, Ended, Ends, Last};
use crate::clients::{self, Admin, AnyClient, Committer, Consumer, NEEDED, Producer, Reader};
use crate::faults::{self, Deed, End, Fault, SPARE, Troubles};
use crate::messages::Delivery;
use crate::model::Model;
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::{self, Broker, Process};
use crate::outside::{Counts, Event, Outside};

/// How long a world lives.
const LIFE: Duration = Duration::from_mins(1);
/// The only node, as yet.
const NODE: NodeId = NodeId(1);
const NODES: &[NodeId] = &[NODE];

/// How a world went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The same for the same events.
    pub hash: u64,
    pub counts: Counts,
    /// What went wrong, and the last events.
    pub failure: Option<(String, Vec<String>)>,
    /// All events, if they were asked for.
    pub text: Option<String>,
}

/// Lives through the world of a seed.
pub fn run(seed: u64, is_readable: bool) -> Outcome {
    let mut world = World::new(seed, is_readable);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    outcome(lived, &world.outside)
}

/// How a world went that was lived through, or ended by a check.
pub fn outcome(lived: std::thread::Result<()>, outside: &Outside) -> Outcome {
    let failure = lived.err().map(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let text = || panic.downcast_ref::<&str>().map(ToString::to_string);
        (
            message.or_else(text).unwrap_or_default(),
            outside.trace.last(),
        )
    });
    let milliseconds = u64::try_from(outside.time().as_millis()).unwrap_or(0);
    Outcome {
        hash: outside.trace.hash(),
        counts: Counts {
            milliseconds,
            ..outside.counts
        },
        failure,
        text: outside.trace.text().map(str::to_owned),
    }
}

/// A computer with a disk, and the process that runs on it.
#[derive(Debug)]
struct Machine {
    disk: Simulated,
    process: Option<Process>,
    /// How its last process ended, and where its logs did then.
    ended: Ended,
    before: Ends,
    troubles: Troubles,
    /// How large the disk is, while it is full.
    limit: Option<u64>,
    attempts: u64,
}

#[derive(Debug)]
pub struct World {
    outside: Outside,
    machines: BTreeMap<NodeId, Machine>,
    clients: Vec<AnyClient>,
    model: Model,
    processes: u64,
}

impl World {
    pub fn new(seed: u64, is_readable: bool) -> Self {
        let mut outside = Outside::new(seed, is_readable);
        let disk = Simulated::new();
        node::format(&disk, NODE, &outside);
        let machine = Machine {
            disk,
            process: None,
            ended: Ended::Process,
            before: Ends::new(),
            troubles: Troubles::default(),
            limit: None,
            attempts: 0,
        };
        outside.after(Duration::ZERO, Event::Fault(NODE, Fault::Start));
        let pause = faults::pause(&mut outside.random);
        outside.after(pause, Event::Fault(NODE, Fault::Any));
        let clients = clients();
        for client in 0..clients.len() {
            let delay = outside.between(1_000, 500_000);
            outside.after(delay, Event::Client(client));
        }
        Self {
            outside,
            machines: [(NODE, machine)].into(),
            clients,
            model: Model::default(),
            processes: 0,
        }
    }

    /// Lives through the whole of it; at the end nothing must be missing.
    pub fn live(&mut self) {
        while self.outside.time() < LIFE {
            self.step();
        }
        self.end(NODE, End::Kill);
        let machine = self.machines.get_mut(&NODE).expect("the machine is there");
        machine.limit = None;
        machine.attempts = u64::MAX;
        self.start(NODE);
        let until = self.outside.time() + Duration::from_secs(3);
        while self.outside.time() < until {
            self.step();
        }
    }

    fn step(&mut self) {
        let event = self
            .outside
            .next()
            .expect("clients always have something to do");
        match event {
            Event::Node(process, event) => self.on_node_event(process, event),
            Event::Deliver(delivery) => self.deliver(*delivery),
            Event::Client(client) => {
                self.clients[client].on_time(&mut self.model, &mut self.outside);
            }
            Event::Fault(node, fault) => self.on_fault(node, fault),
            Event::Between(_) => panic!("there is one node"),
        }
    }

    fn on_node_event(&mut self, of: ProcessId, event: NodeEvent) {
        let machine = self
            .machines
            .get_mut(&of.node)
            .expect("an event of a machine");
        let process = machine.process.as_mut();
        let Some(process) = process.filter(|process| process.id == of) else {
            return;
        };
        process.on_event(event, &mut self.outside, machine.troubles);
        if let NodeEvent::Load(index) = event {
            self.outside.counts.checks += checks::groups(&process.broker, index, &self.model);
        }
        self.after_node(of.node);
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
        if let Some(process) = &mut machine.process {
            process.on_request(to, request, &mut self.outside);
            self.after_node(id);
        }
    }

    /// The node may have come to its end in the middle of what it did.
    fn after_node(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        if machine.disk.is_power_off() {
            let end = if self.outside.random.one_in(3) {
                End::Kill
            } else {
                End::PowerCut
            };
            return self.end(id, end);
        }
        let is_crippled = machine.process.as_ref().is_some_and(Process::is_crippled);
        if is_crippled && !machine.troubles.is_noticed {
            machine.troubles.is_noticed = true;
            let delay = self.outside.between(200_000, 3_000_000);
            self.outside
                .after(delay, Event::Fault(id, Fault::EndCrippled));
        }
    }

    fn on_fault(&mut self, id: NodeId, fault: Fault) {
        match fault {
            Fault::Any => {
                let pause = faults::pause(&mut self.outside.random);
                self.outside.after(pause, Event::Fault(id, Fault::Any));
                self.do_something(id);
            }
            Fault::Start => self.start(id),
            Fault::EndCrippled => {
                let machine = &self.machines[&id];
                if machine.process.as_ref().is_some_and(Process::is_crippled) {
                    self.end(id, End::Kill);
                }
            }
            Fault::FreeDisk => {
                let machine = self.machines.get_mut(&id).expect("the machine is there");
                machine.limit = None;
                machine.disk.limit_space(None);
            }
            Fault::MendLinks => panic!("there is one node"),
        }
    }

    fn do_something(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        let Some(process) = &mut machine.process else {
            return;
        };
        let deed = Deed::choose(&mut self.outside.random);
        self.outside.note("fault", [deed as i64, 0, 0]);
        let random = &mut self.outside.random;
        match deed {
            Deed::Kill => return self.end(id, End::Kill),
            Deed::PowerCut => return self.end(id, End::PowerCut),
            Deed::Stop => return self.end(id, End::Stop),
            Deed::EndSoon => machine.disk.cut_power_after(1 + random.below(40)),
            Deed::Break => {
                machine.troubles.fault = true;
                faults::break_something(&machine.disk, random);
            }
            Deed::FillDisk => {
                machine.troubles.full = true;
                machine.limit = faults::leave_space(&machine.disk, random.below(96 << 10));
                let delay = self.outside.between(1_000_000, 8_000_000);
                self.outside.after(delay, Event::Fault(id, Fault::FreeDisk));
            }
            Deed::Stall => {
                let directory = random.index(2);
                let until = self.outside.time() + self.outside.between(100_000, 15_000_000);
                process.stall(directory, until);
            }
            Deed::MoveWallClock => {
                let by = random.signed(3_000_000) - 1_500_000;
                self.outside.move_wall_clock(by);
            }
            Deed::CutConnections => self.outside.cut_connections(),
        }
        self.outside.counts.faults += 1;
    }

    /// A process ends; its machine starts another one soon.
    fn end(&mut self, id: NodeId, end: End) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        self.outside.note("ends", [end as i64, 0, 0]);
        self.outside.serving.remove(&id);
        if let Some(process) = machine.process.take() {
            machine.before = before(&process.broker);
            if end == End::Stop {
                let stopped = process.stop(&mut self.outside);
                machine.troubles.check_stop(&machine.disk, &stopped);
            }
        }
        self.outside.lose(id);
        assert_eq!(
            machine.disk.open_handles(),
            0,
            "files are open after the end"
        );
        let is_power_off = machine.disk.is_power_off();
        let end = match end {
            End::Stop if is_power_off => End::PowerCut,
            end => end,
        };
        self.outside.counts.ended(end);
        self.switch_off(id, end);
        let delay = self.outside.between(20_000, 1_500_000);
        self.outside.after(delay, Event::Fault(id, Fault::Start));
    }

    /// What is left on the disk of a machine whose process is gone.
    fn switch_off(&mut self, id: NodeId, end: End) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        if end == End::PowerCut {
            machine.ended = Ended::Power;
            let seed = self.outside.random.next();
            machine.disk = machine.disk.power_cut(seed);
        } else {
            machine.disk = machine.disk.process_killed();
        }
    }

    /// Starts a process, and compares what it has with what clients know. During a start, too, things may go wrong.
    fn start(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        if machine.process.is_some() {
            return;
        }
        machine.troubles = Troubles::default();
        if let Some(limit) = machine.limit {
            machine.troubles.full = true;
            machine.disk.limit_space(Some(limit + SPARE));
        }
        let random = &mut self.outside.random;
        if machine.attempts < 3 && random.one_in(4) {
            if random.one_in(2) {
                machine.disk.cut_power_after(random.below(60));
            } else {
                machine.troubles.fault = true;
                faults::break_something(&machine.disk, random);
            }
        }
        machine.attempts = machine.attempts.saturating_add(1);
        machine.disk.set_clock(self.outside.now().wall.0);
        self.processes += 1;
        let started = Process::start(id, self.processes, &machine.disk, &mut self.outside);
        match started {
            Ok(process) => {
                machine.disk.heal();
                machine
                    .disk
                    .limit_space(machine.limit.map(|limit| limit + SPARE));
                self.check(id, process);
            }
            Err(error) => {
                self.outside.note("a start fails", [0; 3]);
                let is_excused = machine.troubles.fault || machine.disk.is_power_off();
                assert!(is_excused, "a start fails without a cause: {}", error.0);
                let end = if machine.disk.is_power_off() || self.outside.random.one_in(2) {
                    End::PowerCut
                } else {
                    End::Kill
                };
                self.switch_off(id, end);
                self.outside.lose(id);
                let delay = self.outside.between(20_000, 500_000);
                self.outside.after(delay, Event::Fault(id, Fault::Start));
            }
        }
    }

    fn check(&mut self, id: NodeId, process: Process) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        let now = self.outside.now().monotonic;
        let last = Last {
            ended: machine.ended,
            before: &machine.before,
        };
        let (checks, gone) = checks::after_start(&process.broker, &mut self.model, last, now);
        self.outside.counts.checks += checks;
        self.outside.counts.lost_of_page_cache += gone;
        machine.process = Some(process);
        machine.ended = Ended::Process;
        machine.attempts = if machine.attempts == u64::MAX {
            u64::MAX
        } else {
            0
        };
    }
}

/// Where the logs of a broker are.
fn before(broker: &Broker) -> Ends {
    let all = broker.replicas.all().into_iter();
    let all = all.filter_map(|partition| {
        let offsets = partition.offsets().ok()?;
        let before = Before {
            start: offsets.log_start.0,
            high_watermark: offsets.high_watermark.0,
            end: offsets.log_end.0,
            is_online: partition.directory().log.failure().is_none(),
        };
        Some((partition.id(), before))
    });
    all.collect()
}

fn clients() -> Vec<AnyClient> {
    let all = RequiredAcks::All;
    let leader = RequiredAcks::Leader;
    let producers = [
        (true, all),
        (true, all),
        (true, all),
        (false, all),
        (false, leader),
    ];
    let mut clients = vec![AnyClient::new(Admin::new(0, NODES, NEEDED))];
    for (is_idempotent, acks) in producers {
        let producer = Producer::new(clients.len(), NODES, is_idempotent, acks);
        clients.push(AnyClient::new(producer));
    }
    for _ in 0..3 {
        clients.push(AnyClient::new(Consumer::new(clients.len(), NODES)));
    }
    for _ in 0..2 {
        clients.push(AnyClient::new(Reader::new(clients.len(), NODES)));
    }
    clients.push(AnyClient::new(Committer::new(clients.len(), NODES)));
    clients
}
