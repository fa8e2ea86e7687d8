//! The rate of replicated bytes, and whether it exceeds a throttle (Kafka's replication quotas).
//!
//! Bytes are counted in windows of a second. The rate is their sum over the time since the oldest window began, and at
//! least over one second. So a rate is kept over ten seconds, and one large answer is followed by a pause.

use std::collections::VecDeque;
use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

const WINDOW: Duration = Duration::from_secs(1);
/// Kafka's default of `replication.quota.window.num`.
const WINDOWS: u32 = 11;

/// The bytes that one side, leader or follower, has replicated of throttled replicas.
#[derive(Debug, Default)]
pub struct ReplicationRate {
    /// When each window began, and its bytes; the oldest first.
    windows: VecDeque<(MonotonicTime, u64)>,
}

impl ReplicationRate {
    pub fn record(&mut self, bytes: u64, now: MonotonicTime) {
        self.forget_old(now);
        match self.windows.back_mut() {
            Some((begun, counted)) if now.remaining(*begun) < WINDOW => *counted += bytes,
            _ => self.windows.push_back((now, bytes)),
        }
    }

    /// Whether more than `limit` bytes a second are replicated.
    pub fn exceeds(&mut self, limit: u64, now: MonotonicTime) -> bool {
        self.forget_old(now);
        let Some((oldest, _)) = self.windows.front() else {
            return false;
        };
        let bytes: u128 = self
            .windows
            .iter()
            .map(|(_, bytes)| u128::from(*bytes))
            .sum();
        let time = now.remaining(*oldest).max(WINDOW);
        bytes * WINDOW.as_millis() > u128::from(limit) * time.as_millis()
    }

    fn forget_old(&mut self, now: MonotonicTime) {
        let is_old = |begun: MonotonicTime| now.remaining(begun) >= WINDOW * WINDOWS;
        while self
            .windows
            .front()
            .is_some_and(|(begun, _)| is_old(*begun))
        {
            self.windows.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MonotonicTime, ReplicationRate};
    use std::time::Duration;

    fn at(ms: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_millis(ms))
    }

    #[test]
    fn a_large_answer_is_followed_by_a_pause_that_keeps_the_rate() {
        let mut rate = ReplicationRate::default();
        assert!(!rate.exceeds(0, at(0)), "nothing is replicated yet");
        rate.record(5000, at(0));
        assert!(rate.exceeds(1000, at(4_900)));
        assert!(!rate.exceeds(1000, at(5_000)));
    }

    #[test]
    fn bytes_are_forgotten_after_all_windows() {
        let mut rate = ReplicationRate::default();
        rate.record(1_000_000, at(0));
        assert!(rate.exceeds(1000, at(10_999)));
        assert!(!rate.exceeds(1000, at(11_000)));
    }

    #[test]
    fn a_steady_rate_at_the_limit_does_not_exceed_it() {
        let mut rate = ReplicationRate::default();
        for second in 1..=30 {
            rate.record(1000, at(second * 1000));
            assert!(!rate.exceeds(1000, at((second + 1) * 1000)), "{second}");
        }
        rate.record(2000, at(31_000));
        assert!(rate.exceeds(1000, at(31_000)));
    }

    #[test]
    fn the_largest_limit_is_none() {
        let mut rate = ReplicationRate::default();
        rate.record(i64::MAX.unsigned_abs(), at(0));
        assert!(!rate.exceeds(i64::MAX.unsigned_abs(), at(2000)));
    }
}
