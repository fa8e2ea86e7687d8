//! What a shard asks its owner to do.
//!
//! The owner first appends and applies the records of a list of actions. The replies of that list, and all later ones,
//! leave once those records are committed, so that a lost append takes nothing back that a client was told.

use ottla_protocol::messages::coordinator::group::GroupRecord;

use crate::group::classic::{JoinReply, StaticMemberBefore, SyncReply};
use crate::ticket::Ticket;

/// One consequence of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Append these records of one group to the partition and apply them. If the partition refuses them, for example
    /// because they are too large or its disk is full, call [`crate::Shard::on_append_refused`].
    Append(Vec<GroupRecord>, IfRefused),
    /// Answer a waiting `JoinGroup`.
    ReplyJoin(Ticket, JoinReply),
    /// Answer a waiting `SyncGroup`.
    ReplySync(Ticket, SyncReply),
    /// Log this for the operator.
    Report(Event),
}

/// What to do with a group whose records are refused. The replies that depend on them are refused too, and no member loses
/// its id.
#[derive(Debug, Clone, PartialEq)]
pub enum IfRefused {
    /// Keep it as it is. Its soft state has not changed, or it is empty, so that an older record in the log harms no
    /// member.
    Stand,
    /// Remove it: it was created for this request.
    Drop,
    /// Start a rebalance, because no member has an assignment.
    Rebalance,
    /// Give a static member, which came back under a new id, its old id again.
    Restore(Box<StaticMemberBefore>),
}

/// The outcome of a request about offsets.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<R> {
    /// The records to append and apply.
    pub records: Vec<GroupRecord>,
    /// The reply, which leaves when the records are committed.
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
    /// Members were removed because a request of theirs did not come in time.
    MembersExpired {
        group: String,
        /// Their ids.
        members: Vec<String>,
        /// The API of that request.
        missed: &'static str,
    },
    /// No member rejoined in time; the join phase goes on.
    NobodyJoined { group: String },
}
