//! Buffers for records that were read and wait to be sent, used again: a fresh one of a megabyte costs as much in
//! page faults and zeroing as reading into it.
//!
//! What is lent is bounded over all connections, and passed by no more than one read a thread; what is kept is bounded
//! too. Small reads get a buffer of their own and are not kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Reads below this get a buffer of their own.
const SMALLEST: usize = 32 << 10;
/// A buffer larger than this is not kept.
const LARGEST: usize = 4 << 20;
/// The bytes that are kept for later reads.
const KEPT_BYTES: usize = 16 << 20;

/// The buffers of one broker: those that are not in use, and how much the others hold.
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

/// A buffer that goes back when the last piece of it has been sent.
struct Lent {
    buffer: Vec<u8>,
    used: usize,
    /// What it counts for; less than the buffer may hold.
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
    /// No buffers yet; `limit` bytes may be lent at a time.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            lent: AtomicUsize::new(0),
            unused: Mutex::default(),
        })
    }

    /// Whether as much is lent as may be: who can do without a buffer should.
    pub fn are_spent(&self) -> bool {
        self.lent.load(Ordering::Relaxed) >= self.limit
    }

    /// Has `read` fill a buffer of `size` bytes; what it returns says how many of them count.
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
