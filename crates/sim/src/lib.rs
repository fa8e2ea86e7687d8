//! Simulates a whole node and its clients in one thread, with a simulated disk, clock and network,
//! from a seed.
//!
//! [`World`] is the entry. A node drives the production code: `replica`, `controller`, `quorum` and
//! `coordinator` make all decisions. This crate replaces the threads, tasks and sockets of the
//! broker. Clients know only the answers that they got; after each start the node is compared with
//! them ([`checks`]). The seed is the only source of time and chance, so a seed gives the same
//! events each time ([`trace`]). Nodes have addresses, so that a cluster can have several.

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
