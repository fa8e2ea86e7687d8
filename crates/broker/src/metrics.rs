//! Counters of the whole process, as `/metrics` shows them.

/// Every metric; updating one never blocks.
#[derive(Debug, Default)]
pub struct Metrics {}
