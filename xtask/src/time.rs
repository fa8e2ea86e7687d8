//! The clock of the commands here: how long something took, and a rest where a process outside says nothing.

use std::time::{Duration, Instant};

/// Now, to see later how long it took.
#[expect(
    clippy::disallowed_methods,
    reason = "people want to know how long something took"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Rests before looking again.
#[expect(
    clippy::disallowed_methods,
    reason = "a process outside does not say when it starts to serve or ends"
)]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
