//! Groups and offsets through their handlers, over real partitions in a temporary directory, without sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
#[path = "../images/mod.rs"]
mod images;
mod members;
mod node;
#[path = "../nowhere/mod.rs"]
mod nowhere;
