//! The life of a broker in its cluster: it registers, beats until it is unfenced and on, and asks to shut down.

use ottla_controller::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
use ottla_controller::request::{BrokerHeartbeat, RegisterBroker};
use ottla_controller::{ControllerReply, ControllerRequest, Refusal};
use ottla_metadata::{MetadataImage, versions};
use ottla_protocol::ids::{Offset, Uuid};

use crate::node::event::ProcessId;
use crate::node::start::registration;

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its logs are not open yet.
    Starting,
    Open,
    Stopping,
}

#[derive(Debug)]
pub struct Lifecycle {
    process: ProcessId,
    /// That of its last process, if that ended in an orderly way.
    previous_epoch: i64,
    epoch: Option<i64>,
    pub stage: Stage,
    is_unfenced: bool,
    /// Whether the controller lets it stop.
    may_stop: bool,
    /// Whether another process is registered in its place.
    is_replaced: bool,
}

impl Lifecycle {
    pub fn new(process: ProcessId, previous_epoch: i64) -> Self {
        Self {
            process,
            previous_epoch,
            epoch: None,
            stage: Stage::Starting,
            is_unfenced: false,
            may_stop: false,
            is_replaced: false,
        }
    }

    pub fn epoch(&self) -> Option<i64> {
        self.epoch
    }

    pub fn is_unfenced(&self) -> bool {
        self.is_unfenced
    }

    pub fn may_stop(&self) -> bool {
        self.may_stop
    }

    pub fn is_replaced(&self) -> bool {
        self.is_replaced
    }

    /// What to ask the controller now. `applied` is the last metadata offset that the broker has applied, and
    /// `offline_directories` are those that have failed.
    pub fn request(
        &self,
        image: &MetadataImage,
        applied: Offset,
        offline_directories: Vec<Uuid>,
    ) -> Option<ControllerRequest> {
        let Some(epoch) = self.epoch else {
            // The features to claim are in the metadata.
            let is_known = image.features.contains_key(versions::FEATURE);
            let register = RegisterBroker(registration(self.process, self.previous_epoch, image));
            return is_known.then(|| register.into());
        };
        let heartbeat = Heartbeat {
            broker: self.process.node,
            epoch,
            metadata_offset: applied,
            wish: match self.stage {
                Stage::Starting => Wish::Fence,
                Stage::Open => Wish::Serve,
                Stage::Stopping => Wish::ShutDown,
            },
            offline_directories,
            cordoned_directories: None,
            shutdown: ControlledShutdown::None,
        };
        Some(BrokerHeartbeat(heartbeat).into())
    }

    pub fn on_reply(&mut self, reply: ControllerReply) {
        match reply {
            ControllerReply::RegisterBroker(Ok(epoch)) => self.epoch = Some(epoch),
            // The session of its last process is not over yet.
            ControllerReply::RegisterBroker(Err(Refusal::DuplicateBroker(_))) => {}
            ControllerReply::BrokerHeartbeat(Ok(health)) => {
                self.is_unfenced = !health.is_fenced;
                self.may_stop = health.should_shut_down;
            }
            ControllerReply::BrokerHeartbeat(Err(_)) => self.is_replaced = true,
            reply => panic!("a broker is told {reply:?}"),
        }
    }
}
