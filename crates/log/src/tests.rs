//! A log as its users see it, over the simulated disk.

mod basics;
pub(crate) mod fixture;
mod model;
mod recovery;
mod trim;
