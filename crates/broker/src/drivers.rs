//! The threads of the process, and how the rest of it reaches them. What a thread decides lies in pure code; here is how
//! it is started, woken, stopped and joined.

pub mod applier;
pub mod cleaner;
pub mod closing;
pub mod cold_reads;
pub mod controller;
pub mod disk_work;
pub mod flusher;
pub mod housekeeper;
pub mod monitor;
pub mod opening;
mod recovery_progress;
pub mod scrubber;
pub mod stopping;
pub mod worker;
