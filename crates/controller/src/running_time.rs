//! The time in which this process ran.
//!
//! A process that was stopped, or whose machine stood still, could hear nothing meanwhile. So the time between two looks at
//! the clock counts only up to [`LONGEST_STEP`]: what has arrived can be read before anybody is held to have been silent.

use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

/// The longest time between two looks that counts. The owner looks more often.
pub const LONGEST_STEP: Duration = Duration::from_millis(400);

/// A clock that goes on only while its owner looks at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunningTime {
    looked: MonotonicTime,
    counted: MonotonicTime,
}

impl RunningTime {
    /// The time that counts, when the clock shows `now`.
    pub fn at(&mut self, now: MonotonicTime) -> MonotonicTime {
        let step = now.remaining(self.looked).min(LONGEST_STEP);
        self.looked = self.looked.max(now);
        self.counted = self.counted.after(step);
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_STEP, RunningTime};
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    fn at(millis: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_millis(millis))
    }

    #[test]
    fn a_pause_counts_only_as_one_step() {
        let mut time = RunningTime::default();
        assert_eq!(time.at(at(100)), at(100));
        assert_eq!(time.at(at(300)), at(300));
        assert_eq!(time.at(at(9_000)), at(300).after(LONGEST_STEP));
        assert_eq!(time.at(at(9_100)), at(400).after(LONGEST_STEP));
    }

    #[test]
    fn looks_that_come_out_of_order_do_not_turn_time_back() {
        let mut time = RunningTime::default();
        assert_eq!(time.at(at(200)), at(200));
        assert_eq!(time.at(at(150)), at(200));
        assert_eq!(time.at(at(250)), at(250));
    }
}
