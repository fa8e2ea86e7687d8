//! Which pieces of log files are in memory or being read, and what is read ahead. It decides; `cold_reads.rs` reads.
//!
//! Pieces begin at multiples of `SIZE`, so that readers close to each other share them. Invariants:
//!
//! - A piece has only bytes below the high watermark. They change only when the log is truncated, and it opens its file
//!   again then. So a piece stays true for as long as its open file is used.
//! - At most `KEPT` pieces are kept; a new one takes the place of the oldest.
//! - At most `MOST_AHEAD` pieces are read ahead and not asked for yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use ottla_log::ReadPlan;
use ottla_log::files::Files;
use tokio::sync::watch;

/// The bytes of a piece: one request to the disk. A quarter of a millisecond on a fast disk.
pub(super) const SIZE: usize = 512 << 10;
/// Pieces that are kept, of each log directory.
const KEPT: usize = 24;
/// Pieces that are read ahead of one reader.
const AHEAD: u64 = 4;
/// Pieces that are read ahead of all readers. With more readers than that, nothing is read ahead of some.
const MOST_AHEAD: usize = 12;

#[derive(Debug)]
pub(super) struct Pieces<H> {
    /// Oldest first.
    kept: Mutex<VecDeque<Kept<H>>>,
}

#[derive(Debug)]
struct Kept<H> {
    /// While this exists, no other file has the same address.
    file: Weak<H>,
    piece: Piece,
    was_asked_for: bool,
}

/// A piece that is in memory or being read.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    position: u64,
    /// Behind its last byte.
    end: u64,
    bytes: watch::Receiver<Option<Bytes>>,
}

/// What a reader asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) position: u64,
    /// Where the reader's own request ends.
    pub(super) end: u64,
    /// Where the bytes end that never change.
    pub(super) committed_end: u64,
}

/// What a reader gets.
#[derive(Debug)]
pub(super) struct Answer {
    /// The piece with the position that was asked for.
    pub(super) piece: Piece,
    /// What must be read now: that piece, if it is new, and what is read ahead.
    pub(super) unread: Vec<Unread>,
}

/// A piece that must be read. If it is dropped instead, the piece has failed.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) position: u64,
    length: usize,
    is_ahead: bool,
    bytes: watch::Sender<Option<Bytes>>,
}

impl Asked {
    /// The bytes of a plan from `position` on.
    pub(super) fn of<F: Files>(plan: &ReadPlan<F>, position: u64) -> Self {
        let end = plan.position + plan.length as u64;
        Self {
            position,
            end,
            committed_end: plan.committed_end,
        }
    }
}

impl<H> Default for Pieces<H> {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
        }
    }
}

impl<H> Pieces<H> {
    /// Whether the byte at `position` is in memory or being read.
    pub(super) fn has(&self, file: &Arc<H>, position: u64) -> bool {
        let mut kept = self.lock();
        find(&mut kept, file, position).is_some()
    }

    /// The piece that a reader asks for; `None` if its bytes may change. A reader that goes on where an earlier one ended is
    /// read ahead of.
    pub(super) fn ask(&self, file: &Arc<H>, asked: &Asked) -> Option<Answer> {
        if asked.position >= asked.committed_end {
            return None;
        }
        let mut kept = self.lock();
        kept.retain(|kept| !kept.piece.has_failed());
        let start = asked.position - asked.position % SIZE as u64;
        let goes_on = find(&mut kept, file, start).is_some()
            || find(&mut kept, file, start.saturating_sub(1)).is_some();
        let mut unread = Vec::new();
        let piece = if let Some(known) = find(&mut kept, file, asked.position) {
            known.was_asked_for = true;
            known.piece.clone()
        } else {
            let (piece, new) = Piece::new(start, asked.committed_end, false);
            unread.push(new);
            keep(&mut kept, file, piece.clone(), true);
            piece
        };
        let end = if goes_on {
            asked.committed_end
        } else {
            asked.end.min(asked.committed_end)
        };
        for nth in 1..=AHEAD {
            let start = start + nth * SIZE as u64;
            let ahead = kept.iter().filter(|kept| !kept.was_asked_for).count();
            if start >= end || ahead >= MOST_AHEAD {
                break;
            }
            if find(&mut kept, file, start).is_none() {
                let (piece, new) = Piece::new(start, asked.committed_end, true);
                unread.push(new);
                keep(&mut kept, file, piece, false);
            }
        }
        Some(Answer { piece, unread })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept<H>>> {
        // Held for a change in memory only.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The piece of `file` with the byte at `position`.
fn find<'a, H>(
    kept: &'a mut VecDeque<Kept<H>>,
    file: &Arc<H>,
    position: u64,
) -> Option<&'a mut Kept<H>> {
    let file = Arc::as_ptr(file);
    kept.iter_mut().find(|kept| {
        let range = kept.piece.position..kept.piece.end;
        range.contains(&position) && std::ptr::eq(kept.file.as_ptr(), file)
    })
}

/// Keeps a new piece in place of the oldest.
fn keep<H>(kept: &mut VecDeque<Kept<H>>, file: &Arc<H>, piece: Piece, was_asked_for: bool) {
    kept.push_back(Kept {
        file: Arc::downgrade(file),
        piece,
        was_asked_for,
    });
    if kept.len() > KEPT {
        kept.pop_front();
    }
}

impl Piece {
    /// A piece from `position` on, as far as there are bytes that never change.
    fn new(position: u64, committed_end: u64, is_ahead: bool) -> (Self, Unread) {
        let (sender, bytes) = watch::channel(None);
        let end = committed_end.min(position + SIZE as u64);
        let unread = Unread {
            position,
            length: usize::try_from(end - position).unwrap_or(SIZE),
            is_ahead,
            bytes: sender,
        };
        let piece = Self {
            position,
            end,
            bytes,
        };
        (piece, unread)
    }

    fn has_failed(&self) -> bool {
        self.bytes.has_changed().is_err() && self.bytes.borrow().is_none()
    }

    /// At most `length` bytes from `position` on; `None` if the piece has not been read.
    pub(super) fn read(&self, position: u64, length: usize) -> Option<Bytes> {
        let bytes = self.bytes.borrow();
        Some(self.part(bytes.as_ref()?, position, length))
    }

    /// Waits for the same bytes; `None` if the piece failed.
    pub(super) async fn arrived(mut self, position: u64, length: usize) -> Option<Bytes> {
        let arrived = self.bytes.wait_for(Option::is_some).await;
        let bytes = arrived.ok().and_then(|bytes| bytes.clone())?;
        Some(self.part(&bytes, position, length))
    }

    fn part(&self, bytes: &Bytes, position: u64, length: usize) -> Bytes {
        let skipped = usize::try_from(position - self.position).unwrap_or(SIZE);
        let left = bytes.slice(skipped..);
        left.slice(..length.min(left.len()))
    }
}

impl Unread {
    /// Whether somebody still waits for it, or may come to it.
    pub(super) fn is_awaited(&self) -> bool {
        let readers = usize::from(!self.is_ahead);
        // The piece itself is kept too.
        self.bytes.receiver_count() > readers
    }

    /// Gives the bytes that were read from its position on to all who wait. Too few bytes are a failure.
    pub(super) fn arrives(self, bytes: &Bytes) {
        if bytes.len() >= self.length {
            self.bytes.send_replace(Some(bytes.slice(..self.length)));
        }
    }
}

#[cfg(test)]
mod tests;
