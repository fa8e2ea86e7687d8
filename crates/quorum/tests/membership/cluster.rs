//! A few controllers in one thread, whose messages arrive at once and in order, unless a machine is off.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use ottla_log::files::Files as _;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::time::Timestamp;
use ottla_quorum::{Location, NodeError, QuorumNews, RaftNode, SnapshotId, Survivor, Voter};

use crate::machine::{CLUSTER, Machine, log_directory, voters};

/// What the machine would go on with alone.
pub fn survey(machine: &Machine, id: (NodeId, Uuid)) -> Result<Survivor, NodeError> {
    let directory = log_directory();
    RaftNode::survey(machine.files.clone(), location(&directory), id)
}

/// Makes the machine the only voter.
pub fn recover(machine: &Machine, survivor: &Survivor) -> Result<(LeaderEpoch, Offset), NodeError> {
    let directory = log_directory();
    RaftNode::recover(&machine.files, location(&directory), survivor, Timestamp(5))
}

fn location(directory: &Path) -> Location<'_> {
    Location {
        directory,
        cluster_id: CLUSTER,
    }
}

pub struct Cluster {
    pub machines: Vec<Machine>,
    first: Vec<Voter>,
    /// Machines that hear nothing, and of which nothing is heard.
    pub unreachable: Vec<usize>,
    sent: VecDeque<(usize, Voter, Bytes)>,
    fetches: Vec<(usize, SnapshotId)>,
    pub now: i64,
}

impl Cluster {
    /// `first` voters, and `joined` machines that have joined without a vote.
    pub fn new(first: usize, joined: usize) -> Self {
        let all = voters(first + joined);
        let machine = |index: usize| {
            let of = if index < first { &all[..first] } else { &[] };
            Machine::formatted(index, &all[index], of, 0)
        };
        let mut cluster = Self {
            machines: (0..first + joined).map(machine).collect(),
            first: all[..first].to_vec(),
            unreachable: Vec::new(),
            sent: VecDeque::new(),
            fetches: Vec::new(),
            now: 1_000,
        };
        for index in 0..first + joined {
            cluster.start(index);
        }
        cluster
    }

    /// Voters that the configuration names.
    pub fn of_configured(count: usize) -> Self {
        let mut all = voters(count);
        for voter in &mut all {
            voter.directory_id = Uuid::ZERO;
        }
        let machines = all.iter().enumerate();
        let machines = machines.map(|(index, voter)| Machine::formatted(index, voter, &[], 0));
        let mut cluster = Self {
            machines: machines.collect(),
            first: all.clone(),
            unreachable: Vec::new(),
            sent: VecDeque::new(),
            fetches: Vec::new(),
            now: 1_000,
        };
        for index in 0..count {
            cluster.start(index);
        }
        cluster
    }

    pub fn start(&mut self, index: usize) {
        let first = self.first.clone();
        self.machines[index].start(&first).expect("it can start");
    }

    pub fn stop(&mut self, index: usize, power_cut: Option<u64>) {
        self.machines[index].stop(power_cut);
    }

    /// The machine comes back with an empty disk, and joins under this directory id.
    pub fn replace_disk(&mut self, index: usize, directory_id: Uuid) {
        let voter = Voter {
            directory_id,
            ..self.machines[index].voter.clone()
        };
        self.machines[index] = Machine::formatted(index, &voter, &[], 0);
        self.start(index);
    }

    /// The active controller.
    pub fn leader(&self) -> Option<usize> {
        let leads = |index: &usize| {
            let node = self.machines[*index].node.as_ref();
            node.is_some_and(|node| node.led_epoch().is_some()) && !self.unreachable.contains(index)
        };
        (0..self.machines.len()).find(leads)
    }

