//! The driver of the controller: hands requests over, and proposes records to a quorum of one.

use std::collections::VecDeque;

use ottla_controller::request::AllocateProducerIds;
use ottla_controller::{Active, ControllerReply, ControllerRequest, Quorum, QuorumEvent, Turn};
use ottla_log::files::simulated::Simulated;
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{
    MetadataLog, NotCommitted, ProposeError, SnapshotJob, SnapshotSchedule, WriteError,
};

use super::{Failed, NodeEvent, Process};
use crate::messages::{Reply, ReplyTo};
use crate::outside::Outside;

/// Who is told a reply of the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Client(ReplyTo),
    /// The node itself, which is registered.
    Registration,
    Unfencing,
    /// Those that wait for a producer id.
    ProducerIds,
}

/// The metadata log, as the controller writes it.
#[derive(Debug)]
pub struct CommittedLog {
    pub log: MetadataLog<Simulated>,
    pub snapshots: SnapshotSchedule,
    /// A snapshot that is due, and not written yet.
    pub writing: Option<SnapshotJob<Simulated>>,
    pub now: Timestamp,
}

impl Quorum for CommittedLog {
    type Error = NotCommitted;

    fn is_final(error: &NotCommitted) -> bool {
        error.is_final()
    }

    fn next_offset(&self) -> Offset {
        self.log.end_offset()
    }

    fn propose(
        &mut self,
        records: &[MetadataRecord],
        image: &MetadataImage,
    ) -> Result<Vec<QuorumEvent>, NotCommitted> {
        let version = image.metadata_version();
        self.log.propose(records, version, self.now)?;
        if self.writing.is_none() {
            self.writing = self
                .snapshots
                .begin_if_due(&mut self.log, image, self.now)?;
        }
        Ok(vec![QuorumEvent::Committed(self.log.end_offset())])
    }
}

#[derive(Debug)]
pub struct ControllerDriver {
    pub active: Active<Caller>,
    pub log: CommittedLog,
    pub has_ended: bool,
    requests: VecDeque<(Caller, ControllerRequest)>,
    ids: ProducerIds,
}

/// The block of producer ids in use, and the clients that wait for the next.
#[derive(Debug, Default)]
struct ProducerIds {
    block: std::ops::Range<i64>,
    waiting: Vec<ReplyTo>,
}

impl ControllerDriver {
    pub fn new(active: Active<Caller>, log: CommittedLog) -> Self {
        Self {
            active,
            log,
            has_ended: false,
            requests: VecDeque::new(),
            ids: ProducerIds::default(),
        }
    }
}

impl Process {
    /// Asks the controller; its reply comes once the records are committed and published.
    pub(super) fn ask(
        &mut self,
        caller: Caller,
        request: ControllerRequest,
        outside: &mut Outside,
    ) {
        self.controller.requests.push_back((caller, request));
        let delay = outside.between(10, 200);
        self.later(delay, NodeEvent::Controller, outside);
    }

    pub(super) fn run_controller(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        let controller = &mut self.controller;
        if controller.has_ended || controller.requests.is_empty() {
            return Ok(());
        }
        controller.log.now = outside.now().wall;
        let requests = &mut controller.requests;
        let waiting = std::iter::from_fn(|| requests.pop_front());
        let turn = controller.active.turn(waiting, &mut controller.log);
        let is_left = !controller.requests.is_empty();
        if is_left {
            self.later(outside.between(10, 200), NodeEvent::Controller, outside);
        }
        if self.controller.log.writing.is_some() {
            let delay = outside.between(1_000, 50_000);
            self.later(delay, NodeEvent::WriteSnapshot, outside);
        }
        match turn {
            Turn::Committed(committed) => {
                for published in committed {
                    self.follower.committed.push_back(published);
                }
                let delay = outside.between(50, 5_000);
                self.later(delay, NodeEvent::Follow, outside);
                Ok(())
            }
            Turn::Refused { error, callers } => {
                for caller in callers {
                    self.refuse(caller, outside);
                }
                outside.note("metadata was not changed", [0; 3]);
                let is_full = matches!(error, NotCommitted::Propose(ProposeError::Full(_)));
                assert!(is_full, "a proposal was refused: {error}");
                Ok(())
            }
            Turn::Ended(error) => {
                self.controller.has_ended = true;
                Err(Failed::Metadata(error.to_string()))
            }
        }
    }

    fn refuse(&mut self, caller: Caller, outside: &mut Outside) {
        let code = ErrorCode::NotController;
        match caller {
            Caller::Client(to) => outside.reply(to, Reply::Controller(Err(code))),
            Caller::ProducerIds => {
                for to in std::mem::take(&mut self.controller.ids.waiting) {
                    outside.reply(to, Reply::ProducerId(Err(code)));
                }
            }
            // The operator starts it again.
            Caller::Registration | Caller::Unfencing => self.has_failed = true,
        }
    }

    /// Writes a snapshot that was due, and has the log begin with it.
    pub(super) fn write_snapshot(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        let log = &mut self.controller.log;
        let Some(job) = log.writing.take() else {
            return Ok(());
        };
        match job.write() {
            Ok(written) => log.log.adopt_snapshot(written)?,
            // The next one may be written.
            Err(WriteError::File(error)) => return Err(error.into()),
            Err(error) => panic!("a snapshot cannot be written: {error}"),
        }
        outside.note("snapshot", [log.log.end_offset().0, 0, 0]);
        Ok(())
    }

    /// A reply of the controller may leave.
    pub(super) fn on_reply(
        &mut self,
        caller: Caller,
        reply: ControllerReply,
        outside: &mut Outside,
    ) {
        match (caller, reply) {
            (Caller::Client(to), reply) => outside.reply(to, Reply::Controller(Ok(reply))),
            (Caller::ProducerIds, ControllerReply::AllocateProducerIds(given)) => {
                match given {
                    Ok(given) => {
                        let first = given.first.0;
                        self.controller.ids.block = first..first + i64::from(given.size);
                    }
                    Err(refusal) => panic!("no producer ids: {refusal}"),
                }
                for to in std::mem::take(&mut self.controller.ids.waiting) {
                    self.give_producer_id(to, outside);
                }
            }
            (Caller::Registration, ControllerReply::RegisterBroker(registered)) => {
                let epoch =
                    registered.unwrap_or_else(|refusal| panic!("not registered: {refusal}"));
                self.on_registered(epoch, outside);
            }
            (Caller::Unfencing, ControllerReply::UnfenceBroker(unfenced)) => {
                unfenced.unwrap_or_else(|refusal| panic!("still fenced: {refusal}"));
                self.on_unfenced(outside);
            }
            (caller, reply) => panic!("{caller:?} is told {reply:?}"),
        }
    }

    /// Gives the next producer id of the block, or waits for another block.
    pub(super) fn give_producer_id(&mut self, to: ReplyTo, outside: &mut Outside) {
        if let Some(id) = self.controller.ids.block.next() {
            return outside.reply(to, Reply::ProducerId(Ok(id)));
        }
        self.controller.ids.waiting.push(to);
        if self.controller.ids.waiting.len() == 1 {
            let asked = AllocateProducerIds {
                broker: self.id,
                epoch: self.epoch,
            };
            self.ask(Caller::ProducerIds, asked.into(), outside);
        }
    }
}
