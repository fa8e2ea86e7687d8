//! A consumer or follower that waits at the end of partitions: which of them have changed, and the number of bytes that it
//! still needs.
//!
//! It watches each partition under a place, a number of its own choice. It looks again only at the places that have
//! changed, so that a change of one partition costs the same however many it watches. Each append subtracts its bytes. When
//! none are needed any more, the append asks for a flush, after which the consumer can be answered. A byte may be counted
//! twice while the consumer reads its partitions, but none is missed: a flush may come early, never too late.
//!
//! The reader of a fetch session goes on to watch between the requests (`partition/settled.rs`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

/// A consumer that waits for records in one or more partitions. `C` is the handle that wakes it.
#[derive(Debug)]
pub struct Reader<C> {
    consumer: C,
    lacking: AtomicI64,
    /// At most one entry for each partition that it watches.
    changed: Mutex<BTreeSet<usize>>,
    /// The time of the latest request of its session, in nanoseconds.
    asked_at: AtomicU64,
}

impl<C> Reader<C> {
    /// A reader that is woken by changes, and for which no append asks for a flush.
    pub fn new(consumer: C) -> Arc<Self> {
        Arc::new(Self {
            consumer,
            lacking: AtomicI64::new(i64::MAX),
            changed: Mutex::default(),
            asked_at: AtomicU64::new(0),
        })
    }

    pub fn consumer(&self) -> &C {
        &self.consumer
    }

    /// Its session has sent a request.
    pub fn asks_at(&self, now: MonotonicTime) {
        let nanos = u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX);
        self.asked_at.store(nanos, Ordering::SeqCst);
    }

    /// The time of the latest request of its session.
    pub(crate) fn asked_at(&self) -> MonotonicTime {
        MonotonicTime(Duration::from_nanos(self.asked_at.load(Ordering::SeqCst)))
    }

    /// Sets the number of bytes that it needs. Call this before [`Reader::take_changed`].
    pub fn lacks(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lacking.store(bytes, Ordering::SeqCst);
    }

    /// Subtracts bytes that were appended; returns whether it needs no more.
    pub fn gets(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lacking.fetch_sub(bytes, Ordering::SeqCst) <= bytes
    }

    /// The partition at `place` has changed.
    pub(crate) fn note(&self, place: usize) {
        self.places().insert(place);
    }

    /// Takes the places that have changed. It must watch them again before it reads them.
    pub fn take_changed(&self) -> BTreeSet<usize> {
        std::mem::take(&mut self.places())
    }

    /// The places that have changed since they were taken.
    pub fn changed(&self) -> BTreeSet<usize> {
        self.places().clone()
    }

    fn places(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
