//! Leader and follower of one partition: ISR, high watermark, leader epochs. Pure: no files, no clock.
//!
//! A [`Leader`] tracks the progress of each replica and decides how far the high watermark may go. [`Following`] is a
//! follower's next step, and [`follower`] decides where two logs diverge. The rules are Kafka's (`Partition.scala`,
//! `Replica.java`, `AbstractFetcherThread.scala`, KIP-101, KIP-497, KIP-966 of 4.3.1). Durability by flush is Ottla's:
//! under `ottla.ack.durability=fsync` a replica counts as far as it is known to be on stable storage.

mod brokers;
mod fetch;
pub mod follower;
mod following;
mod isr;
mod leader;
mod quota;
mod role;

pub use brokers::{Broker, Brokers};
pub use fetch::{FetchRefusal, FollowerFetch};
pub use following::{Following, LeaderOffsets, Reset, Step};
pub use isr::{Answer, Committed, IsrChange, IsrMember};
pub use leader::{EpochStart, Leader, Progress, Replica, Situation};
pub use quota::ReplicationRate;
pub use role::Role;
