//! Decides metadata changes: topics, placement, configs, brokers, elections. Pure.
//!
//! Every operation is a function from a [`View`] and a request to a [`Decision`]: the records that make the
//! change and the reply to give once they are committed. Nothing is changed here; the owner appends the records
//! and replays them. To decide several requests on one proposal, the owner replays each decision's records into
//! a delta and hands the delta's image to the next.

pub mod alter_configs;
pub mod bootstrap;
pub mod brokers;
mod changeable;
pub mod configs;
pub mod create_partitions;
pub mod create_topics;
pub mod decision;
pub mod delete_topics;
pub mod directories;
pub mod elections;
pub mod features;
pub mod placement;
pub mod producer_ids;
pub mod reassignments;
pub mod refusal;
pub mod topic_names;

pub use decision::{Decision, Settings, View};
pub use refusal::Refusal;
