//! The driver of the controller, in place of the broker's `drivers/controller.rs` and `drivers/raft_quorum.rs`: it hands
//! requests over, and performs what the metadata log wants. The controller is the only voter.

use std::collections::VecDeque;
use std::time::Duration;

use ottla_controller::active::Published;
use ottla_controller::{ControllerRequest, Member};
use ottla_log::files::simulated::Simulated;
use ottla_metadata::MetadataImage;
use ottla_quorum::{Arrived, ControllerLog, ControllerLogError, SnapshotJob, WriteError};

use super::event::{NodeEvent, ProcessId};
use super::failed::Failed;
use super::host::Caller;
use super::start::{StartFailed, failed, open_member};
use crate::outside::Outside;

/// Between two ticks of Raft's clock.
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Controller {
    process: ProcessId,
    member: Member<Caller>,
    log: ControllerLog<Simulated>,
    has_ended: bool,
    requests: VecDeque<(Caller, ControllerRequest)>,
    arrived: Vec<Arrived>,
    /// A snapshot that is due, and not written yet.
    writing: Option<SnapshotJob<Simulated>>,
}

/// The outcome of a turn.
#[derive(Debug, Default)]
pub struct Outcome {
    pub committed: Vec<Published<Caller>>,
    /// These may ask again.
    pub unanswered: Vec<Caller>,
    /// Why a proposal was refused.
    pub refused: Option<ControllerLogError>,
}

impl Controller {
    /// Opens the metadata log, and takes the first turn of the only voter, which leads with it. If the first records of a
    /// new cluster are refused, so is the start.
    pub fn start(
        process: ProcessId,
        disk: &Simulated,
        outside: &mut Outside,
    ) -> Result<Self, StartFailed> {
        let (member, log) = open_member(process, &[process.node], disk, outside)?;
        let mut controller = Self {
            process,
            member,
            log,
            has_ended: false,
            requests: VecDeque::new(),
            arrived: Vec::new(),
            writing: None,
        };
        // What it commits is in the image with which the broker begins.
        let outcome = controller.turn(outside)?;
        match outcome.refused {
            Some(error) if !controller.member.has_begun() => return Err(failed(error)),
            _ => outside.later(process, TICK, NodeEvent::QuorumTick),
        }
        Ok(controller)
    }

    /// The committed metadata.
    pub fn image(&self) -> &MetadataImage {
        self.member.image()
    }

    /// Takes a request; its reply comes once the records are committed and published.
    pub fn ask(&mut self, caller: Caller, request: ControllerRequest, outside: &mut Outside) {
        self.requests.push_back((caller, request));
        self.turn_soon(outside);
    }

    fn turn_soon(&self, outside: &mut Outside) {
        let delay = outside.between(10, 200);
        outside.later(self.process, delay, NodeEvent::Controller);
    }

    /// Raft's clock goes on. What a full disk has not taken is tried again.
    pub fn tick(&mut self, outside: &mut Outside) -> Result<Outcome, Failed> {
        self.log.on_tick(outside.random.next());
        outside.later(self.process, TICK, NodeEvent::QuorumTick);
        self.turn(outside)
    }

    /// Takes in what has arrived, and decides what waits.
    pub fn turn(&mut self, outside: &mut Outside) -> Result<Outcome, Failed> {
        if self.has_ended {
            return Ok(Outcome::default());
        }
        let outcome = self.try_turn(outside).map_err(|error| {
            self.has_ended = true;
            Failed::Metadata(error.to_string())
        })?;
        if !self.requests.is_empty() && !self.member.is_proposing() {
            self.turn_soon(outside);
        }
        if let Some(job) = self.log.take_due_snapshot() {
            self.writing = Some(job);
            let delay = outside.between(1_000, 50_000);
            outside.later(self.process, delay, NodeEvent::WriteSnapshot);
        }
        Ok(outcome)
    }

    fn try_turn(&mut self, outside: &Outside) -> Result<Outcome, ControllerLogError> {
        self.log.set_time(outside.now().wall);
        for arrived in self.arrived.drain(..) {
            self.log.on_arrived(arrived)?;
        }
        let is_free = !self.member.is_proposing();
        let requests = &mut self.requests;
        let waiting = std::iter::from_fn(|| is_free.then(|| requests.pop_front()).flatten());
        let turn = self.member.turn(waiting, &mut self.log)?;
        let outgoing = self.log.take_outgoing();
        assert!(outgoing.messages.is_empty(), "there is one controller");
        Ok(Outcome {
            committed: turn.published,
            unanswered: turn.unanswered,
            refused: turn.refused,
        })
    }

    /// Writes a snapshot that was due.
    pub fn write_snapshot(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        let Some(job) = self.writing.take() else {
            return Ok(());
        };
        match job.write() {
            Ok(written) => {
                outside.note("snapshot", [written.id().end_offset.0, 0, 0]);
                self.arrived.push(Arrived::SnapshotWritten(Ok(written)));
                self.turn_soon(outside);
                Ok(())
            }
            Err(WriteError::File(error)) => {
                // The next one may be written.
                self.log.on_snapshot_dropped();
                Err(error.into())
            }
            Err(error) => panic!("a snapshot cannot be written: {error}"),
        }
    }

    /// Ends in an orderly way.
    pub fn stop(self) -> Result<(), Failed> {
        if self.has_ended {
            return Ok(());
        }
        let closed = self.log.close();
        closed.map_err(|error| Failed::Metadata(error.to_string()))
    }
}
