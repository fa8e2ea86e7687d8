//! Decides metadata changes: topics, placement, configs, brokers, elections. Pure.
//!
//! Every operation is a function from a [`View`] and a request to a [`Decision`]: the records that make the change, and
//! the reply that leaves once they are committed. [`ControllerRequest`] lists the requests. [`Active`] decides them, several
//! in one proposal, each on top of the proposals before it, and holds the replies. It appends nothing: its owner does, and
//! reports the outcome.

pub mod active;
pub mod alter_configs;
pub mod assignments;
pub mod bootstrap;
pub mod brokers;
mod changeable;
pub mod config_refusal;
pub mod configs;
pub mod create_partitions;
pub mod create_topics;
pub mod decision;
pub mod delete_topics;
pub mod directories;
pub mod elections;
pub mod features;
mod partition_change;
pub mod placement;
pub mod producer_ids;
pub mod quorum;
pub mod reassignments;
pub mod refusal;
pub mod request;
pub mod topic_names;

pub use active::Active;
pub use decision::{Decision, Settings, View};
pub use quorum::{Quorum, QuorumEvent, Turn};
pub use refusal::Refusal;
pub use request::{ControllerReply, ControllerRequest, Operation};
