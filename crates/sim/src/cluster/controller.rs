//! The process of a controller that is no broker: it takes requests of brokers, ends sessions, and gives out the metadata.

use std::time::Duration;

use ottla_controller::{ControllerReply, ControllerRequest, Heartbeats};
use ottla_log::files::simulated::Simulated;
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::MonotonicTime;
use ottla_quorum::{Fetched, LogView, SnapshotUnreadable, Wanted};

use crate::between::{Between, Content, Metadata};
use crate::node::controller::{Controller, Outcome};
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::failed::Failed;
use crate::node::host::Caller;
use crate::node::start::{StartFailed, open_controller};
use crate::outside::Outside;

/// `broker.session.timeout.ms`, shorter than Kafka's so that a world sees many end.
const SESSION: Duration = Duration::from_millis(1_500);
/// Bytes of metadata that are given out at once.
const FETCH_BYTES: usize = 4096;

#[derive(Debug)]
pub struct ControllerProcess {
    pub id: ProcessId,
    controller: Controller,
    heartbeats: Heartbeats,
    view: LogView<Simulated>,
    /// When it looks at the sessions next.
    looks_at: Option<MonotonicTime>,
}

impl ControllerProcess {
    pub fn start(
        id: ProcessId,
        disk: &Simulated,
        outside: &mut Outside,
    ) -> Result<Self, StartFailed> {
        let (controller, image) = open_controller(id, disk, outside)?;
        let mut process = Self {
            id,
            heartbeats: Heartbeats::new(&image, SESSION, outside.now().monotonic),
            view: controller.log().view(),
            controller,
            looks_at: None,
        };
        process.look_again(outside);
        Ok(process)
    }

    /// The committed metadata.
    pub fn image(&self) -> &MetadataImage {
        self.controller.image()
    }

    pub fn on_event(&mut self, event: NodeEvent, outside: &mut Outside) -> Result<(), Failed> {
        match event {
            NodeEvent::Controller => self.run(outside),
            NodeEvent::WriteSnapshot => {
                let written = self.controller.write_snapshot(outside);
                self.view = self.controller.log().view_after(&self.view);
                written
            }
            NodeEvent::Sessions => {
                self.end_session(outside);
                Ok(())
            }
            event => panic!("{event:?} comes to a controller"),
        }
    }

    fn run(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        let outcome = self.controller.run(outside)?;
        self.view = self.controller.log().view_after(&self.view);
        match outcome {
            Outcome::Committed(committed) => {
                let replies = committed
                    .into_iter()
                    .flat_map(|published| published.replies);
                for (caller, reply) in replies {
                    self.on_decided(caller, reply, outside);
                }
            }
            Outcome::Refused(callers) => {
                for caller in callers {
                    self.tell(caller, None, outside);
                }
            }
        }
        self.look_again(outside);
        Ok(())
    }

    fn on_decided(&mut self, caller: Caller, reply: ControllerReply, outside: &mut Outside) {
        if let (ControllerReply::BrokerHeartbeat(Ok(health)), Caller::Remote(broker, _)) =
            (&reply, caller)
            && let Some(registered) = self.controller.image().brokers.get(&broker)
        {
            self.heartbeats
                .on_decided((broker, registered.epoch), health);
        }
        self.tell(caller, Some(reply), outside);
    }

    fn tell(&self, caller: Caller, reply: Option<ControllerReply>, outside: &mut Outside) {
        if let Caller::Remote(to, number) = caller {
            outside.send_between(&Between {
                from: self.id.node,
                to,
                number,
                content: Content::Told(reply.map(Box::new)),
            });
        }
    }

    /// A broker asks something.
    pub fn on_message(&mut self, message: Between, outside: &mut Outside) {
        let Between {
            from,
            number,
            content,
            ..
        } = message;
        match content {
            Content::Ask(request) => self.ask((from, number), *request, outside),
            Content::FetchMetadata(wanted) => {
                let metadata = self.read(wanted);
                outside.send_between(&Between {
                    from: self.id.node,
                    to: from,
                    number,
                    content: Content::Metadata(metadata),
                });
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
        let (image, now) = (self.controller.image(), outside.now().monotonic);
        match &mut request {
            ControllerRequest::RegisterBroker(register) => {
                register.0.is_alive = self.heartbeats.is_alive(image, from, now);
            }
            ControllerRequest::BrokerHeartbeat(heartbeat) => {
                let heartbeat = &mut heartbeat.0;
                self.heartbeats.on_heartbeat(image, heartbeat, now);
                heartbeat.shutdown = self.heartbeats.shutdown(image, from);
            }
            _ => {}
        }
        let caller = Caller::Remote(from, number);
        self.controller.ask(caller, request, outside);
        self.look_again(outside);
    }

    fn read(&self, wanted: Wanted) -> Metadata {
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
        if let Some(fence) = self.heartbeats.on_tick(outside.now().monotonic) {
            outside.note("session is over", [fence.broker.0.into(), fence.epoch, 0]);
            self.controller.ask(Caller::Fencing, fence.into(), outside);
        }
        self.look_again(outside);
    }

    /// Looks at the sessions when the next may be over.
    fn look_again(&mut self, outside: &mut Outside) {
        let Some(next) = self.heartbeats.next_tick() else {
            return;
        };
        let now = outside.now().monotonic;
        if self.looks_at.is_some_and(|looks| looks <= next.max(now)) {
            return;
        }
        self.looks_at = Some(next.max(now));
        outside.later(self.id, next.remaining(now), NodeEvent::Sessions);
    }
}
