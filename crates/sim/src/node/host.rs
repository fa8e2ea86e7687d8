//! How the partitions of a simulated node reach those that wait: by mail, which the process reads after each event.

use std::sync::{Arc, Mutex, PoisonError};

use ottla_log::files::simulated::Simulated;
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_replica::{Host, Unavailable};

use crate::messages::ReplyTo;

pub type Partition = ottla_replica::Partition<Simulated, SimulatedHost>;
pub type Directory = ottla_replica::Directory<Simulated, SimulatedHost>;
pub type Found = ottla_replica::node::Found<Simulated, SimulatedHost>;
/// The partitions of a node.
pub type Replicas = ottla_replica::Node<Simulated, SimulatedHost>;

#[derive(Debug)]
pub struct SimulatedHost;

/// Who is told a reply of the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Client(ReplyTo),
    /// The node itself, which is registered.
    Registration,
    Unfencing,
    /// Those that wait for a producer id.
    ProducerIds,
    /// A broker on another node, which gave its request this number.
    Remote(NodeId, u64),
    /// The controller itself, which fences a broker that is registered in this epoch.
    Fencing(NodeId, i64),
}

/// A reader that waits for a change of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waker {
    /// The fetch of a client, by its number.
    Client(u64),
    /// The fetch of a follower.
    Follower(u64),
}

/// One that waits until records are acknowledged.
#[derive(Debug)]
pub enum Waiter {
    /// A client, who is told this offset.
    Producer(ReplyTo, i64),
    Coordinator(CoordinatorAppend),
}

/// An append of a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoordinatorAppend {
    pub index: i32,
    /// The topic's id, and how often the coordinator has read its partition: what was appended before is forgotten.
    pub topic: Uuid,
    pub loads: u64,
    /// The offset behind the last record.
    pub end: i64,
}

#[derive(Debug)]
pub enum Mail {
    Answered(Waiter, Result<(), Unavailable>),
    /// This fetch may have something to read.
    Woken(Waker),
    /// A pass is due earlier than known in the directory of this number.
    PassIsDue(usize),
}

/// Where mail waits to be read.
#[derive(Debug, Clone, Default)]
pub struct Mailbox(Arc<Mutex<Vec<Mail>>>);

impl Mailbox {
    fn put(&self, mail: Mail) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(mail);
    }

    pub fn take(&self) -> Vec<Mail> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting)
    }
}

impl Host for SimulatedHost {
    type Producer = (Mailbox, Waiter);
    type Consumer = (Mailbox, Waker);
    type Flusher = (Mailbox, usize);

    fn answer((mailbox, waiter): Self::Producer, outcome: Result<(), Unavailable>) {
        mailbox.put(Mail::Answered(waiter, outcome));
    }

    fn wake((mailbox, fetch): &Self::Consumer) {
        mailbox.put(Mail::Woken(*fetch));
    }

    fn pass_is_due((mailbox, directory): &Self::Flusher) {
        mailbox.put(Mail::PassIsDue(*directory));
    }
}
