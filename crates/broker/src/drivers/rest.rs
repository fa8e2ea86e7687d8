//! Rests between the reads and writes of a thread that works on a partition at a limited rate.

use std::ops::ControlFlow;
use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

use super::monitor::Monitor;
use crate::process::clock::Clock;
use crate::replicas::Partition;

/// A resting thread checks this often whether its partition is gone.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// Waits until the time that `until` returns, or breaks as it does.
///
/// `until` is called again whenever the value of `monitor` has changed, and at least every [`LONGEST_REST`]. It gets that
/// value, and whether the partition is gone.
pub(super) fn rest<T, B>(
    monitor: &Monitor<T>,
    partition: &Partition,
    clock: Clock,
    until: impl Fn(&T, bool) -> ControlFlow<B, MonotonicTime>,
) -> ControlFlow<B> {
    loop {
        let is_gone = partition.offsets().is_err();
        let value = monitor.lock();
        let left = until(&value, is_gone)?.remaining(clock.monotonic());
        if left.is_zero() {
            return ControlFlow::Continue(());
        }
        drop(monitor.wait(value, Some(left.min(LONGEST_REST))));
    }
}
