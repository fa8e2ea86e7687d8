//! Decides metadata changes: topics, placement, configs, brokers, elections. Pure.
//!
//! Every operation is a function from a [`View`] and a request to a [`Decision`]: the records that make the change, and
//! the reply that leaves once they are committed. [`ControllerRequest`] lists the requests. [`Active`] decides them, several
//! in one proposal, each on top of the proposals before it, and holds the replies. It appends nothing: its owner does, and
//! reports the outcome.

pub mod active;
pub mod alter_configs;
pub mod alter_partition;
pub mod assignments;
pub mod bootstrap;
pub mod broker_heartbeat;
pub mod brokers;
mod changeable;
pub mod config_refusal;
pub mod configs;
pub mod create_partitions;
pub mod create_topics;
pub mod decision;
pub mod delete_topics;
pub mod directories;
pub mod due_elections;
pub mod elections;
pub mod features;
pub mod heartbeats;
mod leadership;
pub mod member;
mod partition_change;
pub mod placement;
pub mod producer_ids;
pub mod quorum;
mod reassignment;
pub mod reassignments;
pub mod refusal;
pub mod request;
pub mod running_time;
pub mod topic_names;
mod topic_rules;
pub mod unclean_election;

pub use active::Active;
pub use decision::{Decision, Settings, View};
pub use heartbeats::Heartbeats;
pub use member::{Member, Turn};
pub use quorum::{Quorum, QuorumEvent};
pub use refusal::Refusal;
pub use request::{ControllerReply, ControllerRequest, Operation};
pub use unclean_election::UncleanElection;
