//! The Raft library, kept inside this module: no other module of Ottla names it.
//!
//! - [`node`] drives the library, and derives the Kafka log from what is committed.
//! - [`log`] keeps Raft's own log and state in one file.
//! - [`message`] is the encoding of Raft messages between controllers. The library's own codec reads nothing that comes from
//!   a peer or a disk, because the protobuf crate behind it recurses without a bound (RUSTSEC-2024-0437).

#[cfg(test)]
pub(crate) mod fixture;
mod format;
mod log;
mod message;
mod node;
pub(crate) mod payload;

pub use format::Malformed;
pub use log::RaftLogError;
pub use node::{
    Effects, Envelope, InspectedNode, Member, NodeError, NotProposed, QuorumNews, RaftNode,
    Replica, Replicas, Survivor, VoterChange, VotersRefused, has_raft_log, is_sent_by,
};
