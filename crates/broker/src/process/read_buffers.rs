//! Reusable buffers for records that were read and wait to be sent. They are reused because a new buffer of a megabyte costs
//! as much time, in page faults and zeroing, as reading into it.
//!
//! The bytes in use are bounded over all connections; each thread may exceed the bound by one read. The bytes that are kept
//! for reuse are bounded too. Small reads get a new buffer, which is not kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Smaller reads get a new buffer, which is not kept.
const SMALLEST: usize = 32 << 10;
/// Larger buffers are not kept.
const LARGEST: usize = 4 << 20;
/// Upper bound of the bytes that are kept for later reads.
const KEPT_BYTES: usize = 16 << 20;

/// The unused buffers of a broker, and the number of bytes in those that are in use.
#[derive(Debug)]
pub struct ReadBuffers {
    limit: usize,
    lent: AtomicUsize,
    unused: Mutex<Unused>,
}

#[derive(Debug, Default)]
struct Unused {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// A buffer in use. It is given back when the last slice of it has been sent.
struct Lent {
    buffer: Vec<u8>,
    used: usize,
    /// The bytes that count against the limit; the buffer may be larger.
    size: usize,
    home: Arc<ReadBuffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.used]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.lent.fetch_sub(self.size, Ordering::Relaxed);
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

impl ReadBuffers {
    /// No buffers yet; `limit` bytes may be in use.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            lent: AtomicUsize::new(0),
            unused: Mutex::default(),
        })
    }

    /// Whether the limit is reached. Reads that can be avoided should then be avoided.
    pub fn are_spent(&self) -> bool {
        self.lent.load(Ordering::Relaxed) >= self.limit
    }

    /// Lets `read` fill a buffer of `size` bytes; it returns how many bytes it has filled.
    pub fn read<E>(
        self: &Arc<Self>,
        size: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Bytes, E> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        self.lent.fetch_add(size, Ordering::Relaxed);
        let buffer = if size < SMALLEST {
            vec![0; size]
        } else {
            self.take(size)
        };
        let mut lent = Lent {
            buffer,
            used: 0,
            size,
            home: Arc::clone(self),
        };
        lent.used = read(&mut lent.buffer[..size])?;
        Ok(Bytes::from_owner(lent))
    }

    fn take(&self, size: usize) -> Vec<u8> {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = unused
            .buffers
            .iter()
            .rposition(|buffer| buffer.len() >= size);
        match fitting {
            Some(place) => {
                let buffer = unused.buffers.swap_remove(place);
                unused.bytes -= buffer.len();
                buffer
            }
            None => vec![0; size.next_power_of_two()],
        }
    }

    fn give_back(&self, buffer: Vec<u8>) {
        if buffer.len() < SMALLEST {
            return;
        }
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() <= LARGEST && unused.bytes + buffer.len() <= KEPT_BYTES {
            unused.bytes += buffer.len();
            unused.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_BYTES, LARGEST, ReadBuffers};
    use std::convert::Infallible;
    use std::sync::Arc;

    fn filled(buffers: &Arc<ReadBuffers>, size: usize, with: u8) -> bytes::Bytes {
        let read = |buffer: &mut [u8]| {
            buffer.fill(with);
            Ok::<_, Infallible>(buffer.len() - 1)
        };
        buffers.read(size, read).unwrap()
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_sees_it() {
        let buffers = ReadBuffers::new(1 << 30);
        let first = filled(&buffers, 100_000, 1);
        let address = first.as_ptr();
        let second = filled(&buffers, 100_000, 2);
        assert_ne!(second.as_ptr(), address);
        let piece = first.slice(10..20);
        drop(first);
        assert_ne!(filled(&buffers, 100_000, 3).as_ptr(), address);
        assert_eq!(piece, [1; 10].as_slice());
        drop(piece);
        assert_eq!(filled(&buffers, 100_000, 4).as_ptr(), address);
        assert_eq!(second.len(), 99_999);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = ReadBuffers::new(1 << 30);
        let all: Vec<_> = (0..10).map(|_| filled(&buffers, LARGEST, 0)).collect();
        drop(all);
        drop(filled(&buffers, LARGEST + 1, 0));
        assert_eq!(buffers.unused.lock().unwrap().bytes, KEPT_BYTES);
    }

    #[test]
    fn what_is_lent_counts_until_its_last_piece_is_gone() {
        let buffers = ReadBuffers::new(100_000);
        let small = filled(&buffers, 1000, 1);
        let large = filled(&buffers, 99_500, 2);
        assert!(buffers.are_spent());
        let piece = large.slice(..10);
        drop(large);
        assert!(buffers.are_spent());
        drop(piece);
        assert!(!buffers.are_spent());
        drop(small);
        let failed = buffers.read(200_000, |_| Err::<usize, ()>(()));
        assert!(failed.is_err() && !buffers.are_spent());
    }
}
