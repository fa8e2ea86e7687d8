//! `log.cleaner.io.max.bytes.per.second`: how long the cleaner must rest for what it has read and written.

use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

/// The rate limit for the bytes of all workers together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttle {
    bytes_per_second: f64,
    /// When the bytes so far are within the rate.
    paid_at: MonotonicTime,
}

impl Throttle {
    pub fn new(bytes_per_second: f64) -> Self {
        Self {
            bytes_per_second,
            paid_at: MonotonicTime(Duration::ZERO),
        }
    }

    /// Changes the rate from now on. Bytes so far do not delay any more.
    pub fn set_rate(&mut self, bytes_per_second: f64, now: MonotonicTime) {
        self.bytes_per_second = bytes_per_second;
        self.paid_at = self.paid_at.min(now);
    }

    /// Counts `bytes` that were read or written; returns how long to rest.
    pub fn spend(&mut self, bytes: u64, now: MonotonicTime) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let seconds = bytes as f64 / self.bytes_per_second.max(1.0);
        let cost = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        // Unused time is not saved for later.
        self.paid_at = self.paid_at.max(now).after(cost);
        self.paid_at.remaining(now)
    }
}

#[cfg(test)]
mod tests {
    use super::Throttle;
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    #[test]
    fn the_rate_holds_for_all_workers_and_idle_time_is_not_saved_up() {
        let at = |seconds| MonotonicTime(Duration::from_secs(seconds));
        let mut throttle = Throttle::new(1000.0);
        assert_eq!(throttle.spend(500, at(100)), Duration::from_millis(500));
        assert_eq!(throttle.spend(1000, at(100)), Duration::from_millis(1500));
        assert_eq!(throttle.spend(1000, at(101)), Duration::from_millis(1500));
        assert_eq!(throttle.spend(1000, at(200)), Duration::from_secs(1));
    }

    #[test]
    fn a_rate_that_was_far_too_low_is_corrected_at_once() {
        let now = MonotonicTime(Duration::from_secs(1));
        let mut throttle = Throttle::new(1.0);
        assert!(throttle.spend(1_000_000, now) > Duration::from_hours(24));
        throttle.set_rate(1_000_000.0, now);
        assert_eq!(throttle.spend(1_000_000, now), Duration::from_secs(1));
    }

    #[test]
    fn kafkas_default_is_no_limit() {
        let mut throttle = Throttle::new(f64::MAX);
        let now = MonotonicTime(Duration::from_secs(1));
        assert_eq!(throttle.spend(u64::MAX, now), Duration::ZERO);
    }
}
