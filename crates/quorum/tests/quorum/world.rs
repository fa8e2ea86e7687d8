//! A quorum in one thread: machines with simulated disks, and a network that loses, delays, doubles and reorders messages.
//!
//! Everything that happens comes from the seed, in order of its time. A fault of the disk, the process or the network may
//! come at any moment, also in the middle of a call.

#[path = "kafka.rs"]
mod kafka;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_log::files::simulated::Random;
use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::messages::metadata::{MetadataRecord, TopicRecord};
use ottla_protocol::time::Timestamp;
use ottla_quorum::{Envelope, NodeError, QuorumNews, RaftNode, SnapshotId, Voter, VoterChange};

use crate::checks::{Checks, Commit, Proposal};
use crate::machine::{Machine, voters};

const SECOND: u64 = 1_000_000;

#[derive(Debug, Clone)]
enum Happening {
    Tick(usize),
    Deliver {
        from: usize,
        to: usize,
        bytes: Bytes,
    },
    /// The driver of a leader decides on a record, and proposes it a little later.
    Decide,
    Propose {
        machine: usize,
        epoch: LeaderEpoch,
        name: String,
    },
    Snapshot(usize),
    WriteSnapshot(usize),
    Fetch {
        to: usize,
        from: usize,
        id: SnapshotId,
    },
    Fault,
    Start(usize),
    /// The disk of a machine has room again.
    Room(usize),
    Mend {
        from: usize,
        to: usize,
    },
    /// A connection is made, and its first frame says who made it.
    Hello {
        from: usize,
        to: usize,
    },
    ChangeVoters,
}

pub struct World {
    pub random: Random,
    /// The voters that the cluster began with.
    pub voters: Vec<Voter>,
    /// How many changes of the voters were proposed.
    pub changes: usize,
    is_settling: bool,
    pub machines: Vec<Machine>,
    pub checks: Checks,
    pub now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    /// Links that carry nothing.
    pub cut: BTreeSet<(usize, usize)>,
    /// One message in so many is lost, and doubled; 0: none.
    pub loss: u64,
    pub has_faults: bool,
    decided: u64,
    /// How many snapshots were installed.
    pub restored: usize,
}

impl World {
    pub fn new(seed: u64, machines: usize) -> Self {
        Self::with_spares(seed, machines, 0)
    }

    /// A quorum with `spares` further machines, which have joined and have no vote.
    pub fn with_spares(seed: u64, first: usize, spares: usize) -> Self {
        let mut random = Random::new(seed);
        let machines = first + spares;
        let all = voters(machines);
        let formatted = |index: usize| {
            let voters = if index < first { &all[..first] } else { &[] };
            Machine::formatted(index, &all[index], voters, 15_000 + random.below(10_000))
        };
        let mut world = Self {
            machines: (0..machines).map(formatted).collect(),
            random,
            voters: all[..first].to_vec(),
            changes: 0,
            is_settling: false,
            checks: Checks::default(),
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            cut: BTreeSet::new(),
            loss: 0,
            has_faults: false,
            decided: 0,
            restored: 0,
        };
        for index in 0..machines {
            world.machines[index]
                .start(&world.voters)
                .expect("a new disk is sound");
            world.after(1_000, Happening::Tick(index));
            for to in (0..machines).filter(|to| *to != index && spares > 0) {
                world.after(1_000, Happening::Hello { from: index, to });
            }
        }
        if spares > 0 {
            world.after(SECOND, Happening::ChangeVoters);
        }
        world.after(SECOND, Happening::Decide);
        world
    }

    /// From here on machines, disks and links fail.
    pub fn begin_faults(&mut self) {
        (self.loss, self.has_faults) = (20, true);
        self.after(SECOND / 2, Happening::Fault);
    }

    pub fn run_for(&mut self, micros: u64) {
        let end = self.now + micros;
        while let Some((&(time, _), _)) = self.queue.first_key_value()
            && time <= end
        {
            let ((time, _), happening) = self.queue.pop_first().expect("there is one");
            self.now = time;
            self.happen(happening);
        }
        self.now = end;
    }

