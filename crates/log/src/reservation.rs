//! Reserves disk space after the end of a segment that fills fast: a write into reserved space takes half the time.
//!
//! A segment that has filled [`STEP`] bytes in seconds gets a reservation, at most a small share of the free space. The
//! file's length does not change. The rest is released when the segment is closed or idle. Pure: the segment does what
//! this returns.

use ottla_protocol::time::Timestamp;

/// Bytes after which the speed of a segment is measured.
const STEP: u64 = 4 << 20;
/// Bytes reserved at a time.
const AHEAD: u64 = 16 << 20;
/// A segment that fills a step within this time is fast.
const FAST_MS: i64 = 10_000;
/// A reservation is released after this time without a step.
const IDLE_MS: i64 = 60_000;
/// A reservation takes at most 1/SHARE of the free space.
const SHARE: u64 = 64;

/// The reservation of one segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reservation {
    reserved_to: u64,
    step_end: u64,
    step_began: Timestamp,
}

impl Reservation {
    /// No reservation, for a segment of `size` bytes.
    pub(crate) fn none(size: u64, now: Timestamp) -> Self {
        Self {
            reserved_to: 0,
            step_end: size + STEP,
            step_began: now,
        }
    }

    /// Whether a step ends at `size`, so that [`Reservation::advance`] must be called.
    pub(crate) fn is_due(&self, size: u64) -> bool {
        size >= self.step_end
    }

    /// The number of bytes to reserve from `size` on, if any. The segment grows to at most `limit`, and the disk has
    /// `free` bytes.
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

    /// Whether space after `size` is reserved.
    pub(crate) fn has_surplus(&self, size: u64) -> bool {
        self.reserved_to > size
    }

    /// Whether space after `size` is reserved, and no step was filled for [`IDLE_MS`].
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
