//! The partitions of one node: appends, acknowledgements, reads, flushes. Synchronous, over any [`Files`].
//!
//! [`Partition`] is a partition's log behind a short lock, with its role and those that wait for it; [`Directory`] is a
//! log directory with its group commit; [`FlushPass`] is one pass of it. Here, once, is decided what is acknowledged and
//! when. Threads, clocks and timers are the driver's (the broker's, or a simulation's): time comes in as an argument, and
//! those that wait are reached through a [`Host`].
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
pub mod logs;
pub mod node;
pub mod own_records;
pub mod partition;
mod reader;
mod refusals;
pub mod scrub;
pub mod spare;
pub mod stalls;
pub mod topic_settings;
pub mod traffic;
mod workers;

pub use cleaner::pass::CompactionPass;
pub use directory::Directory;
pub use flush_pass::FlushPass;
pub use host::Host;
pub use node::Node;
pub use partition::{Partition, PartitionId};
pub use reader::Reader;
pub use refusals::{Refused, Unavailable, Unreadable};
pub use topic_settings::{Durability, TopicSettings};
pub use workers::{InOrder, Workers};
