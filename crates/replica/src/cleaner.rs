//! The cleaner: which log is compacted next, how fast, and how its passes went.
//!
//! `ottla_log::compaction` decides whether one log is due, and does the work on its files. Here logs are compared, and a
//! [`CompactionPass`](pass::CompactionPass) goes over one of them. The threads are the driver's.

pub mod pass;
pub mod report;
pub mod schedule;
pub mod settings;
pub mod throttle;
