//! Consumer groups and committed offsets as state machines over the records of one `__consumer_offsets`
//! partition. Pure: time, fresh ids and configuration are arguments; deadlines leave as data.
//!
//! [`shard::Shard`] is the whole of one partition. Only `apply` changes its replicated part ([`state::State`]). Its soft
//! part (waiting requests, deadlines of sessions) is lost with the owner, and rebuilt from the replicated part.

pub mod action;
pub mod batch;
pub mod config;
pub mod group;
pub mod partition;
pub mod runtime;
pub mod shard;
pub mod state;
pub mod ticket;
pub mod timers;
pub mod transaction;

pub use action::{Action, Decision, Event, IfRefused, KeepAlive};
pub use config::Config;
pub use partition::partition_for;
pub use runtime::{Effect, Outgoing, Runtime, Unavailable, Writer, Written};
pub use shard::Shard;
pub use ticket::Ticket;
