//! A consumer that waits at the end of partitions, and the number of bytes that it still needs.
//!
//! Each append subtracts its bytes. When none are needed any more, the append asks for a flush, after which the
//! consumer can be answered. A byte may be counted twice while the consumer reads its partitions, but none is missed: a
//! flush may come early, never too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A consumer that waits for records in one or more partitions. `C` is the handle that wakes it.
#[derive(Debug)]
pub struct Reader<C> {
    consumer: C,
    lacking: AtomicI64,
}

impl<C> Reader<C> {
    /// A reader that is woken by changes, and for which no append asks for a flush.
    pub fn new(consumer: C) -> Arc<Self> {
        Arc::new(Self {
            consumer,
            lacking: AtomicI64::new(i64::MAX),
        })
    }

    pub fn consumer(&self) -> &C {
        &self.consumer
    }

    /// Sets the number of bytes that it needs. Call this before it reads its partitions.
    pub fn lacks(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lacking.store(bytes, Ordering::SeqCst);
    }

    /// Subtracts bytes that were appended; returns whether it needs no more.
    pub fn gets(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lacking.fetch_sub(bytes, Ordering::SeqCst) <= bytes
    }
}
