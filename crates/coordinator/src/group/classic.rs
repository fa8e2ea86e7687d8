//! The classic group protocol: join, sync, heartbeat, leave.
//!
//! A [`Group`] is soft state, which a restart loses. Its durable part is the `GroupMetadata` record. The record is written
//! when a group is created, when a generation becomes stable or empty, and when a static member gets another id. [`record`]
//! translates between the two. What an event does to a group is a method of `Transition`, which borrows the group together
//! with the shard's timers.

mod describe;
mod group;
mod heartbeat;
mod join;
mod leave;
mod member;
mod messages;
mod rebalance;
pub mod record;
mod static_member;
mod subscription;
mod sync;
mod transition;

pub use group::{Group, State};
pub use heartbeat::{HeartbeatError, HeartbeatRequest};
pub use leave::{LeaveError, LeaveReply, LeaveRequest, Leaving, Left};
pub use member::{Member, StaticMemberBefore};
pub use messages::{
    IdentityError, JoinError, JoinReply, JoinRequest, Joined, JoinedMember, Protocol, SyncError,
    SyncReply, SyncRequest, Synced,
};
pub(crate) use transition::Transition;

/// The protocol type of groups of Kafka consumers.
pub const CONSUMER_PROTOCOL: &str = "consumer";
