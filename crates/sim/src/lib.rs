//! Simulates nodes and their clients in one thread, with simulated disks, clock and network, from a
//! seed: one node that is broker and controller ([`run`]), or a cluster with several controllers ([`run_cluster`]).
//! `tests/cluster.rs` and `tests/sim.rs` name the seeds at which planted bugs are caught.
//!
//! A node drives the production code: `replica`, `controller`, `quorum` and `coordinator` make all
//! decisions. This crate replaces the threads, tasks and sockets of the broker. Clients know only the
//! answers that they got, and nodes are compared with them ([`checks`]). The seed is the only source
//! of time and chance, so a seed gives the same events each time ([`trace`]).

#![expect(
    missing_docs,
    reason = "the crate is not published, and a comment that repeats a name says nothing"
)]

mod between;
pub mod checks;
mod clients;
mod cluster;
mod faults;
mod messages;
mod model;
mod network;
mod node;
mod outside;
mod queue;
pub mod trace;
mod world;

pub use cluster::run as run_cluster;
pub use outside::Counts;
pub use world::{Outcome, World, run};
