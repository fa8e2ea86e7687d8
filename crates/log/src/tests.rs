//! A log as its users see it, over the simulated disk.

mod basics;
mod compaction;
mod compaction_crashes;
mod compaction_kafka;
mod damage;
pub(crate) mod fixture;
mod found;
mod model;
mod random;
mod recovery;
mod repair;
mod rot;
mod torture;
mod trim;
mod verify;
