//! What a shard asks of its owner.
//!
//! The owner appends the records of a list of actions first, applies them, and lets the replies of that list
//! (and every later one) out once those records are committed: nobody is told what a lost append could take back.

use ottla_protocol::messages::coordinator::group::GroupRecord;

use crate::group::classic::{JoinReply, StaticMemberBefore, SyncReply};
use crate::ticket::Ticket;

/// What should happen because of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Append these records of one group to the partition and apply them. If the partition refuses them (they are too
    /// large), [`crate::Shard::on_append_refused`] is to be told what then becomes of the group.
    Append(Vec<GroupRecord>, IfRefused),
    /// Answer a waiting `JoinGroup`.
    ReplyJoin(Ticket, JoinReply),
    /// Answer a waiting `SyncGroup`.
    ReplySync(Ticket, SyncReply),
    /// Tell whoever reads the broker's log.
    Report(Event),
}

/// What becomes of a group whose record is refused: the replies that depend on it are refused, but nobody loses an id.
#[derive(Debug, Clone, PartialEq)]
pub enum IfRefused {
    /// It stays as it is: it is empty, so nobody can be harmed by an older record.
    Stand,
    /// It was made for this request, and goes.
    Drop,
    /// Its members keep their ids and join again, because nobody has an assignment.
    Rebalance,
    /// A static member that came back under a new id is again who it was.
    Restore(Box<StaticMemberBefore>),
}

/// What a request for offsets comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<R> {
    /// To be appended and applied.
    pub records: Vec<GroupRecord>,
    /// To be sent when the records are committed.
    pub reply: R,
    /// For [`crate::Shard::keep_alive`], once the records are appended.
    pub keep_alive: Option<KeepAlive>,
}

impl<R> Decision<R> {
    /// A reply that changes nothing.
    pub const fn reply(reply: R) -> Self {
        Self {
            records: Vec::new(),
            reply,
            keep_alive: None,
        }
    }
}

/// A member sent a request that counts as a heartbeat: its session restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive {
    pub group: String,
    pub member: String,
}

/// Something that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A rebalance begins.
    RebalanceStarted {
        group: String,
        /// Its generation so far.
        generation: i32,
        reason: String,
    },
    /// The members of a new generation are known.
    GenerationStarted {
        group: String,
        /// The new generation.
        generation: i32,
        /// How many members it has; 0 when the group is now empty.
        members: usize,
    },
    /// Members were dropped because they were not heard of in time.
    MembersExpired {
        group: String,
        /// Their ids.
        members: Vec<String>,
        missed: &'static str,
    },
    /// Nobody rejoined in time; the rebalance goes on waiting.
    NobodyJoined { group: String },
}
