//! The process of a controller that is no broker: one of several in a quorum, or a quorum of one.
//!
//! It takes requests of brokers, ends sessions, and gives out the metadata. It replaces the threads of the broker's
//! `drivers/raft_quorum.rs`, and decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ottla_controller::request::FenceBroker;
use ottla_controller::{ControllerReply, ControllerRequest, Heartbeats, Member, QuorumEvent};
use ottla_log::files::simulated::Simulated;
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::time::MonotonicTime;
use ottla_quorum::{
    Arrived, Fetched, LogView, Outgoing, QuorumStatus, SnapshotJob, SnapshotUnreadable, Wanted,
};

use super::download::{Download, Progress};
use super::watched_log::WatchedLog;
use crate::between::{Between, Content, Metadata, MetadataAnswer};
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::failed::Failed;
use crate::node::host::Caller;
use crate::node::start::{StartFailed, open_member};
use crate::outside::Outside;

/// `broker.session.timeout.ms`, shorter than Kafka's so that a world sees many end.
const SESSION: Duration = Duration::from_millis(1_500);
/// Bytes of metadata that are given out at once.
const FETCH_BYTES: usize = 4096;
/// Between two ticks of Raft's clock, in microseconds. Each process has a pace of its own.
const TICK: (u64, u64) = (35_000, 65_000);

#[derive(Debug)]
pub struct ControllerProcess {
    pub id: ProcessId,
    member: Member<Caller>,
    quorum: WatchedLog,
    disk: Simulated,
    requests: VecDeque<(Caller, ControllerRequest)>,
    arrived: Vec<Arrived>,
    /// When its next turn is.
    turns_at: Option<Duration>,
    /// The disk of the metadata does not answer before.
    stalled_until: Duration,
    tick: Duration,
    numbers: u64,
    download: Option<Download>,
    /// A snapshot that is being written.
    writing: Option<SnapshotJob<Simulated>>,
    /// What others see.
    view: LogView<Simulated>,
    status: QuorumStatus,
    /// While it leads.
    heartbeats: Option<Heartbeats>,
    /// The heartbeats that are not answered yet: the brokers and their epochs.
    beating: BTreeMap<(NodeId, u64), i64>,
    /// When it looks at the sessions next.
    looks_at: Option<MonotonicTime>,
}

impl ControllerProcess {
    pub fn start(
        id: ProcessId,
        controllers: &[NodeId],
        disk: &Simulated,
        outside: &mut Outside,
    ) -> Result<Self, StartFailed> {
        let (member, log) = open_member(id, controllers, disk, outside)?;
        let process = Self {
            id,
            member,
            disk: disk.clone(),
            requests: VecDeque::new(),
            arrived: Vec::new(),
            turns_at: None,
            stalled_until: Duration::ZERO,
            tick: outside.between(TICK.0, TICK.1),
            numbers: id.number << 32,
            download: None,
            writing: None,
            view: log.node().view(),
            status: log.node().status(),
            quorum: WatchedLog {
                log,
                seen: Vec::new(),
            },
            heartbeats: None,
            beating: BTreeMap::new(),
            looks_at: None,
        };
        outside.later(id, process.tick, NodeEvent::QuorumTick);
        Ok(process)
    }

    /// The metadata that is committed as far as it knows, and where it ends.
    pub fn committed(&self) -> (&MetadataImage, Offset) {
        (self.member.image(), self.view.high_watermark())
    }

    pub fn status(&self) -> &QuorumStatus {
        &self.status
    }

    /// What has happened in it since the last call.
    pub fn take_seen(&mut self) -> Vec<QuorumEvent> {
        std::mem::take(&mut self.quorum.seen)
    }

    /// Lets the disk of the metadata not answer for a while.
    pub fn stall(&mut self, until: Duration) {
        self.stalled_until = until;
    }

    pub fn on_event(&mut self, event: NodeEvent, outside: &mut Outside) -> Result<(), Failed> {
        match event {
            NodeEvent::QuorumTick => {
                let random = outside.random.next();
                // The thread that waits for its disk does not count the time.
                if self.stalled_until <= outside.time() {
                    self.quorum.log.on_tick(random);
                }
                let download = &mut self.download;
                download.take_if(|download| download.has_waited_too_long(outside));
                outside.later(self.id, self.tick, NodeEvent::QuorumTick);
                self.turn_soon(outside);
            }
            NodeEvent::Controller => return self.turn(outside),
            NodeEvent::WriteSnapshot => {
                if let Some(job) = self.writing.take() {
                    let written = job.write();
                    self.arrives(Arrived::SnapshotWritten(written), outside);
                }
            }
            NodeEvent::ControllerEnded(node) => self.arrives(Arrived::ProcessEnded(node), outside),
            NodeEvent::Sessions => self.end_session(outside),
            event => panic!("{event:?} comes to a controller"),
        }
        Ok(())
    }

