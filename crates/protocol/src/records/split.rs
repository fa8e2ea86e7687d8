//! Splits bytes into batches; ends with an error at the first bytes that are not a batch.

use super::batch::BatchView;
use super::header::{BATCH_OVERHEAD, BatchHeader, HEADER_UP_TO_LENGTH, HEADER_UP_TO_MAGIC, MAGIC};
use thiserror::Error;

/// The smallest length field of any record format. Bytes with a smaller one are not a batch.
const SMALLEST_LENGTH: i32 = 14;

/// Why bytes do not begin with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end inside the batch, as after a fetch with a size limit or a torn write.
    #[error("the bytes end after {available} of a batch of {needed}")]
    Incomplete {
        /// The number of bytes there are.
        available: usize,
        /// The number of bytes that the batch needs, as far as it is known.
        needed: usize,
    },
    /// The length field is impossible.
    #[error("a batch cannot have the length {0}")]
    Length(i32),
    /// The record format is unknown (above 2 or negative).
    #[error("no record format has the magic {0}")]
    UnknownMagic(i8),
    /// A message set of Kafka 0.10 or older.
    #[error("record format {0} is older than the record batches of Kafka 0.11")]
    LegacyMagic(i8),
}

/// The batches in `bytes`, first to last.
pub fn split_batches(bytes: &[u8]) -> SplitBatches<'_> {
    SplitBatches {
        rest: bytes,
        position: 0,
    }
}

/// Yields batches until the bytes end, or ends after one error.
#[derive(Debug, Clone)]
pub struct SplitBatches<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> SplitBatches<'a> {
    /// The position after the batches yielded so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes after the batches yielded so far.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for SplitBatches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = BatchView::first(self.rest);
        match &batch {
            Ok(batch) => {
                self.position += batch.size();
                self.rest = self.rest.get(batch.size()..).unwrap_or_default();
            }
            Err(_) => self.rest = &[],
        }
        Some(batch)
    }
}

/// The size of the batch at the front of `bytes`, from its first 17 bytes.
pub(super) fn size_of_first(bytes: &[u8]) -> Result<usize, BatchError> {
    let incomplete = |needed| BatchError::Incomplete {
        available: bytes.len(),
        needed,
    };
    let (_, after_offset) = bytes
        .split_at_checked(8)
        .ok_or(incomplete(HEADER_UP_TO_LENGTH))?;
    let length = i32::from_be_bytes(
        *after_offset
            .first_chunk()
            .ok_or(incomplete(HEADER_UP_TO_LENGTH))?,
    );
    if length < SMALLEST_LENGTH {
        return Err(BatchError::Length(length));
    }
    let magic = *bytes
        .get(HEADER_UP_TO_MAGIC - 1)
        .ok_or(incomplete(HEADER_UP_TO_MAGIC))? as i8;
    match magic {
        MAGIC => {}
        0 | 1 => return Err(BatchError::LegacyMagic(magic)),
        _ => return Err(BatchError::UnknownMagic(magic)),
    }
    let size = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(HEADER_UP_TO_LENGTH));
    match size {
        Some(size) if size >= BATCH_OVERHEAD => Ok(size),
        _ => Err(BatchError::Length(length)),
    }
}

/// Header and whole bytes of the batch at the front of `bytes`.
pub(super) fn first(bytes: &[u8]) -> Result<(BatchHeader, &[u8]), BatchError> {
    let size = size_of_first(bytes)?;
    let incomplete = BatchError::Incomplete {
        available: bytes.len(),
        needed: size,
    };
    let batch = bytes.get(..size).ok_or(incomplete)?;
    let header = batch.first_chunk().ok_or(incomplete)?;
    Ok((BatchHeader::decode(header), batch))
}
