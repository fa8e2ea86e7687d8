//! Time as an argument: pure code gets a [`Now`] and returns deadlines.
//!
//! There are two clocks, which are never mixed. The wall clock stamps records, and may jump. Deadlines are on the
//! monotonic clock, so a jump of the wall clock expires nothing.

use std::time::Duration;

/// Milliseconds since the Unix epoch on the wall clock; -1 means "no timestamp".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Kafka's "no timestamp".
    pub const NONE: Self = Self(-1);
}

/// A point on the monotonic clock: the time since the process (or the simulation) started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonotonicTime(pub Duration);

impl MonotonicTime {
    /// The point `delay` later, saturating.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// The time left until `self`; zero if it has passed.
    #[must_use]
    pub const fn remaining(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }
}

/// Both clocks, read at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub monotonic: MonotonicTime,
    /// For timestamps in records.
    pub wall: Timestamp,
}