    fn arrives(&mut self, arrived: Arrived, outside: &mut Outside) {
        self.arrived.push(arrived);
        self.turn_soon(outside);
    }

    fn turn_soon(&mut self, outside: &mut Outside) {
        let at = outside.time() + outside.between(10, 200);
        if self.turns_at.is_none_or(|turns| turns > at) {
            self.turns_at = Some(at);
            let delay = at.saturating_sub(outside.time());
            outside.later(self.id, delay, NodeEvent::Controller);
        }
    }

    /// Takes in what has arrived, and decides what waits.
    fn turn(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        if self.turns_at.is_none_or(|at| at > outside.time()) {
            return Ok(());
        }
        if self.stalled_until > outside.time() {
            self.turns_at = Some(self.stalled_until);
            let delay = self.stalled_until.saturating_sub(outside.time());
            outside.later(self.id, delay, NodeEvent::Controller);
            return Ok(());
        }
        self.turns_at = None;
        let log = &mut self.quorum.log;
        log.set_time(outside.now().wall);
        for arrived in std::mem::take(&mut self.arrived) {
            log.on_arrived(arrived)
                .map_err(|error| Failed::Metadata(error.to_string()))?;
        }
        let is_free = !self.member.is_proposing();
        let waiting = &mut self.requests;
        let requests = std::iter::from_fn(|| is_free.then(|| waiting.pop_front()).flatten());
        let turn = self.member.turn(requests, &mut self.quorum);
        let turn = turn.map_err(|error| Failed::Metadata(error.to_string()))?;
        if let Some(leads) = turn.leads {
            outside.note("leads", [self.id.node.0.into(), leads.into(), 0]);
            let now = outside.now().monotonic;
            let image = self.member.image();
            self.heartbeats = leads.then(|| Heartbeats::new(image, SESSION, now));
        }
        if turn.refused.is_some() {
            outside.note("metadata was not changed", [0; 3]);
        }
        self.perform(outside);
        let published = turn.published.into_iter();
        for (caller, reply) in published.flat_map(|published| published.replies) {
            self.on_decided(caller, reply, outside);
        }
        for caller in turn.unanswered {
            self.unanswered(caller, outside);
        }
        if !self.requests.is_empty() && !self.member.is_proposing() {
            self.turn_soon(outside);
        }
        self.look_again(outside);
        Ok(())
    }

