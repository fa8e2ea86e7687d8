//! The partitions of one node: append, acknowledge, read, flush. Synchronous, over any [`Files`].
//!
//! A [`Partition`] is a log behind a short lock, with its role, and the producers and consumers that wait for it. A
//! [`Directory`] is a log directory with its group commit, and a [`FlushPass`] is one pass of it. This crate alone
//! decides what is acknowledged and when. Threads, clocks and timers belong to the driver, which is the broker or a
//! simulation: time is an argument, and waiting producers and consumers are reached through a [`Host`].
//!
//! [`Files`]: ottla_log::files::Files

pub mod acks;
pub mod checkpoints;
pub mod cleaner;
pub mod damage;
pub mod directory;
pub mod disk_reserve;
pub mod flush_pass;
mod host;
pub mod housekeeping;
pub mod isr_request;
mod live_brokers;
pub mod logs;
mod loss;
pub mod loss_ledger;
pub mod node;
pub mod own_records;
pub mod partition;
mod reader;
mod refusals;
pub mod scrub;
pub mod spare;
pub mod stalls;
mod throttled;
pub mod topic_settings;
pub mod traffic;
mod urgency;
mod workers;

pub use cleaner::pass::CompactionPass;
pub use directory::Directory;
pub use flush_pass::FlushPass;
pub use host::Host;
pub use live_brokers::LiveBrokers;
pub use loss::{Loss, LossReason};
pub use node::Node;
pub use partition::{Partition, PartitionId};
pub use reader::Reader;
pub use refusals::{Refused, Unavailable, Unreadable};
pub use throttled::ThrottledReplicas;
pub use topic_settings::{Durability, TopicSettings};
pub use workers::{InOrder, Workers};
