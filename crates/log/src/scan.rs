//! Walks the batches of a segment from a position on: headers only, or whole batches with their checksums.
//!
//! For finding an offset, for recovery, for `ottla log dump`. Memory is bounded by the largest batch.

use crate::batch::{BatchError, parse_checked, parse_header};
use crate::files::FileError;
use crate::look::Reading;
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BATCH_OVERHEAD, BatchError as Framing, BatchHeader, BatchView};

/// Bytes of one read when whole batches are walked.
const READ_AHEAD: usize = 1 << 20;

/// A walk over the batches of one file.
#[derive(Debug)]
pub struct Scan<'a, H> {
    file: &'a H,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

/// The header, position and size of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    pub header: BatchHeader,
    /// The position of the batch in the file.
    pub position: u64,
    /// The size of the whole batch in bytes.
    pub size: usize,
}

impl Located {
    /// Where the next batch begins.
    pub const fn end(&self) -> u64 {
        self.position + self.size as u64
    }
}

/// Why a walk cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] FileError),
    /// The bytes at this position are not a whole, sound batch.
    #[error("no batch at position {position}: {cause}")]
    Invalid {
        /// The position where a batch should begin.
        position: u64,
        /// What is wrong.
        cause: BatchError,
    },
}

impl ScanError {
    /// The error for a batch at `position` with base offset `found` where `expected` or a later one must be.
    pub(crate) fn out_of_order(position: u64, found: Offset, expected: Offset) -> Self {
        let cause = BatchError::OutOfOrder {
            base_offset: found.0,
            expected: expected.0,
        };
        Self::Invalid { position, cause }
    }
}

impl<'a, H: Reading> Scan<'a, H> {
    /// Walks `file` from `position`, where a batch begins, to `end`.
    pub fn new(file: &'a H, position: u64, end: u64) -> Self {
        Self {
            file,
            position,
            end,
            buffer: Vec::new(),
            buffer_start: 0,
        }
    }

    /// Where the next batch begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Continues at `position`, where a batch begins.
    pub(crate) fn go_to(&mut self, position: u64) {
        self.position = position;
    }

    /// The bytes of the batch that [`Scan::next_batch`] or [`Scan::next_framed`] returned last.
    pub(crate) fn bytes_of(&self, last: &Located) -> &[u8] {
        self.loaded(last.position)
            .get(..last.size)
            .unwrap_or_default()
    }

    /// The header of the next batch; its records are not read.
    pub fn next_header(&mut self) -> Result<Option<Located>, ScanError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        let mut bytes = [0; BATCH_OVERHEAD];
        let read = self.file.bytes_at(&mut bytes, position)?;
        let header = parse_header(bytes.get(..read).unwrap_or_default());
        let (header, size) = header.map_err(|cause| ScanError::Invalid { position, cause })?;
        self.step(Located {
            header,
            position,
            size,
        })
        .map(Some)
    }

    /// The next whole batch, with its checksum verified.
    pub fn next_batch(&mut self) -> Result<Option<(Located, BatchView<'_>)>, ScanError> {
        let position = self.position;
        let Some((located, _)) = self.next_framed()? else {
            return Ok(None);
        };
        let checked = parse_checked(self.loaded(position)).err();
        if let Some(cause) = checked {
            self.position = position;
            return Err(ScanError::Invalid { position, cause });
        }
        let batch = BatchView::first(self.loaded(position)).expect("a batch that was just checked");
        Ok(Some((located, batch)))
    }

    /// The next whole batch, without its checksum verified.
    pub(crate) fn next_framed(&mut self) -> Result<Option<(Located, &[u8])>, ScanError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        self.load(position, BATCH_OVERHEAD)?;
        let header = parse_header(self.loaded(position));
        let (header, size) = header.map_err(|cause| ScanError::Invalid { position, cause })?;
        let located = Located {
            header,
            position,
            size,
        };
        self.step(located)?;
        self.load(position, size)?;
        let available = self.loaded(position).len();
        if available < size {
            self.position = position;
            let cause = Framing::Incomplete {
                available,
                needed: size,
            };
            let cause = cause.into();
            return Err(ScanError::Invalid { position, cause });
        }
        let bytes = self.loaded(position).get(..size).unwrap_or_default();
        Ok(Some((located, bytes)))
    }

    fn step(&mut self, located: Located) -> Result<Located, ScanError> {
        let position = located.position;
        if located.end() > self.end {
            let available = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            let cause = Framing::Incomplete {
                available,
                needed: located.size,
            }
            .into();
            return Err(ScanError::Invalid { position, cause });
        }
        self.position = located.end();
        Ok(located)
    }

    fn loaded(&self, position: u64) -> &[u8] {
        let skip = usize::try_from(position - self.buffer_start).unwrap_or(usize::MAX);
        self.buffer.get(skip..).unwrap_or_default()
    }

    /// Loads `count` bytes from `position` into the buffer; fewer if the file ends.
    fn load(&mut self, position: u64, count: usize) -> Result<(), FileError> {
        let buffered_to = self.buffer_start + self.buffer.len() as u64;
        if position >= self.buffer_start && position + count as u64 <= buffered_to {
            return Ok(());
        }
        let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
        self.buffer.resize(count.max(READ_AHEAD).min(left), 0);
        self.buffer_start = position;
        let read = self.file.bytes_at(&mut self.buffer, position)?;
        self.buffer.truncate(read);
        Ok(())
    }
}
