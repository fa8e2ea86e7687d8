//! A log as its users see it, over the simulated disk.

mod basics;
mod bit_rot;
mod compaction;
mod compaction_crashes;
mod compaction_kafka;
mod damage;
pub(crate) mod fixture;
mod model;
mod random;
mod recovery;
mod regressions;
mod repair;
mod trim;
mod verify;
