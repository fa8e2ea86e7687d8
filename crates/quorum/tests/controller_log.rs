//! The logs of three controllers, driven by hand: what the owner of a [`ControllerLog`] may rely on.

#[path = "quorum/machine.rs"]
#[expect(dead_code, reason = "the simulation of the quorum uses the rest")]
mod machine;

use std::time::Duration;

use ottla_controller::{Quorum, QuorumEvent};
use ottla_log::files::simulated::Simulated;
use ottla_metadata::{Loader, MetadataImage, MetadataVersion, versions};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::{FeatureLevelRecord, MetadataRecord, TopicRecord};
use ottla_protocol::time::Timestamp;
use ottla_quorum::{Arrived, ControllerLog, SnapshotSchedule};

use self::machine::{Machine, voters};

/// Ticks after which a quorum without faults has a leader.
const ELECTED: u64 = 50;

struct Controller {
    log: ControllerLog<Simulated>,
    loader: Loader,
}

/// Three controllers, and messages that are never lost.
struct Three {
    /// By node id, from 1 on; none if it has ended.
    running: [Option<Controller>; 3],
}

impl Three {
    fn new() -> Self {
        let voters = voters(3);
        let running = [0, 1, 2].map(|index| {
            let mut machine = Machine::formatted(index, &voters[index], &voters, 0);
            machine.start(&voters).expect("a new disk can be opened");
            let node = machine.node.take().expect("it has started");
            let snapshots = SnapshotSchedule::new(Some(Duration::from_secs(1)), Timestamp(0));
            Some(Controller {
                log: ControllerLog::new(node, vec![level()], snapshots, Timestamp(0)),
                loader: machine.loader,
            })
        });
        Self { running }
    }

    /// Three controllers, one of which leads.
    fn led() -> (Self, NodeId) {
        let mut three = Self::new();
        let leader = three.until_led(ELECTED).expect("one is elected").0;
        (three, leader)
    }

    fn all(&mut self) -> impl Iterator<Item = (u64, &mut Controller)> {
        let running = (1..).zip(&mut self.running);
        running.filter_map(|(id, one)| Some((id, one.as_mut()?)))
    }

    fn get(&mut self, node: NodeId) -> &mut Option<Controller> {
        &mut self.running[usize::try_from(node.0).expect("an id") - 1]
    }

    fn one(&mut self, node: NodeId) -> &mut Controller {
        self.get(node).as_mut().expect("it runs")
    }

    /// Delivers messages until there are none.
    fn exchange(&mut self) {
        loop {
            let mut messages = Vec::new();
            for (_, Controller { log, loader }) in self.all() {
                for event in log.events().expect("the disk works") {
                    if let QuorumEvent::Committed { records, .. } = event {
                        loader.load(&records);
                    }
                }
                messages.extend(log.take_outgoing().messages);
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                if let Some(to) = self.get(message.to.node_id) {
                    let arrived = Arrived::Message(message.bytes);
                    to.log.on_arrived(arrived).expect("the disk works");
                }
            }
        }
    }

    fn tick(&mut self) {
        for (id, controller) in self.all() {
            controller.log.on_tick(id * 3);
        }
        self.exchange();
    }

    fn leader(&mut self) -> Option<NodeId> {
        let mut statuses = self.all().map(|(_, one)| one.log.node().status());
        let active = statuses.find(|status| status.is_active)?;
        active.leader
    }

    /// Ticks until one leads, at most so often. Returns it, and the ticks.
    fn until_led(&mut self, ticks: u64) -> Option<(NodeId, u64)> {
        (1..=ticks).find_map(|tick| {
            self.tick();
            Some((self.leader()?, tick))
        })
    }

    fn propose(&mut self, leader: NodeId, name: &str) {
        let topic = TopicRecord {
            topic_id: Uuid::from_parts(1, name.len() as u64),
            name: name.to_owned(),
            ..TopicRecord::default()
        };
        let log = &mut self.one(leader).log;
        let proposed = log.propose(&[topic.into()], MetadataVersion::LATEST);
        proposed.expect("it leads");
        self.exchange();
    }
}

fn level() -> MetadataRecord {
    FeatureLevelRecord {
        name: versions::FEATURE.to_owned(),
        feature_level: 30,
        ..FeatureLevelRecord::default()
    }
    .into()
}

#[test]
fn a_leader_whose_process_has_ended_is_replaced_before_its_timeout() {
    let ticks = |has_evidence: bool| {
        let (mut three, leader) = Three::led();
        *three.get(leader) = None;
        for (_, controller) in three.all().filter(|_| has_evidence) {
            let ended = Arrived::ProcessEnded(leader);
            controller.log.on_arrived(ended).expect("the disk works");
        }
        let (next, ticks) = three.until_led(ELECTED).expect("another is elected");
        assert_ne!(next, leader);
        ticks
    };
    assert!(ticks(true) <= 4, "{}", ticks(true));
    assert!(ticks(false) >= 10, "{}", ticks(false));
}

#[test]
fn evidence_against_a_leader_that_lives_for_others_changes_nothing() {
    let (mut three, leader) = Three::led();
    let epoch = three.one(leader).log.node().epoch();
    let other = NodeId(leader.0 % 3 + 1);
    let ended = Arrived::ProcessEnded(leader);
    let log = &mut three.one(other).log;
    log.on_arrived(ended).expect("the disk works");
    for _ in 0..ELECTED {
        three.tick();
    }
    assert_eq!(three.leader(), Some(leader));
    assert_eq!(three.one(leader).log.node().epoch(), epoch);
    assert_eq!(three.one(other).log.node().status().leader, Some(leader));
}

#[test]
fn a_leader_that_resigns_is_followed_by_another_at_once() {
    let (mut three, leader) = Three::led();
    three.one(leader).log.node_mut().resign();
    three.exchange();
    let next = three.leader();
    assert!(next.is_some_and(|next| next != leader), "{next:?}");
}

#[test]
fn one_snapshot_is_written_at_a_time_and_another_is_due_after_it() {
    let (mut three, leader) = Three::led();
    three.propose(leader, "a");
    let due = |controller: &mut Controller, seconds: i64| {
        let Controller { log, loader } = controller;
        log.set_time(Timestamp(seconds * 1_000));
        log.on_applied(loader).expect("the disk works");
        log.take_due_snapshot()
    };
    let controller = three.one(leader);
    assert!(due(controller, 0).is_none(), "it is not old enough");
    let job = due(controller, 2).expect("a snapshot is due");
    assert!(due(controller, 4).is_none(), "one is being written");
    let written = Arrived::SnapshotWritten(job.write());
    let log = &mut controller.log;
    log.on_arrived(written).expect("the disk works");
    three.propose(leader, "bb");
    let controller = three.one(leader);
    assert!(due(controller, 6).is_some());
    controller.log.on_snapshot_dropped();
    assert!(due(controller, 8).is_some(), "the last one was dropped");
}

#[test]
fn the_first_records_are_those_of_a_cluster_without_any() {
    let (mut three, leader) = Three::led();
    let log = &mut three.one(leader).log;
    let mut image = MetadataImage::default();
    assert_eq!(log.first_records(&image), [level()]);
    let mut replayed = Loader::new(image);
    replayed.load(&[level()]);
    image = replayed.image().clone();
    assert_eq!(log.first_records(&image), []);
}
