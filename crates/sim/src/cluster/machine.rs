//! A computer with a disk, and the process that runs on it.

use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_protocol::ids::NodeId;

use super::controller::ControllerProcess;
use super::member::Member;
use crate::between::Between;
use crate::faults::Troubles;
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::failed::Failed;
use crate::node::start;
use crate::outside::Outside;

#[derive(Debug)]
pub enum Process {
    Controller(Box<ControllerProcess>),
    Broker(Box<Member>),
}

#[derive(Debug)]
pub struct Machine {
    pub disk: Simulated,
    pub process: Option<Process>,
    pub troubles: Troubles,
    /// How large the disk is, while it is full.
    pub limit: Option<u64>,
    /// Whether its last process has ended in an orderly way.
    pub was_stopped: bool,
    /// When a process that was asked to stop is killed.
    pub stops_by: Option<Duration>,
    /// Its process does not run before.
    pub paused_until: Duration,
}

impl Process {
    pub fn is_unopened(&self) -> bool {
        match self {
            Self::Controller(_) => false,
            Self::Broker(member) => member.broker().is_none(),
        }
    }

    pub fn id(&self) -> ProcessId {
        match self {
            Self::Controller(controller) => controller.id,
            Self::Broker(member) => member.id,
        }
    }

    pub fn on_event(&mut self, event: NodeEvent, outside: &mut Outside) -> Result<(), Failed> {
        match self {
            Self::Controller(controller) => controller.on_event(event, outside),
            Self::Broker(member) => member.on_event(event, outside),
        }
    }

    pub fn on_message(&mut self, message: Between, outside: &mut Outside) -> Result<(), Failed> {
        match self {
            Self::Controller(controller) => {
                controller.on_message(message, outside);
                Ok(())
            }
            Self::Broker(member) => member.on_message(message, outside),
        }
    }

    /// Ends in an orderly way.
    pub fn stop(self, outside: &mut Outside) -> Result<(), Failed> {
        match self {
            Self::Controller(controller) => controller.stop(),
            Self::Broker(mut member) => member.stop(outside),
        }
    }
}

impl Machine {
    /// A machine whose disk was formatted.
    pub fn new(id: NodeId, controllers: &[NodeId], outside: &Outside) -> Self {
        let disk = Simulated::new();
        if controllers.contains(&id) {
            start::format_controller(&disk, id, controllers, outside);
        } else {
            start::format_broker(&disk, id, outside);
        }
        Self {
            disk,
            process: None,
            troubles: Troubles::default(),
            limit: None,
            was_stopped: true,
            stops_by: None,
            paused_until: Duration::ZERO,
        }
    }
}