    /// Time goes on for `ticks`, of 100 ms each.
    pub fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now += 100;
            for index in 0..self.machines.len() {
                if let Some(node) = &mut self.machines[index].node {
                    node.on_tick(3 * index as u64);
                    node.settle_others(Timestamp(self.now));
                }
                self.ready(index);
            }
            self.deliver();
        }
    }

    /// Runs until there is an active controller.
    pub fn elect(&mut self) -> usize {
        for _ in 0..20 {
            self.run(10);
            if let Some(leader) = self.leader() {
                self.run(10);
                return leader;
            }
        }
        panic!("nobody is elected");
    }

    /// Everybody tells everybody who it is.
    pub fn greet(&mut self) {
        for from in 0..self.machines.len() {
            let voter = self.machines[from].voter.clone();
            for to in (0..self.machines.len()).filter(|to| *to != from) {
                if self.is_on(from)
                    && self.is_on(to)
                    && let Some(node) = &mut self.machines[to].node
                {
                    node.on_hello(voter.clone());
                }
            }
        }
    }

    fn is_on(&self, index: usize) -> bool {
        self.machines[index].node.is_some() && !self.unreachable.contains(&index)
    }

    pub fn deliver(&mut self) {
        while let Some((from, to, bytes)) = self.sent.pop_front() {
            let mut machines = self.machines.iter();
            let Some(index) = machines.position(|machine| machine.voter == to) else {
                continue;
            };
            if !self.is_on(index) || self.unreachable.contains(&from) {
                continue;
            }
            let sender = self.machines[from].voter.clone();
            let node = self.machines[index].node.as_mut().expect("it is on");
            node.on_hello(sender);
            node.on_message(bytes).expect("a peer sends what it may");
            self.ready(index);
        }
    }

    pub fn ready(&mut self, index: usize) {
        let now = Timestamp(self.now);
        let Some(node) = &mut self.machines[index].node else {
            return;
        };
        match node.ready(now) {
            Ok(effects) => {
                let messages = effects.messages.into_iter();
                self.sent
                    .extend(messages.map(|envelope| (index, envelope.to, envelope.bytes)));
                for news in effects.news {
                    self.hear(index, news);
                }
            }
            Err(error) => self.fail(index, &error),
        }
        self.write_snapshot(index);
        for (to, id) in std::mem::take(&mut self.fetches) {
            self.fetch(to, id);
        }
    }

    /// Writes a snapshot that is due.
    fn write_snapshot(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let due = machine.node.as_mut().filter(|node| node.is_snapshot_due());
        if let Some(node) = due {
            let begun = node.begin_snapshot(&machine.loader, Timestamp(self.now));
            let job = begun.expect("the disk is sound").expect("none is there");
            let written = job.write().expect("the disk is sound");
            node.adopt_snapshot(written).expect("the disk is sound");
        }
    }

    fn fail(&mut self, index: usize, error: &NodeError) {
        let is_off = self.machines[index].files.is_power_off();
        assert!(is_off, "machine {index} fails by itself: {error}");
        self.stop(index, Some(7));
    }

    fn hear(&mut self, index: usize, news: QuorumNews) {
        match news {
            QuorumNews::Committed { records, .. } => {
                self.machines[index].loader.load(&records);
            }
            QuorumNews::SnapshotNeeded { id, .. } => self.fetches.push((index, id)),
            QuorumNews::Restored { image, .. } => {
                self.machines[index].loader = ottla_metadata::Loader::new(*image);
            }
            _ => {}
        }
    }

    fn fetch(&mut self, to: usize, id: SnapshotId) {
        let bytes = self.machines.iter().find_map(|one| one.snapshot(id));
        let bytes = bytes.expect("its leader has the snapshot");
        self.machines[to].store_snapshot(id, &bytes);
        let node = self.machines[to].node.as_mut().expect("it runs");
        node.on_snapshot_fetched(id).expect("the snapshot is whole");
        self.ready(to);
    }

    /// Leaves a machine that is down what Kafka would have on its disk.
    pub fn forget_raft(&self, index: usize) {
        let path = log_directory().join("raft-log");
        let removed = self.machines[index].files.remove(&path);
        removed.expect("it is there");
    }

    /// Where the log of a machine ends.
    pub fn end(&self, index: usize) -> Offset {
        let node = self.machines[index].node.as_ref().expect("it runs");
        node.end_offset()
    }

    /// The node ids of the voters, as this machine knows them.
    pub fn voters_of(&self, index: usize) -> Vec<i32> {
        let node = self.machines[index].node.as_ref().expect("it runs");
        let mut ids: Vec<i32> = node.voters().iter().map(|one| one.node_id.0).collect();
        ids.sort_unstable();
        ids
    }
}
