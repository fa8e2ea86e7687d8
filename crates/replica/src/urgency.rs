//! How soon a partition asks its log directory for a flush.

/// When appended records must be flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A producer or reader waits: by a pass that is due now.
    Now,
    /// Nobody waits: by the next pass, which is due after `ottla.flush.max.delay.ms` at the latest.
    Later,
}