    fn after(&mut self, micros: u64, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((self.now + micros, self.sequence), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick(index) => self.tick(index),
            Happening::Deliver { from, to, bytes } => {
                let sender = self.machines[from].voter.clone();
                if !self.cut.contains(&(from, to))
                    && let Some(node) = &mut self.machines[to].node
                {
                    // A connection begins with it.
                    node.on_hello(sender);
                    // What a peer must not send is dropped; honest peers are never refused.
                    node.on_message(bytes)
                        .unwrap_or_else(|error| panic!("refused: {error}"));
                    self.ready(to);
                }
            }
            Happening::Decide => self.decide(),
            Happening::Propose {
                machine,
                epoch,
                name,
            } => self.propose(machine, epoch, name),
            Happening::Snapshot(index) => self.begin_snapshot(index),
            Happening::WriteSnapshot(index) => self.write_snapshot(index),
            Happening::Fetch { to, from, id } => self.fetch(to, from, id),
            Happening::Fault => self.fault(),
            Happening::Start(index) => self.start(index),
            Happening::Room(index) => self.machines[index].limit_space(None),
            Happening::Mend { from, to } => {
                self.cut.remove(&(from, to));
            }
            Happening::Hello { from, to } => self.hello(from, to),
            Happening::ChangeVoters => self.change_voters(),
        }
    }

    fn hello(&mut self, from: usize, to: usize) {
        let controller = self.machines[from].voter.clone();
        if !self.cut.contains(&(from, to))
            && self.machines[from].node.is_some()
            && let Some(node) = &mut self.machines[to].node
        {
            node.on_hello(controller);
        }
        let next = SECOND / 4 + self.random.below(SECOND / 4);
        self.after(next, Happening::Hello { from, to });
    }

    /// Somebody adds a machine that is no voter, or removes one that is.
    fn change_voters(&mut self) {
        if self.is_settling {
            return;
        }
        let now = self.wall();
        let index = self.random.index(self.machines.len());
        let of = self.machines[index].voter.clone();
        for machine in &mut self.machines {
            let Some(node) = machine.node.as_mut().filter(|_| machine.leads.is_some()) else {
                continue;
            };
            let change = if !node.voters().contains(&of) {
                VoterChange::Add(of.clone())
            } else if node.voters().len() > 2 {
                VoterChange::Remove {
                    node_id: of.node_id,
                    directory_id: of.directory_id,
                }
            } else {
                continue;
            };
            self.changes += usize::from(node.propose_voters(&change, now).is_ok());
        }
        for index in 0..self.machines.len() {
            self.ready(index);
        }
        let next = self.random.below(SECOND);
        self.after(next, Happening::ChangeVoters);
    }

    fn wall(&self) -> Timestamp {
        Timestamp((self.now / 1_000).cast_signed())
    }

    fn tick(&mut self, index: usize) {
        let now = self.wall();
        let random = self.random.next();
        let silent = self.machines[index].node.as_ref();
        let silent = silent.and_then(RaftNode::silent_leader);
        let gone = silent.filter(|leader| !self.answers(index, *leader));
        let machine = &mut self.machines[index];
        let mut next = machine.tick;
        if let Some(node) = &mut machine.node {
            node.on_tick(random);
            if let Some(leader) = gone {
                node.on_unreachable(leader);
            }
            node.settle_others(now);
            self.ready(index);
            if self.has_faults && self.random.one_in(300) {
                // The process does not run for a while.
                next += self.random.below(SECOND);
            }
        }
        self.after(next, Happening::Tick(index));
    }

    /// Whether an attempt to connect is answered.
    fn answers(&self, from: usize, node: NodeId) -> bool {
        let mut machines = self.machines.iter();
        let to = machines.position(|machine| machine.voter.node_id == node);
        let to = to.expect("it is a machine");
        let is_cut = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
        self.machines[to].node.is_some() && !is_cut
    }

    /// Performs what a node wants done. An error of its disk ends its life.
    fn ready(&mut self, index: usize) {
        let now = self.wall();
        let Some(node) = &mut self.machines[index].node else {
            return;
        };
        match node.ready(now) {
            Ok(effects) => {
                let epoch = node.epoch();
                assert!(
                    epoch >= self.machines[index].epoch,
                    "the epoch of a machine falls"
                );
                self.machines[index].epoch = epoch;
                for news in effects.news {
                    self.hear(index, news);
                }
                for envelope in effects.messages {
                    self.send(index, envelope);
                }
            }
            Err(error) => self.fail(index, &error),
        }
    }

