//! The memory for pieces of one log directory: reusable buffers at addresses that a direct read needs.
//!
//! At most `MOST_LENT` are in use. A new buffer costs as much, in page faults, as reading into it, so a few unused ones are
//! kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ottla_log::files::DIRECT_ALIGNMENT;

use super::pieces::SIZE;

/// Buffers in use: those of the pieces that are kept, and those that sockets have not taken yet.
const MOST_LENT: usize = 64;
/// Unused buffers that are kept.
const MOST_UNUSED: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    lent: AtomicUsize,
    unused: Mutex<Vec<Vec<u8>>>,
}

/// A buffer in use. It is given back when the last slice of it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where the aligned part begins.
    start: usize,
    used: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// A buffer; `None` if too many are in use.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Buffer> {
        if self.lent.fetch_add(1, Ordering::Relaxed) >= MOST_LENT {
            self.lent.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let unused = self.lock().pop();
        let bytes = unused.unwrap_or_else(|| vec![0; SIZE + DIRECT_ALIGNMENT]);
        Some(Buffer {
            start: bytes.as_ptr().align_offset(DIRECT_ALIGNMENT),
            used: 0,
            bytes,
            home: Arc::clone(self),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// Room for one piece.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + SIZE]
    }

    /// The first `used` bytes.
    pub(super) fn filled(mut self, used: usize) -> Bytes {
        self.used = used;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.used]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.lent.fetch_sub(1, Ordering::Relaxed);
        let mut unused = self.home.lock();
        if unused.len() < MOST_UNUSED {
            unused.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffers, DIRECT_ALIGNMENT, MOST_LENT, MOST_UNUSED};
    use std::sync::Arc;

    #[test]
    fn buffers_are_aligned_bounded_and_used_again() {
        let buffers = Arc::new(Buffers::default());
        let mut lent: Vec<_> = (0..MOST_LENT).filter_map(|_| buffers.lend()).collect();
        assert_eq!(lent.len(), MOST_LENT);
        for buffer in &mut lent {
            assert_eq!(buffer.room().as_ptr().align_offset(DIRECT_ALIGNMENT), 0);
        }
        assert!(buffers.lend().is_none());
        let mut last = lent.pop().unwrap();
        last.room()[..4].copy_from_slice(b"ends");
        let bytes = last.filled(3);
        assert_eq!(bytes.slice(1..), &b"nd"[..]);
        assert!(buffers.lend().is_none(), "its bytes are in use");
        drop((bytes, lent));
        assert_eq!(buffers.lock().len(), MOST_UNUSED);
        assert!(buffers.lend().is_some());
    }
}
