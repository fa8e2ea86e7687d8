//! A cluster that lives from a seed: three nodes, the controller, producers that wait for all replicas, a consumer, and
//! a network that loses, delays, doubles and reorders messages. Nodes are killed, under `fsync` with their power cut.
//!
//! `checks.rs` compares what was told with what is there, after each step of a node and at the end, when all nodes run
//! and the network is whole.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use ottla_log::FirstBatch;
use ottla_log::files::simulated::{Random, Simulated};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use ottla_replica::partition::{FollowerRead, NextFetch};
use ottla_replica::{Durability, Loss, Unavailable, checkpoints};
use ottla_replication::{Answer as IsrAnswer, IsrChange, Replica};

use super::checks::Checks;
use super::controller::Controller;
use super::machine::{Answer, Machine, Reading, new_disk};
use super::metadata::NODES;

/// The steps before the cluster is healed.
const STEPS: u64 = 1500;
/// A fetch without an answer is given up after this time.
const FETCH_PATIENCE: Duration = Duration::from_millis(400);

/// A node, which runs or not.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: NodeId,
    disk: Simulated,
    pub(crate) machine: Option<Machine>,
    /// The epoch of its registration.
    epoch: i64,
    /// The version of the metadata that it knows.
    version: usize,
    /// Until then it does not hear from the controller.
    cut_off_until: MonotonicTime,
    /// Its fetch without an answer yet, and when it was sent.
    fetching: Option<(u64, NextFetch, MonotonicTime)>,
}

/// A message on its way. Each names the number and the registration of the node that it is for or from.
#[derive(Debug, Clone)]
enum Message {
    Fetch(usize, u64, NextFetch, FollowerRead),
    Fetched(usize, u64, NextFetch, Answer),
    Alter(usize, IsrChange),
    Altered(usize, IsrChange, IsrAnswer),
}

/// A leader that reads for a follower: what has been planned is read later.
#[derive(Debug)]
struct Serving {
    /// The registration epochs of both.
    epochs: (i64, i64),
    follower: usize,
    number: u64,
    next: NextFetch,
    reading: Reading,
    ready_at: MonotonicTime,
}

/// A message with the registration epoch of the node that it concerns.
type Sent = (i64, Message);

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) steps: Vec<String>,
    now: Now,
    durability: Durability,
    pub(crate) places: Vec<Place>,
    pub(crate) controller: Controller,
    messages: BTreeMap<(MonotonicTime, u64), Sent>,
    serving: Vec<Serving>,
    number: u64,
    next_value: u64,
    sent: BTreeMap<usize, (Offset, Vec<u64>)>,
    answers: (Sender<Told>, Receiver<Told>),
    pub(crate) checks: Checks,
    is_healed: bool,
}

