//! A log as its users see it, over the simulated disk.

mod basics;
mod bit_rot;
mod cold;
mod compaction;
mod damage;
pub(crate) mod fixture;
mod model;
mod open_files;
mod recovery;
mod regressions;
mod repair;
mod syncs;
mod trim;
mod verify;
