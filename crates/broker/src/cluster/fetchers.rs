//! What this node replicates from other brokers: the partitions by leader, and the task that fetches from one leader.
//!
//! `drivers/fetchers.rs` starts and ends the tasks as the metadata changes.

mod agenda;
mod fetcher;
mod followed;
mod requests;
mod session;

pub use self::agenda::Partitions;
pub use self::fetcher::{Fetcher, Source};
pub use self::followed::{Followed, Lane};
