//! The threads of the process, and how the rest of it reaches them. What a thread decides lies in pure code; here is how
//! it is started, woken, stopped and joined.

pub mod cold_reads;
pub mod controller;
pub mod disk_work;
pub mod monitor;
pub mod stopping;
pub mod worker;