    fn fail(&mut self, index: usize, error: &NodeError) {
        let machine = &self.machines[index];
        assert!(
            machine.files.is_power_off() || machine.is_full,
            "machine {index} fails by itself: {error}"
        );
        self.stop(index, true);
    }

    fn stop(&mut self, index: usize, power_cut: bool) {
        let seed = power_cut.then(|| self.random.next());
        self.machines[index].stop(seed);
        let delay = self.random.below(2 * SECOND);
        self.after(delay, Happening::Start(index));
    }

    fn start(&mut self, index: usize) {
        if self.machines[index].node.is_some() {
            return;
        }
        self.machines[index].files.heal();
        if self.has_faults && self.random.one_in(8) {
            let changes = self.random.below(12);
            self.machines[index].files.cut_power_after(changes);
        }
        match self.machines[index].start(&self.voters) {
            Ok(()) => {
                let node = self.machines[index].node.as_ref().expect("it has started");
                let epoch = self.machines[index].epoch;
                assert!(
                    node.epoch() >= epoch,
                    "machine {index} has forgotten epoch {epoch}"
                );
            }
            Err(error) => self.fail(index, &error),
        }
    }

    fn send(&mut self, from: usize, envelope: Envelope) {
        let Envelope { to, bytes } = envelope;
        let mut machines = self.machines.iter();
        let to = machines.position(|machine| machine.voter == to);
        let to = to.expect("it is a machine");
        let is_lost = self.loss > 0 && self.random.one_in(self.loss);
        let copies = 1 + usize::from(self.loss > 0 && self.random.one_in(self.loss));
        for _ in 0..copies * usize::from(!is_lost) {
            let delay = match self.random.below(20) {
                0 if self.has_faults => self.random.below(SECOND / 2),
                _ => 200 + self.random.below(3_000),
            };
            let bytes = bytes.clone();
            self.after(delay, Happening::Deliver { from, to, bytes });
        }
    }

    fn hear(&mut self, index: usize, news: QuorumNews) {
        let life = (index, self.machines[index].starts);
        match news {
            QuorumNews::Committed {
                epoch,
                base,
                end,
                records,
            } => {
                self.machines[index].loader.load(&records);
                let commit = Commit {
                    epoch,
                    end,
                    records,
                };
                self.checks.on_committed(base, &commit);
                self.checks.acknowledge(life, epoch, end);
            }
            QuorumNews::Leader { epoch, leader } => {
                if let Some(leader) = leader {
                    self.checks.on_leader(epoch, leader);
                }
            }
            QuorumNews::LeadershipGained { epoch, start } => {
                assert!(
                    start >= self.checks.high_watermark,
                    "a leader lacks what is committed"
                );
                self.machines[index].leads = Some(epoch);
            }
            QuorumNews::LeadershipLost { .. } => self.machines[index].leads = None,
            QuorumNews::SnapshotNeeded { from, id, .. } => {
                let mut machines = self.machines.iter();
                let from = machines.position(|machine| machine.voter.node_id == from);
                let from = from.expect("it is a machine");
                let delay = self.random.below(100_000);
                self.after(
                    delay,
                    Happening::Fetch {
                        to: index,
                        from,
                        id,
                    },
                );
            }
            QuorumNews::Restored { image, .. } => {
                self.restored += 1;
                self.machines[index].loader = ottla_metadata::Loader::new(*image);
            }
        }
    }

    fn decide(&mut self) {
        let leaders: Vec<(usize, LeaderEpoch)> = self
            .machines
            .iter()
            .filter(|machine| machine.node.is_some())
            .filter_map(|machine| Some((machine.index, machine.leads?)))
            .collect();
        if let Some((machine, epoch)) = self.random.pick(&leaders).copied() {
            self.decided += 1;
            let name = format!("topic-{}", self.decided);
            let proposal = Proposal {
                decided: epoch,
                by: (machine, self.machines[machine].starts),
                end: None,
                is_acknowledged: false,
            };
            self.checks.proposals.insert(name.clone(), proposal);
            // Sometimes the leadership is lost, and even won again, between the decision and the proposal.
            let delay = match self.random.below(4) {
                0 if self.has_faults => self.random.below(4 * SECOND),
                _ => self.random.below(1_000),
            };
            self.after(
                delay,
                Happening::Propose {
                    machine,
                    epoch,
                    name,
                },
            );
        }
        let next = 5_000 + self.random.below(40_000);
        self.after(next, Happening::Decide);
        if self.random.one_in(60) {
            let index = self.random.index(self.machines.len());
            self.after(1_000, Happening::Snapshot(index));
        }
    }

