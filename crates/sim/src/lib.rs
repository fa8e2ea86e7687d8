//! A whole node, and clients of it, in one thread: over a simulated disk, clock and network, all from a seed.
//!
//! [`World`] is the entry. A node drives the code of production: `replica`, `controller`, `quorum` and
//! `coordinator` decide everything. What stands here is what the broker has threads, tasks and sockets for.
//! Clients know only what they are answered, and hold the node to it after each start ([`checks`]). Nothing
//! here reads a clock or takes chance from elsewhere than the seed, so that a seed gives the same events each
//! time ([`trace`]). Nodes have addresses: a cluster will be more of them.

#![expect(
    missing_docs,
    reason = "the crate is not published, and a comment that repeats a name says nothing"
)]

pub mod checks;
mod clients;
mod faults;
mod messages;
mod model;
mod network;
mod node;
mod outside;
mod queue;
pub mod trace;
mod world;

pub use outside::Counts;
pub use world::{Outcome, World, run};
