//! The classic group protocol: join, sync, heartbeat, leave.
//!
//! A [`Group`] is soft state: what a restart may forget. The part that lasts is the `GroupMetadata` record that
//! is written when a generation is stable or empty; [`record`] translates between the two.
//! Transitions run on a `Transition`, which holds one group together with the shard's timers.

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