type Told = (usize, Result<(), Unavailable>);

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let durability = if seed.is_multiple_of(2) {
            Durability::Fsync
        } else {
            Durability::PageCache
        };
        let controller = Controller::new(durability);
        let now = Now {
            monotonic: MonotonicTime(Duration::from_secs(100)),
            wall: Timestamp(1_700_000_000_000),
        };
        let places = (1..).zip(NODES).map(|(epoch, id)| {
            let disk = new_disk();
            Place {
                id,
                machine: Some(Machine::start(id, &disk, &controller.image(0), now)),
                disk,
                epoch,
                version: 0,
                cut_off_until: now.monotonic,
                fetching: None,
            }
        });
        Self {
            random: Random::new(seed),
            steps: Vec::new(),
            now,
            durability,
            places: places.collect(),
            controller,
            messages: BTreeMap::new(),
            serving: Vec::new(),
            number: 0,
            next_value: 1,
            sent: BTreeMap::new(),
            answers: mpsc::channel(),
            checks: Checks::new(durability),
            is_healed: false,
        }
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.heal();
    }

    fn note(&mut self, step: &str) {
        self.steps
            .push(format!("{:?} {step}", self.now.monotonic.0));
    }

    fn step(&mut self) {
        let passed = self.random.below(30);
        self.pass_time(passed);
        let at = self.random.index(NODES.len());
        match self.random.below(400) {
            0..=99 => self.produce(at),
            100..=209 => self.fetch(at),
            210..=279 => self.flush(at),
            280..=329 => self.learn(at),
            330..=349 => self.tick(at),
            350..=359 => self.checkpoint(at),
            360..=379 => self.consume(),
            380..=381 => self.pass_time(600),
            382..=385 => self.elect(),
            386..=387 => self.stop(at),
            388..=389 => self.fence(at),
            390 => self.cut_off(at),
            _ => self.start(at),
        }
    }

    fn pass_time(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.after(Duration::from_millis(ms));
        self.now.wall.0 += ms.cast_signed();
        while let Some(first) = self.messages.first_entry() {
            if first.key().0 > self.now.monotonic {
                break;
            }
            let (epoch, message) = first.remove();
            self.deliver(epoch, message);
        }
        self.read_for_followers();
        self.hear();
    }

    /// Sends a message of or to the node `of`. It may be lost, late, or there twice.
    fn send(&mut self, of: usize, message: &Message) {
        let epoch = self.places[of].epoch;
        let copies = match self.random.below(20) {
            _ if self.is_healed => 1,
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.some_time_later();
            self.number += 1;
            self.messages
                .insert((at, self.number), (epoch, message.clone()));
        }
    }

    fn deliver(&mut self, epoch: i64, message: Message) {
        match message {
            Message::Fetch(from, number, next, read) => self.serve(from, number, next, &read),
            Message::Alter(from, change) => {
                let answer = self.controller.alter(NODES[from], &change);
                self.note(&format!("{} alters {change:?}: {answer:?}", NODES[from]));
                if self.places[from].epoch == epoch {
                    self.send(from, &Message::Altered(from, change, answer));
                }
            }
            Message::Fetched(to, number, next, answer) if self.places[to].epoch == epoch => {
                self.fetched(to, number, &next, &answer);
            }
            Message::Altered(to, change, answer) if self.places[to].epoch == epoch => {
                let now = self.now.monotonic;
                if let Some(machine) = &self.places[to].machine {
                    machine.partition().isr_answered(&change, answer, now);
                    self.check(to);
                }
            }
            _ => {}
        }
    }

    /// A node that knows that it leads takes the fetch. What it plans is read later.
    fn serve(&mut self, from: usize, number: u64, next: NextFetch, read: &FollowerRead) {
        let to = place_of(next.leader);
        let (now, asker, leader) = (self.now, self.places[from].epoch, self.places[to].epoch);
        let Some(machine) = &self.places[to].machine else {
            return;
        };
        let (reading, change) = if next.wants_offsets {
            (Reading::Done(machine.list_offsets(read)), None)
        } else {
            machine.plan(read, now)
        };
        self.check(to);
        if let Some(change) = change {
            self.send(to, &Message::Alter(to, change));
        }
        let ready_at = self.some_time_later();
        self.serving.push(Serving {
            epochs: (asker, leader),
            follower: from,
            number,
            next,
            reading,
            ready_at,
        });
    }

    fn read_for_followers(&mut self) {
        let now = self.now.monotonic;
        let (ready, later) = std::mem::take(&mut self.serving)
            .into_iter()
            .partition(|serving| serving.ready_at <= now);
        self.serving = later;
        for Serving {
            epochs,
            follower,
            number,
            next,
            reading,
            ..
        } in ready
        {
            let leader = &self.places[place_of(next.leader)];
            let lives = leader.machine.is_some() && leader.epoch == epochs.1;
            if lives && self.places[follower].epoch == epochs.0 {
                let answer = reading.read();
                self.send(follower, &Message::Fetched(follower, number, next, answer));
            }
        }
    }

    /// Mostly soon.
    fn some_time_later(&mut self) -> MonotonicTime {
        let longest = match self.random.below(12) {
            0 if !self.is_healed => 1500,
            _ => 20,
        };
        let delay = self.random.below(longest);
        self.now.monotonic.after(Duration::from_millis(delay))
    }

    fn fetch(&mut self, at: usize) {
        let now = self.now;
        let place = &mut self.places[at];
        let Some(machine) = &place.machine else {
            return;
        };
        let partition = machine.partition();
        if let Some((_, given_up, sent)) = place.fetching {
            if now.monotonic < sent.after(FETCH_PATIENCE) {
                return;
            }
            place.fetching = None;
            let failed = Answer::Failed(ErrorCode::NetworkException);
            let fetched =
                partition.on_fetched(&given_up.fetch, &failed.as_answer(), now, &mut clean);
            assert_eq!(fetched.unwrap(), 0);
        }
        let Some(next) = machine.node.next_fetch(&partition, now) else {
            return;
        };
        let read = FollowerRead {
            from: Replica {
                node: place.id,
                broker_epoch: Some(place.epoch),
            },
            fetch: next.fetch,
            has_leader_epoch: true,
            max_bytes: 600,
            first_batch: FirstBatch::MayExceed,
            is_counted: false,
        };
        self.number += 1;
        let number = self.number;
        place.fetching = Some((number, next, now.monotonic));
        self.note(&format!("{} asks {next:?}", NODES[at]));
        self.send(at, &Message::Fetch(at, number, next, read));
    }

    fn fetched(&mut self, at: usize, number: u64, next: &NextFetch, answer: &Answer) {
        let now = self.now;
        let place = &mut self.places[at];
        if place
            .fetching
            .is_some_and(|(expected, ..)| expected == number)
        {
            place.fetching = None;
        }
        let Some(machine) = &place.machine else {
            return;
        };
        let partition = machine.partition();
        let fetched = partition.on_fetched(&next.fetch, &answer.as_answer(), now, &mut clean);
        let offsets = partition.offsets().unwrap();
        let shown = answer.shown();
        self.note(&format!(
            "{} gets {shown}: {fetched:?} {offsets:?}",
            NODES[at]
        ));
        self.check(at);
    }

    /// Mostly at the leader that the controller names.
    fn produce(&mut self, at: usize) {
        let leader = self
            .controller
            .partition
            .leader
            .filter(|_| !self.random.one_in(4));
        let at = leader.map_or(at, place_of);
        let count = if self.random.one_in(4) { 2 } else { 1 };
        let values: Vec<u64> = (0..count).map(|more| self.next_value + more).collect();
        self.next_value += count;
        let number = self.sent.len();
        let (now, sender) = (self.now, self.answers.0.clone());
        let Some(machine) = &self.places[at].machine else {
            return;
        };
        // Registered before it is answered.
        let end = machine.partition().offsets().unwrap().log_end;
        self.sent.insert(number, (end, values.clone()));
        let produced = machine.produce(&values, (number, sender), now);
        if let Ok(first) = &produced {
            assert_eq!(*first, end);
            self.note(&format!("{} appends {values:?} at {first}", NODES[at]));
        }
        self.check(at);
        self.hear();
    }

    /// Takes the answers of producers.
    fn hear(&mut self) {
        while let Ok((number, outcome)) = self.answers.1.try_recv() {
            if outcome.is_ok() {
                let (first, values) = self.sent[&number].clone();
                self.note(&format!("acknowledged {values:?} at {first}"));
                self.checks.acknowledge(first, &values);
            }
        }
    }

    fn flush(&mut self, at: usize) {
        let (now, is_begun_only) = (self.now, self.random.one_in(3));
        let Some(machine) = &mut self.places[at].machine else {
            return;
        };
        if is_begun_only && machine.pass.is_none() {
            machine.pass = machine.directory.begin_pass(now.monotonic);
        } else {
            machine.flush(now);
        }
        self.check(at);
        self.hear();
    }

    /// A node learns the next versions of the metadata.
    fn learn(&mut self, at: usize) {
        let latest = self.controller.latest();
        let more = self.random.below(3) + 1;
        let place = &mut self.places[at];
        let Some(machine) = &place.machine else {
            return;
        };
        let to = latest.min(place.version + usize::try_from(more).unwrap());
        let is_cut_off = self.now.monotonic < place.cut_off_until && !self.is_healed;
        if to > place.version && !is_cut_off {
            place.version = to;
            machine.apply(&self.controller.image(to), self.now);
            let role = machine.partition().role();
            self.note(&format!("{} learns {role:?}", NODES[at]));
            self.check(at);
            self.hear();
        }
    }

    /// Looks for followers that lag, and sends again what the controller has not answered.
    fn tick(&mut self, at: usize) {
        let Some(machine) = &self.places[at].machine else {
            return;
        };
        let partition = machine.partition();
        let shrunk = partition.shrink_isr(self.now.monotonic);
        let pending = shrunk.or_else(|| partition.pending_isr_change());
        if let Some(change) = pending {
            self.note(&format!("{} proposes {change:?}", NODES[at]));
            self.send(at, &Message::Alter(at, change));
        }
    }

    fn checkpoint(&mut self, at: usize) {
        let Some(machine) = &self.places[at].machine else {
            return;
        };
        let here = || machine.node.all();
        checkpoints::write_high_watermarks(&machine.directory, here, None).unwrap();
        if self.random.one_in(2) {
            machine.partition().checkpoint().unwrap();
            checkpoints::write_recovery_points(&machine.directory, here).unwrap();
            checkpoints::write_log_starts(&machine.directory, here).unwrap();
        }
    }

    fn elect(&mut self) {
        let number = self.random.index(NODES.len());
        self.controller.elect(number);
        let partition = &self.controller.partition;
        let (leader, epoch) = (partition.leader, partition.leader_epoch);
        self.note(&format!("elected {leader:?} in {epoch}"));
    }

    fn fence(&mut self, at: usize) {
        let place = &self.places[at];
        let is_silent = place.machine.is_none() || place.cut_off_until > self.now.monotonic;
        if is_silent || self.random.one_in(4) {
            self.note(&format!("{} is fenced", NODES[at]));
            self.controller.fence(NODES[at]);
        }
    }

    fn cut_off(&mut self, at: usize) {
        let ms = self.random.below(3000);
        let until = self.now.monotonic.after(Duration::from_millis(ms));
        self.places[at].cut_off_until = until;
        self.note(&format!("{} hears nothing for {ms} ms", NODES[at]));
    }

    /// Kills a node, or cuts its power. At least one keeps running.
    fn stop(&mut self, at: usize) {
        let running = self.places.iter().filter(|place| place.machine.is_some());
        if running.count() < 2 {
            return;
        }
        let seed = self.random.below(u64::MAX);
        let cuts_power = self.durability == Durability::Fsync && self.random.one_in(2);
        let place = &mut self.places[at];
        if place.machine.take().is_none() {
            return;
        }
        place.fetching = None;
        place.disk = if cuts_power {
            place.disk.power_cut(seed)
        } else {
            place.disk.process_killed()
        };
        self.note(&format!("{} stops, power cut: {cuts_power}", NODES[at]));
        self.checks.stopped(at);
    }

    /// Starts a node that does not run. One that runs and is fenced is unfenced once it knows its registration.
    fn start(&mut self, at: usize) {
        let id = NODES[at];
        if self.places[at].machine.is_some() {
            let is_caught_up = self.places[at].version == self.controller.latest();
            let is_fenced = self.controller.brokers[at].fenced;
            if is_caught_up && is_fenced {
                self.controller.unfence(id);
                self.note(&format!("{id} is unfenced"));
            }
            return;
        }
        let epoch = self.controller.register(id);
        let version = self.controller.latest();
        let image = self.controller.image(version);
        let place = &mut self.places[at];
        place.epoch = epoch;
        place.version = version;
        place.machine = Some(Machine::start(id, &place.disk, &image, self.now));
        self.note(&format!("{id} starts with epoch {epoch}"));
        self.check(at);
    }

    /// The consumer reads from the leader that the controller names.
    fn consume(&mut self) {
        let Controller { partition, .. } = &self.controller;
        let Some(leader) = partition.leader else {
            return;
        };
        let epoch = partition.leader_epoch;
        // Metadata of clients may be old.
        let at = if self.random.one_in(3) {
            self.random.index(NODES.len())
        } else {
            place_of(leader)
        };
        if let Some(machine) = &self.places[at].machine {
            self.checks.consume(machine, epoch, self.now.monotonic);
        }
    }

    fn check(&mut self, at: usize) {
        if let Some(machine) = &self.places[at].machine {
            self.checks.look(at, machine);
        }
    }

    /// All nodes run, and nothing is lost any more, until the replicas are in sync. Then everything is compared.
    fn heal(&mut self) {
        self.note("heals");
        self.is_healed = true;
        for _ in 0..120 {
            for at in 0..NODES.len() {
                self.start(at);
                self.learn(at);
                self.fetch(at);
                self.flush(at);
                self.tick(at);
            }
            self.pass_time(150);
        }
        self.consume();
        let machines = self
            .places
            .iter()
            .map(|place| place.machine.as_ref().unwrap());
        let machines: Vec<_> = machines.collect();
        assert!(
            self.controller.partition.isr.len() == NODES.len(),
            "all are in sync"
        );
        self.checks.finish(&machines);
    }
}

fn place_of(node: NodeId) -> usize {
    NODES.iter().position(|id| *id == node).unwrap()
}

fn clean(loss: &Loss) {
    panic!("all elections are clean, but {loss:?}");
}
