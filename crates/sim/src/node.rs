//! A process of a machine that is broker and controller at once, until it is killed.
//!
//! It drives the production code with events, in place of the broker's threads and tasks. It decides nothing. Each
//! file here but `broker`, `event`, `failed` and `host` replaces one driver of the broker, and owns what that driver
//! owns. [`Process`] hands what the broker asks to the controller, and what the controller commits to the broker.

mod broker;
pub mod controller;
mod coordinators;
mod data_requests;
mod directories;
pub mod event;
pub mod failed;
mod follower;
pub mod host;
mod housekeeping;
mod producer_ids;
pub mod start;

use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_protocol::ids::NodeId;
use ottla_quorum::{ControllerLogError, NotProposed};

pub use self::broker::Broker;
use self::controller::{Controller, Outcome};
use self::event::{NodeEvent, ProcessId};
pub use self::failed::Failed;
pub use self::host::{Found, Partition};
pub use self::start::format;
use self::start::{StartFailed, directories, new_replicas, open_replicas};
use crate::faults::Troubles;
use crate::messages::{ReplyTo, Request};
use crate::outside::Outside;

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub id: ProcessId,
    pub broker: Broker,
    controller: Controller,
    /// Whether it cannot go on: its operator starts it again.
    has_failed: bool,
    disk: Simulated,
}

impl Process {
    /// Starts a process on a disk. When this returns the node has its logs open, and joins its cluster.
    pub fn start(
        node: NodeId,
        number: u64,
        disk: &Simulated,
        outside: &mut Outside,
    ) -> Result<Self, StartFailed> {
        let id = ProcessId { node, number };
        let controller = Controller::start(id, disk, outside)?;
        let mailbox = host::Mailbox::default();
        let replicas = new_replicas(node, directories(node, disk, &mailbox));
        let previous_epoch = replicas.previous_epoch().map_err(Failed::from)?;
        let mut broker = Broker::new(id, replicas, controller.image().clone(), mailbox);
        open_replicas(&broker.replicas, &broker.image, outside.now())?;
        broker.register(previous_epoch);
        let mut process = Self {
            id,
            broker,
            controller,
            has_failed: false,
            disk: disk.clone(),
        };
        process.pass_on(outside);
        Ok(process)
    }

    pub fn on_event(&mut self, event: NodeEvent, outside: &mut Outside, troubles: Troubles) {
        let outcome = match event {
            NodeEvent::Controller => {
                let turn = self.controller.turn(outside);
                turn.map(|outcome| self.on_decided(outcome, outside, troubles))
            }
            NodeEvent::QuorumTick => {
                let turn = self.controller.tick(outside);
                turn.map(|outcome| self.on_decided(outcome, outside, troubles))
            }
            NodeEvent::WriteSnapshot => self.controller.write_snapshot(outside),
            event => self.broker.on_event(event, outside),
        };
        self.pass_on(outside);
        if let Err(failed) = outcome {
            self.failed(&failed, outside, troubles);
        }
        self.hear(outside);
    }

    pub fn on_request(&mut self, to: ReplyTo, request: Request, outside: &mut Outside) {
        self.broker.on_request(to, request, outside);
        self.pass_on(outside);
        self.hear(outside);
    }

    /// The controller has had a turn. It refuses what the disk has no room for, and nothing else.
    fn on_decided(&mut self, outcome: Outcome, outside: &mut Outside, troubles: Troubles) {
        if let Some(error) = outcome.refused {
            outside.note("metadata was not changed", [0; 3]);
            let is_full = matches!(error, ControllerLogError::Proposal(NotProposed::Full(_)));
            let has_cause = (is_full && troubles.full) || self.disk.is_power_off();
            assert!(has_cause, "a proposal was refused: {error}");
        }
        if !outcome.committed.is_empty() {
            self.broker.on_committed(outcome.committed, outside);
        }
        for caller in outcome.unanswered {
            self.broker.on_refused(caller, outside);
        }
    }

    /// Asks the controller what the broker wants to know.
    fn pass_on(&mut self, outside: &mut Outside) {
        for (caller, request) in self.broker.take_asked() {
            self.controller.ask(caller, request, outside);
        }
    }

    fn hear(&mut self, outside: &mut Outside) {
        self.broker.hear(outside);
        self.pass_on(outside);
    }

    /// A failure must have a cause; one that takes a directory offline ends the process soon.
    fn failed(&mut self, failed: &Failed, outside: &mut Outside, troubles: Troubles) {
        outside.note("failed", [failed.is_offline().into(), 0, 0]);
        let is_excused = troubles.excuse_failures(&self.disk);
        assert!(is_excused, "a failure without a cause: {failed}");
        self.has_failed |= failed.is_offline();
    }

    /// Lets a directory not answer for a while.
    pub fn stall(&mut self, directory: usize, until: Duration) {
        self.broker.stall(directory, until);
    }

    /// Whether a directory or the metadata log has failed.
    pub fn is_crippled(&self) -> bool {
        self.has_failed || self.broker.is_crippled()
    }

    /// Ends in an orderly way.
    pub fn stop(mut self, outside: &mut Outside) -> Result<(), Failed> {
        let stopped = self.broker.stop(outside);
        stopped.and(self.controller.stop())
    }
}
