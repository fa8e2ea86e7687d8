//! Leader and follower of one partition: in-sync replicas, high watermark, leader epochs. Pure: no files, no clock.
//!
//! [`Leader`] follows the progress of each replica and says where the high watermark may be; [`follower`] says where two
//! logs diverge. The rules are Kafka's (`Partition.scala`, `Replica.scala`, KIP-101, KIP-497, KIP-966 of 4.3.1); durability
//! by flush is ours: a replica counts as far as it is known to be on stable storage, where that is asked for.

pub mod follower;
mod leader;
mod role;

pub use leader::{Answer, EpochStart, IsrChange, Leader, LeaderLog, Progress};
pub use role::Role;
