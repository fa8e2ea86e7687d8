//! A consumer that waits at the end of partitions, and how many bytes it lacks.
//!
//! Each append subtracts its bytes. So it learns whether the consumer could be answered if the bytes were on stable
//! storage: then they are flushed for it. A byte may be counted twice while the consumer looks at its partitions, but
//! none is missed: a flush may come early, never too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A consumer that waits for records, in one partition or more. `C` is how it is woken.
#[derive(Debug)]
pub struct Reader<C> {
    consumer: C,
    lacking: AtomicI64,
}

impl<C> Reader<C> {
    /// A reader that is woken by changes, and for which no append is flushed.
    pub fn new(consumer: C) -> Arc<Self> {
        Arc::new(Self {
            consumer,
            lacking: AtomicI64::new(i64::MAX),
        })
    }

    /// How it is woken.
    pub fn consumer(&self) -> &C {
        &self.consumer
    }

    /// Sets how many bytes it lacks. To be called before it looks at its partitions.
    pub fn lacks(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lacking.store(bytes, Ordering::SeqCst);
    }

    /// Subtracts bytes that are there, or will be once they are flushed. Returns whether it lacks no more.
    pub fn gets(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lacking.fetch_sub(bytes, Ordering::SeqCst) <= bytes
    }
}
