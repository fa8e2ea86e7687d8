//! Leader and follower of one partition: ISR, high watermark, leader epochs. Pure: no files, no clock.
//!
//! A [`Leader`] tracks the progress of each replica and decides how far the high watermark may go. [`follower`] decides
//! where two logs diverge. The rules are Kafka's (`Partition.scala`, `Replica.scala`, KIP-101, KIP-497, KIP-966 of
//! 4.3.1). Durability by flush is Ottla's: under `ottla.ack.durability=fsync` a replica counts as far as it is known to
//! be on stable storage.

pub mod follower;
mod leader;
mod role;

pub use leader::{Answer, EpochStart, IsrChange, Leader, LeaderLog, Progress};
pub use role::Role;
