//! The driver of the controller: hands requests over, and proposes records to a quorum of one.

use std::collections::VecDeque;

use ottla_controller::active::Published;
use ottla_controller::{ControllerRequest, Member, Quorum, QuorumEvent};
use ottla_log::files::simulated::Simulated;
use ottla_metadata::{Loader, MetadataVersion};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{
    MetadataLog, NotCommitted, ProposeError, SnapshotJob, SnapshotSchedule, WriteError,
};

use super::event::{NodeEvent, ProcessId};
use super::failed::Failed;
use super::host::Caller;
use crate::outside::Outside;

/// The metadata log, as the controller writes it.
#[derive(Debug)]
pub struct CommittedLog {
    pub log: MetadataLog<Simulated>,
    pub snapshots: SnapshotSchedule,
    /// A snapshot that is due, and not written yet.
    pub writing: Option<SnapshotJob<Simulated>>,
    pub now: Timestamp,
    /// What the controller has not been told yet.
    pub events: Vec<QuorumEvent>,
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
        version: MetadataVersion,
    ) -> Result<(), NotCommitted> {
        let end = self.log.propose(records, version, self.now)?;
        let records = records.to_vec();
        self.events.push(QuorumEvent::Committed { end, records });
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, NotCommitted> {
        Ok(std::mem::take(&mut self.events))
    }

    fn on_applied(&mut self, loader: &Loader) -> Result<(), NotCommitted> {
        if self.writing.is_none() {
            let image = loader.image();
            self.writing = self
                .snapshots
                .begin_if_due(&mut self.log, image, self.now)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct Controller {
    process: ProcessId,
    member: Member<Caller>,
    log: CommittedLog,
    has_ended: bool,
    requests: VecDeque<(Caller, ControllerRequest)>,
}

/// The outcome of a turn.
#[derive(Debug)]
pub enum Outcome {
    Committed(Vec<Published<Caller>>),
    /// These may ask again.
    Refused(Vec<Caller>),
}

impl Controller {
    pub fn new(process: ProcessId, member: Member<Caller>, log: CommittedLog) -> Self {
        Self {
            process,
            member,
            log,
            has_ended: false,
            requests: VecDeque::new(),
        }
    }

    /// Takes a request; its reply comes once the records are committed and published.
    pub fn ask(&mut self, caller: Caller, request: ControllerRequest, outside: &mut Outside) {
        self.requests.push_back((caller, request));
        let delay = outside.between(10, 200);
        outside.later(self.process, delay, NodeEvent::Controller);
    }

    pub fn run(&mut self, outside: &mut Outside) -> Result<Outcome, Failed> {
        if self.has_ended || self.requests.is_empty() {
            return Ok(Outcome::Committed(Vec::new()));
        }
        self.log.now = outside.now().wall;
        let requests = &mut self.requests;
        let waiting = std::iter::from_fn(|| requests.pop_front());
        let turn = self.member.turn(waiting, &mut self.log);
        if !self.requests.is_empty() {
            let delay = outside.between(10, 200);
            outside.later(self.process, delay, NodeEvent::Controller);
        }
        if self.log.writing.is_some() {
            let delay = outside.between(1_000, 50_000);
            outside.later(self.process, delay, NodeEvent::WriteSnapshot);
        }
        let turn = turn.map_err(|error| {
            self.has_ended = true;
            Failed::Metadata(error.to_string())
        })?;
        let Some(error) = turn.refused else {
            return Ok(Outcome::Committed(turn.published));
        };
        outside.note("metadata was not changed", [0; 3]);
        let is_full = matches!(error, NotCommitted::Propose(ProposeError::Full(_)));
        assert!(is_full, "a proposal was refused: {error}");
        Ok(Outcome::Refused(turn.unanswered))
    }

    /// Writes a snapshot that was due, and has the log begin with it.
    pub fn write_snapshot(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        let log = &mut self.log;
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
}
