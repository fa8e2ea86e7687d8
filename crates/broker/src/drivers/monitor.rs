//! A value behind a short lock that a thread waits on. It wakes when the value changes, when it must stop, or after a time.
//!
//! A thread looks at the value and waits under the same lock, so no change is missed between the two. The lock is held for
//! reading and writing the value only, never across a wait for a disk. A thread that panics while holding it leaves the
//! value usable: every change is a single assignment, push or take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A value that threads share and wait on.
#[derive(Debug, Default)]
pub struct Monitor<T> {
    value: Mutex<T>,
    /// Written under the lock of `value`, so that no waiting thread misses it.
    is_stopping: AtomicBool,
    changed: Condvar,
}

impl<T> Monitor<T> {
    /// Nothing waits on `value` yet.
    pub fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            is_stopping: AtomicBool::new(false),
            changed: Condvar::new(),
        }
    }

    /// The value, for reading it and for changes that no thread waits for.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value and wakes every thread that waits on it.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    /// Asks the threads to end and wakes them.
    pub fn stop(&self) {
        self.change(|_| self.is_stopping.store(true, Ordering::Release));
    }

    /// Whether [`Monitor::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Waits for a change for at most `left`, or without limit. It may return early: the caller checks what it waits for.
    pub fn wait<'a>(&self, value: MutexGuard<'a, T>, left: Option<Duration>) -> MutexGuard<'a, T> {
        if let Some(left) = left {
            let waited = self.changed.wait_timeout(value, left);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            let waited = self.changed.wait(value);
            waited.unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Monitor;
    use crate::drivers::threads::Thread;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    #[test]
    fn a_waiting_thread_wakes_for_each_change_and_for_the_stop() {
        let monitor = Arc::new(Monitor::new(0));
        let (tell, changes) = mpsc::channel();
        let of_thread = Arc::clone(&monitor);
        let worker = Thread::start("waits", move || {
            let mut last = 0;
            let mut value = of_thread.lock();
            while !of_thread.is_stopping() {
                if *value != last {
                    last = *value;
                    tell.send(last).unwrap();
                }
                value = of_thread.wait(value, None);
            }
        });
        let worker = worker.unwrap();
        for change in [1, 2] {
            monitor.change(|value| *value = change);
            assert_eq!(changes.recv(), Ok(change));
        }
        monitor.stop();
        worker.join();
        assert!(changes.recv().is_err(), "the thread has ended");
    }

    #[test]
    fn a_wait_ends_when_its_time_has_come() {
        let monitor = Monitor::new(7);
        let value = monitor.wait(monitor.lock(), Some(Duration::ZERO));
        assert_eq!(*value, 7);
    }

    #[test]
    fn a_panic_under_the_lock_leaves_the_value_usable() {
        let monitor = Arc::new(Monitor::new(1));
        let of_thread = Arc::clone(&monitor);
        let work = move || of_thread.change(|value| assert_ne!(*value, 1, "a broken invariant"));
        Thread::start("panics", work).unwrap().join();
        assert_eq!(*monitor.lock(), 1);
    }
}
