//! The clock of these commands: it measures durations, and pauses between checks of other
//! processes.

use std::time::{Duration, Instant};

/// The current time, to measure a duration.
#[expect(
    clippy::disallowed_methods,
    reason = "people want to know how long something took"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Pauses before the next check.
#[expect(
    clippy::disallowed_methods,
    reason = "a process outside does not say when it starts to serve or ends"
)]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
