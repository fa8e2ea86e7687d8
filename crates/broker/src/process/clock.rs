//! The only place that reads the clocks of the system. All other code gets the time as a `Now`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ottla_protocol::time::{MonotonicTime, Now, Timestamp};

/// The wall clock and the monotonic clock of this process. Monotonic time counts from [`Clock::start`].
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts the monotonic clock at zero.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the process's clock is read here and handed inward"
    )]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Both clocks, read together.
    #[expect(
        clippy::disallowed_methods,
        reason = "the process's clock is read here and handed inward"
    )]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Now {
            monotonic: self.monotonic(),
            wall: Timestamp(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// The monotonic clock alone.
    pub fn monotonic(&self) -> MonotonicTime {
        MonotonicTime(self.started.elapsed())
    }

    /// Completes when the monotonic clock shows `time`; without a time, never.
    pub async fn sleep_until(&self, time: Option<MonotonicTime>) {
        match time {
            Some(time) => tokio::time::sleep_until(self.instant(time)).await,
            None => std::future::pending().await,
        }
    }

    /// The instant at which the monotonic clock will show `time`, for timers of the runtime.
    pub fn instant(&self, time: MonotonicTime) -> tokio::time::Instant {
        // A time that means "never" does not fit into an instant.
        const FAR: Duration = Duration::from_hours(24 * 365 * 30);
        tokio::time::Instant::from_std(self.started + time.0.min(FAR))
    }
}
