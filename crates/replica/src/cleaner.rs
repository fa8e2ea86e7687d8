//! The cleaner: which log is compacted next, how fast, and the outcomes of passes.
//!
//! `ottla_log::compaction` decides whether one log is due, and works on its files. This module compares logs, and runs
//! a [`CompactionPass`](pass::CompactionPass) over one of them. The threads are the driver's.

pub mod pass;
pub mod report;
pub mod schedule;
pub mod settings;
pub mod throttle;
