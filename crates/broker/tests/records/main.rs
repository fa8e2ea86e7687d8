//! Produce, Fetch and their kin over real partitions in a temporary directory, without sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deletes;
mod fetch;
mod flush_for_readers;
#[path = "../images/mod.rs"]
mod images;
mod node;
#[path = "../nowhere/mod.rs"]
mod nowhere;
mod produce;
mod producers;
