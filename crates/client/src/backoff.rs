//! Waiting between attempts: 50 ms, doubling up to a second, until a deadline.

use std::time::Duration;

use tokio::time::{self, Instant};

const FIRST: Duration = Duration::from_millis(50);
const LARGEST: Duration = Duration::from_secs(1);

/// How long to wait after this number of failures in a row.
pub fn pause_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    (FIRST * (1 << doublings)).min(LARGEST)
}

/// The attempts of one call.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    deadline: Instant,
}

impl Backoff {
    /// Attempts until `limit` has passed.
    pub fn new(limit: Duration) -> Self {
        Self {
            next: FIRST,
            deadline: Instant::now() + limit,
        }
    }

    /// Waits before the next attempt. False if the time is up.
    pub async fn wait(&mut self) -> bool {
        let until = Instant::now() + self.next;
        if until > self.deadline {
            return false;
        }
        self.next = (self.next * 2).min(LARGEST);
        time::sleep_until(until).await;
        true
    }
}