    fn propose(&mut self, index: usize, epoch: LeaderEpoch, name: String) {
        let now = self.wall();
        let proposal = self
            .checks
            .proposals
            .get_mut(&name)
            .expect("it was decided");
        let machine = &mut self.machines[index];
        let Some(node) = machine
            .node
            .as_mut()
            .filter(|_| machine.starts == proposal.by.1)
        else {
            return;
        };
        let record: MetadataRecord = TopicRecord {
            topic_id: Uuid::from_parts(1, self.decided),
            name,
            ..TopicRecord::default()
        }
        .into();
        if let Ok(end) = node.propose(epoch, &[record], MetadataVersion::LATEST, now) {
            proposal.end = Some(end);
        }
        self.ready(index);
    }

    fn begin_snapshot(&mut self, index: usize) {
        let now = self.wall();
        let machine = &mut self.machines[index];
        let Some(node) = machine.node.as_mut().filter(|_| machine.writing.is_none()) else {
            return;
        };
        match node.begin_snapshot(&machine.loader, now) {
            Ok(job) => {
                machine.writing = job;
                let delay = self.random.below(50_000);
                self.after(delay, Happening::WriteSnapshot(index));
            }
            Err(error) => self.fail(index, &error),
        }
    }

    fn write_snapshot(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some(job) = machine.writing.take() else {
            return;
        };
        let written = job.write();
        let Some(node) = machine.node.as_mut() else {
            return;
        };
        let Ok(written) = written else {
            if machine.is_full {
                return;
            }
            assert!(machine.files.is_power_off(), "a snapshot cannot be written");
            return self.stop(index, true);
        };
        if let Err(error) = node.adopt_snapshot(written) {
            self.fail(index, &error);
        }
    }

    fn fetch(&mut self, to: usize, from: usize, id: SnapshotId) {
        let is_cut = self.cut.contains(&(from, to)) || self.machines[from].node.is_none();
        let Some(bytes) = self.machines[from].snapshot(id).filter(|_| !is_cut) else {
            // It is announced again.
            return;
        };
        let machine = &mut self.machines[to];
        let Some(node) = &mut machine.node else {
            return;
        };
        if node.end_offset() >= id.end_offset {
            return;
        }
        if machine.store_snapshot(id, &bytes).is_none() {
            return self.stop(to, true);
        }
        let node = self.machines[to].node.as_mut().expect("it runs");
        match node.on_snapshot_fetched(id) {
            Ok(()) => self.ready(to),
            Err(error) => self.fail(to, &error),
        }
    }

    fn fault(&mut self) {
        if !self.has_faults {
            return;
        }
        let count = self.machines.len();
        let index = self.random.index(count);
        let other = self.random.index(count);
        let runs = self.machines[index].node.is_some();
        match self.random.below(8) {
            0 if runs => self.stop(index, false),
            1 if runs => self.stop(index, true),
            // The power goes off in the middle of something.
            2 | 3 if runs => {
                let changes = self.random.below(10);
                self.machines[index].files.cut_power_after(changes);
            }
            // The disk fills up, for a while.
            5 if runs => {
                let room = self.random.below(40_000);
                self.machines[index].limit_space(Some(room));
                let until = self.random.below(3 * SECOND);
                self.after(until, Happening::Room(index));
            }
            4 if self.random.one_in(4) => {
                for index in 0..count {
                    if self.machines[index].node.is_some() {
                        self.stop(index, true);
                    }
                }
            }
            _ if index != other => {
                self.cut.insert((index, other));
                if self.random.one_in(2) {
                    self.cut.insert((other, index));
                }
                let until = self.random.below(4 * SECOND);
                self.after(
                    until,
                    Happening::Mend {
                        from: index,
                        to: other,
                    },
                );
                self.after(
                    until,
                    Happening::Mend {
                        from: other,
                        to: index,
                    },
                );
            }
            _ => {}
        }
        let next = self.random.below(SECOND);
        self.after(next, Happening::Fault);
    }

    /// The end of the log of each machine that runs.
    pub fn ends(&self) -> Vec<Option<Offset>> {
        let ends = self.machines.iter().map(|machine| machine.node.as_ref());
        ends.map(|node| Some(node?.end_offset())).collect()
    }
}
