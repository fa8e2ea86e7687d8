//! How a thread of the replicas waits until something changes, or its time has come.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Duration;

/// Waits for `changed`, `left` at the longest; without a time, until it changes. It may be woken for nothing.
pub(super) fn pause<'a, T>(
    changed: &Condvar,
    state: MutexGuard<'a, T>,
    left: Option<Duration>,
) -> MutexGuard<'a, T> {
    match left {
        Some(left) => {
            let waited = changed.wait_timeout(state, left);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
        None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
    }
}