    /// Performs what the log wants.
    fn perform(&mut self, outside: &mut Outside) {
        let Outgoing {
            messages, needed, ..
        } = self.quorum.log.take_outgoing();
        for envelope in messages {
            outside.send_between(&Between {
                from: self.id.node,
                to: envelope.to.node_id,
                number: 0,
                content: Content::Raft(envelope.bytes),
            });
        }
        let node = self.quorum.log.node();
        self.view = node.view_after(&self.view);
        self.status = node.status();
        if let Some(needed) = needed.filter(|_| self.download.is_none()) {
            outside.note("needs a snapshot", [needed.id.end_offset.0, 0, 0]);
            let epoch = self.status.epoch;
            if let Some(download) = Download::begin(self.id, &self.disk, needed, epoch) {
                let number = self.number();
                let progress = download.go_on(number, outside);
                self.downloads(progress, outside);
            }
        }
        if let Some(job) = self.quorum.log.take_due_snapshot() {
            self.writing = Some(job);
            let delay = outside.between(1_000, 50_000);
            outside.later(self.id, delay, NodeEvent::WriteSnapshot);
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn downloads(&mut self, progress: Progress, outside: &mut Outside) {
        match progress {
            Progress::GoesOn(download) => self.download = Some(download),
            Progress::Done(id) => self.arrives(Arrived::SnapshotFetched(id), outside),
            Progress::Ended => {}
        }
    }

    fn on_decided(&mut self, caller: Caller, reply: ControllerReply, outside: &mut Outside) {
        if let (ControllerReply::BrokerHeartbeat(Ok(health)), Caller::Remote(broker, _)) =
            (&reply, caller)
            && let Some(registered) = self.member.image().brokers.get(&broker)
            && let Some(heartbeats) = &mut self.heartbeats
        {
            heartbeats.on_decided((broker, registered.epoch), health);
        }
        self.tell(caller, Some(reply), outside);
    }

    /// Nobody knows what became of a request.
    fn unanswered(&mut self, caller: Caller, outside: &mut Outside) {
        if let Caller::Fencing(broker, epoch) = caller
            && let Some(heartbeats) = &mut self.heartbeats
        {
            let fence = FenceBroker { broker, epoch };
            heartbeats.on_not_fenced(&fence, outside.now().monotonic);
        }
        self.tell(caller, None, outside);
    }

    fn tell(&mut self, caller: Caller, reply: Option<ControllerReply>, outside: &mut Outside) {
        if let Caller::Remote(to, number) = caller {
            self.beating.remove(&(to, number));
            outside.send_between(&Between {
                from: self.id.node,
                to,
                number,
                content: Content::Told(reply.map(Box::new)),
            });
        }
    }

    /// Another node asks or tells something.
    pub fn on_message(&mut self, message: Between, outside: &mut Outside) {
        let Between {
            from,
            number,
            content,
            ..
        } = message;
        match content {
            Content::Ask(request) => self.ask((from, number), *request, outside),
            Content::FetchMetadata(wanted, epoch) => {
                let answer = MetadataAnswer {
                    leader: self.status.leader,
                    epoch: self.status.epoch,
                    content: self.read(wanted, epoch),
                };
                outside.send_between(&Between {
                    from: self.id.node,
                    to: from,
                    number,
                    content: Content::Metadata(answer),
                });
            }
            Content::Raft(bytes) => self.arrives(Arrived::Message(bytes), outside),
            Content::Metadata(answer) => {
                let next = self.number();
                let is_awaited = |download: &mut Download| download.is_answered_by(number);
                if let Some(download) = self.download.take_if(is_awaited) {
                    let progress = download.on_answer(&answer, next, outside);
                    self.downloads(progress, outside);
                }
            }
            content => panic!("a controller is sent {content:?}"),
        }
    }

    fn ask(
        &mut self,
        (from, number): (NodeId, u64),
        mut request: ControllerRequest,
        outside: &mut Outside,
    ) {
        let (image, now) = (self.member.image(), outside.now().monotonic);
        if let Some(heartbeats) = &mut self.heartbeats {
            match &mut request {
                ControllerRequest::RegisterBroker(register) => {
                    register.0.is_alive = heartbeats.is_alive(image, from, now);
                }
                ControllerRequest::BrokerHeartbeat(heartbeat) => {
                    let heartbeat = &mut heartbeat.0;
                    heartbeats.on_heartbeat(image, heartbeat, now);
                    heartbeat.shutdown = heartbeats.shutdown(image, from);
                    self.beating.insert((from, number), heartbeat.epoch);
                }
                _ => {}
            }
        }
        let caller = Caller::Remote(from, number);
        self.requests.push_back((caller, request));
        self.turn_soon(outside);
        self.look_again(outside);
    }

    fn read(&self, wanted: Wanted, known: LeaderEpoch) -> Metadata {
        if !self.status.is_active || known != self.status.epoch {
            return Metadata::Refused;
        }
        match wanted {
            Wanted::Batches(end) => match self.view.fetch(end, FETCH_BYTES) {
                Ok(Fetched::Batches(bytes)) => Metadata::Batches(bytes, self.view.high_watermark()),
                Ok(Fetched::Snapshot(id)) => Metadata::Snapshot(id),
                Ok(Fetched::Diverging(end)) => {
                    panic!("check: observers have committed records only: they diverge at {end:?}")
                }
                Err(_) => Metadata::Unavailable,
            },
            Wanted::Snapshot { id, position } => {
                match self.view.snapshot_piece(id, position, FETCH_BYTES) {
                    Ok(piece) => Metadata::Piece(position, piece),
                    Err(SnapshotUnreadable::NotFound | SnapshotUnreadable::OutOfRange) => {
                        Metadata::SnapshotGone
                    }
                    Err(SnapshotUnreadable::File(_)) => Metadata::Unavailable,
                }
            }
        }
    }

    fn end_session(&mut self, outside: &mut Outside) {
        self.looks_at = None;
        let now = outside.now().monotonic;
        if let Some(heartbeats) = &mut self.heartbeats {
            for ((broker, _), epoch) in &self.beating {
                heartbeats.on_waiting((*broker, *epoch), now);
            }
            if let Some(fence) = heartbeats.on_tick(now) {
                outside.note("session is over", [fence.broker.0.into(), fence.epoch, 0]);
                let caller = Caller::Fencing(fence.broker, fence.epoch);
                self.requests.push_back((caller, fence.into()));
                self.turn_soon(outside);
            }
        }
        self.look_again(outside);
    }

    /// Looks at the sessions when the next may be over.
    fn look_again(&mut self, outside: &mut Outside) {
        let next = self.heartbeats.as_ref().and_then(Heartbeats::next_tick);
        let Some(next) = next else {
            return;
        };
        let now = outside.now().monotonic;
        if self.looks_at.is_some_and(|looks| looks <= next.max(now)) {
            return;
        }
        self.looks_at = Some(next.max(now));
        outside.later(self.id, next.remaining(now), NodeEvent::Sessions);
    }

    /// Ends in an orderly way.
    pub fn stop(self) -> Result<(), Failed> {
        let closed = self.quorum.log.close();
        closed.map_err(|error| Failed::Metadata(error.to_string()))
    }
}
