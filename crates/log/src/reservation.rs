//! Space kept ready in front of a segment that fills fast: writing into it costs half as much.
//!
//! Only a segment that has just filled a step in seconds gets one, and never more than a small share of what the disk
//! has free; the file's length stays what was written. What is left over goes back when the segment is closed or
//! stands idle. Pure: says what to reserve, and the segment does it.

use ottla_protocol::time::Timestamp;

/// The bytes after which a segment's speed is judged.
const STEP: u64 = 4 << 20;
/// The bytes that are reserved at a time.
const AHEAD: u64 = 16 << 20;
/// A step that took no longer than this was fast.
const FAST_MS: i64 = 10_000;
/// A reservation that nobody has written into for so long goes back.
const IDLE_MS: i64 = 60_000;
/// A reservation may take this part of the free space.
const SHARE: u64 = 64;

/// What one segment has reserved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reservation {
    reserved_to: u64,
    step_end: u64,
    step_began: Timestamp,
}

impl Reservation {
    /// Nothing is reserved for a segment of `size`.
    pub(crate) fn none(size: u64, now: Timestamp) -> Self {
        Self {
            reserved_to: 0,
            step_end: size + STEP,
            step_began: now,
        }
    }

    /// Whether an append at `size` ends a step, so that it is time to ask for [`Reservation::advance`].
    pub(crate) fn is_due(&self, size: u64) -> bool {
        size >= self.step_end
    }

    /// The bytes to reserve from `size` on, in a segment that grows to `limit` at most, on a disk with `free` bytes.
    pub(crate) fn advance(
        &mut self,
        size: u64,
        limit: u64,
        free: u64,
        now: Timestamp,
    ) -> Option<u64> {
        let is_fast = now.0.saturating_sub(self.step_began.0) <= FAST_MS;
        let ahead = AHEAD.min(limit.saturating_sub(size));
        self.step_began = now;
        if !is_fast || ahead == 0 || ahead > free / SHARE {
            self.step_end = size + STEP;
            return None;
        }
        self.reserved_to = size + ahead;
        self.step_end = self.reserved_to;
        Some(ahead)
    }

    /// Whether more is reserved than the `size` that was written.
    pub(crate) fn has_surplus(&self, size: u64) -> bool {
        self.reserved_to > size
    }

    /// The same, when nobody has filled a step for a while.
    pub(crate) fn has_idle_surplus(&self, size: u64, now: Timestamp) -> bool {
        self.has_surplus(size) && now.0.saturating_sub(self.step_began.0) > IDLE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::{AHEAD, Reservation, STEP};
    use ottla_protocol::time::Timestamp;

    #[test]
    fn only_a_segment_that_fills_fast_gets_space() {
        let mut reservation = Reservation::none(0, Timestamp(0));
        assert!(!reservation.is_due(STEP - 1) && reservation.is_due(STEP));
        assert_eq!(
            reservation.advance(STEP, 1 << 30, 1 << 40, Timestamp(60_000)),
            None,
            "slow"
        );
        assert_eq!(
            reservation.advance(2 * STEP, 1 << 30, 1 << 40, Timestamp(61_000)),
            Some(AHEAD)
        );
        assert!(!reservation.is_due(2 * STEP + AHEAD - 1) && reservation.has_surplus(2 * STEP));
        let end = 2 * STEP + AHEAD;
        assert_eq!(
            reservation.advance(end, end + 5, 1 << 40, Timestamp(62_000)),
            Some(5),
            "to the limit"
        );
        assert!(!reservation.has_idle_surplus(end, Timestamp(62_000)));
        assert!(reservation.has_idle_surplus(end, Timestamp(200_000)));
        assert!(!reservation.has_idle_surplus(end + 5, Timestamp(200_000)));
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_left_alone() {
        let mut reservation = Reservation::none(0, Timestamp(0));
        assert_eq!(
            reservation.advance(STEP, 1 << 30, AHEAD * 63, Timestamp(1)),
            None
        );
        assert_eq!(
            reservation.advance(2 * STEP, 1 << 30, AHEAD * 64, Timestamp(2)),
            Some(AHEAD)
        );
    }
}
