//! What a broker has asked its controller, and waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_protocol::ids::NodeId;
use ottla_replication::IsrChange;

use crate::between::{Between, Content};
use crate::messages::Place;
use crate::node::event::ProcessId;
use crate::node::host::Caller;
use crate::outside::Outside;

/// How long a reply is waited for.
const PATIENCE: Duration = Duration::from_millis(900);

/// Whom a reply is for.
#[derive(Debug, Clone, PartialEq)]
pub enum For {
    Lifecycle,
    Broker(Caller),
    Isr(Place, IsrChange),
}

#[derive(Debug)]
pub struct Calls {
    process: ProcessId,
    /// The active controller, as far as it is known.
    controller: Option<NodeId>,
    waiting: BTreeMap<u64, (For, Duration)>,
    numbers: u64,
}

impl Calls {
    pub fn new(process: ProcessId) -> Self {
        Self {
            process,
            controller: None,
            waiting: BTreeMap::new(),
            // A reply to an earlier process of the node is for nobody.
            numbers: process.number << 32,
        }
    }

    /// The active controller is this one, or not known.
    pub fn set_controller(&mut self, active: Option<NodeId>) {
        self.controller = active;
    }

    /// A number for a request of this process.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Asks the active controller. While none is known, the reply does not come.
    pub fn ask(&mut self, what: For, request: ControllerRequest, outside: &mut Outside) {
        let number = self.number();
        self.waiting
            .insert(number, (what, outside.time() + PATIENCE));
        let Some(to) = self.controller else {
            return;
        };
        outside.send_between(&Between {
            from: self.process.node,
            to,
            number,
            content: Content::Ask(Box::new(request)),
        });
    }

    /// Whether something like this waits for its reply.
    pub fn waits_for(&self, is: impl Fn(&For) -> bool) -> bool {
        self.waiting.values().any(|(what, _)| is(what))
    }

    /// The controller has replied; nothing if that is not waited for any more.
    pub fn on_told(
        &mut self,
        number: u64,
        reply: Option<Box<ControllerReply>>,
    ) -> Option<(For, Option<Box<ControllerReply>>)> {
        let (what, _) = self.waiting.remove(&number)?;
        Some((what, reply))
    }

    /// Removes and returns what is not waited for any more.
    pub fn take_expired(&mut self, now: Duration) -> Vec<For> {
        let expired = self.waiting.extract_if(.., |_, (_, until)| *until <= now);
        expired.map(|(_, (what, _))| what).collect()
    }
}
