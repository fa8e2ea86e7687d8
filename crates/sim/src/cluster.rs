//! Several machines in one world: controllers, brokers with replicas, and clients that find the leaders.
//!
//! [`World`] is the entry. [`member`] is the process of a broker and [`controller`] that of a controller; both drive
//! the production code, and share the drivers of [`crate::node`]. [`quorum_checks`] has the invariants of the
//! controllers, and [`checks`] those of the replicas.

mod calls;
mod checks;
mod controller;
mod deeds;
mod download;
mod followers;
mod lifecycle;
mod machine;
mod member;
mod observing;
mod quorum_checks;
mod replicating;
mod watched_log;
mod world;

pub use self::world::run;
