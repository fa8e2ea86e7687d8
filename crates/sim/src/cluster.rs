//! Several machines in one world: a controller, brokers with replicas, and clients that find the leaders.
//!
//! [`World`] is the entry. [`member`] is the process of a broker and [`controller`] that of a controller; both drive
//! the production code, and share the drivers of [`crate::node`]. [`checks`] has the invariants of a cluster.

mod calls;
mod checks;
mod controller;
mod deeds;
mod followers;
mod lifecycle;
mod member;
mod observing;
mod replicating;
mod world;

pub use self::world::run;
