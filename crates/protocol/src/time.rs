//! Time as an argument: pure code is handed a [`Now`] and hands back deadlines.
//!
//! Two clocks, never mixed: the wall clock stamps records and may jump; deadlines are on the monotonic clock,
//! so that a clock that jumps expires nobody.

use std::time::Duration;

/// Milliseconds since the Unix epoch on the wall clock; -1 where Kafka says "no timestamp".
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
    /// This point moved on by `delay`, saturating.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// The time left until `self`, nothing when it has passed.
    #[must_use]
    pub const fn remaining(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub monotonic: MonotonicTime,
    /// For what is written into records.
    pub wall: Timestamp,
}
