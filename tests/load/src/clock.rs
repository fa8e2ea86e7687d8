//! The clock of this program, shared by producer and consumer: nanoseconds since the start.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that starts at its creation.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    origin_ms: i64,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "measuring time is what this is for"
    )]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            origin: Instant::now(),
            origin_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Nanoseconds since the start.
    pub fn now(self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Converts a time of this clock to the timestamp of a record.
    pub fn timestamp_ms(self, nanoseconds: u64) -> i64 {
        self.origin_ms + (nanoseconds / 1_000_000) as i64
    }

    /// Waits until a time of this clock; returns at once if it has passed.
    #[expect(
        clippy::disallowed_methods,
        reason = "a fixed rate is kept by the clock"
    )]
    pub fn wait_until(self, nanoseconds: u64) {
        let left = nanoseconds.saturating_sub(self.now());
        if left > 0 {
            std::thread::sleep(Duration::from_nanos(left));
        }
    }
}
