//! Record batches as the log sees them: it reads and changes the header, and does not look into the records.
//!
//! The layout is in `protocol::records`. This file adds the checks that a batch from disk must pass: its length is
//! possible, its offsets do not go back, and its checksum is right.

use ottla_protocol::ids::Offset;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{
    self, BATCH_OVERHEAD, BatchHeader, BatchView, Compression, Decompressor, Records, ValidBatch,
};
use ottla_protocol::time::Timestamp;

/// A batch that may be appended. The log sets the base offset and the leader epoch in its header.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub header: BatchHeader,
    /// All bytes after the header.
    pub body: &'a [u8],
}

impl<'a> From<&'a ValidBatch<'_>> for Batch<'a> {
    fn from(batch: &'a ValidBatch<'_>) -> Self {
        Self {
            header: batch.header,
            body: batch.body.bytes(),
        }
    }
}

impl<'a> From<BatchView<'a>> for Batch<'a> {
    fn from(batch: BatchView<'a>) -> Self {
        Self {
            header: *batch.header(),
            body: batch.body(),
        }
    }
}

impl Batch<'_> {
    /// The bytes that it takes in the log.
    pub fn size(&self) -> u64 {
        (BATCH_OVERHEAD + self.body.len()) as u64
    }
}

/// Why bytes are not a batch that the log may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// They are not a batch, or not a whole one.
    #[error(transparent)]
    Framing(#[from] records::BatchError),
    /// The offsets are negative or overflow.
    #[error(
        "a batch cannot have the base offset {base_offset} and the last offset delta {last_offset_delta}"
    )]
    Offsets {
        base_offset: i64,
        last_offset_delta: i32,
    },
    /// The batch begins at a lower offset than where the batch before it ends.
    #[error("offset {base_offset} follows where {expected} or later must")]
    OutOfOrder {
        base_offset: i64,
        /// The offset after the last record of the batch before.
        expected: i64,
    },
    /// The checksum is not the content's.
    #[error("the stored checksum is {stored:08x}, the content's {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
}

impl BatchError {
    /// Whether bytes are missing at the end.
    pub fn is_cut_off(&self) -> bool {
        matches!(self, Self::Framing(records::BatchError::Incomplete { .. }))
    }

    /// Whether this is a batch in the format of Kafka 0.10 or older, which this release does not read.
    pub fn is_legacy(&self) -> bool {
        matches!(self, Self::Framing(records::BatchError::LegacyMagic(_)))
    }
}

/// The header and the size of the batch at the start of `bytes`, which must hold its first 61 bytes; the rest may be
/// missing.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<(BatchHeader, usize), BatchError> {
    let available = bytes.len();
    let Some(head) = bytes.first_chunk() else {
        // Too short for a header, but perhaps long enough to tell the format.
        let found = BatchView::first(bytes).err();
        let cut = records::BatchError::Incomplete {
            available,
            needed: BATCH_OVERHEAD,
        };
        return Err(found.unwrap_or(cut).into());
    };
    let header = BatchHeader::decode(head);
    let size = match (header.magic, header.size()) {
        (0 | 1, _) => Err(records::BatchError::LegacyMagic(header.magic)),
        (records::MAGIC, Some(size)) => Ok(size),
        (records::MAGIC, None) => Err(records::BatchError::Length(header.length)),
        _ => Err(records::BatchError::UnknownMagic(header.magic)),
    }?;
    let BatchHeader {
        base_offset,
        last_offset_delta,
        ..
    } = header;
    if base_offset < 0 || last_offset_delta < 0 || base_offset > i64::MAX - (1 << 32) {
        return Err(BatchError::Offsets {
            base_offset,
            last_offset_delta,
        });
    }
    Ok((header, size))
}

/// The batch at the start of `bytes`, with its checksum verified.
pub(crate) fn parse_checked(bytes: &[u8]) -> Result<BatchView<'_>, BatchError> {
    parse_header(bytes)?;
    let batch = BatchView::first(bytes)?;
    let (stored, computed) = (batch.header().crc, batch.compute_crc());
    if stored != computed {
        return Err(BatchError::Checksum { stored, computed });
    }
    Ok(batch)
}

/// Sequence numbers wrap from 0 to the largest.
pub(crate) fn subtract_sequence(sequence: i32, count: i32) -> i32 {
    let difference = i64::from(sequence) - i64::from(count);
    let wrapped = if difference < 0 {
        difference + i64::from(i32::MAX) + 1
    } else {
        difference
    };
    i32::try_from(wrapped).unwrap_or(i32::MAX)
}

/// The end of a transaction, from its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndMarker {
    pub(crate) is_abort: bool,
    pub(crate) coordinator_epoch: i32,
    pub(crate) timestamp: Timestamp,
}

/// The marker in a control batch; `None` when the batch holds none, or another kind of control record.
pub(crate) fn end_marker(batch: &Batch<'_>) -> Option<EndMarker> {
    let record = Records::new(&batch.header, batch.body).next()?.ok()?;
    let (is_abort, marker) = match ControlRecord::decode(record.key, record.value).ok()? {
        ControlRecord::Abort(marker) => (true, marker),
        ControlRecord::Commit(marker) => (false, marker),
        _ => return None,
    };
    let timestamp = Timestamp(record.timestamp);
    Some(EndMarker {
        is_abort,
        coordinator_epoch: marker.coordinator_epoch,
        timestamp,
    })
}

/// A batch on disk was validated when it was appended; this only keeps a damaged one from taking all memory.
pub(crate) const MAX_DECOMPRESSED: usize = 1 << 30;

/// A record of a compressed batch that is larger than `max.decompressed.message.bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the record at offset {offset} has {size} bytes, max.decompressed.message.bytes allows {limit}"
)]
pub struct RecordTooLarge {
    pub offset: Offset,
    pub size: usize,
    pub limit: usize,
}

/// The first record of a batch with a timestamp of at least `timestamp` and an offset of at least `from`. For a batch
/// that cannot be decompressed, it is the batch's first offset. In a compressed batch, a record of more than `limit`
/// bytes ends the search with an error.
pub(crate) fn first_record_at(
    batch: &BatchView<'_>,
    timestamp: Timestamp,
    from: Offset,
    limit: usize,
) -> Result<Option<(Offset, Timestamp)>, RecordTooLarge> {
    let header = batch.header();
    let is_plain = header.compression() == Some(Compression::None);
    let mut decompressor = Decompressor::default();
    let Ok(records) = batch.records(&mut decompressor, MAX_DECOMPRESSED) else {
        return Ok(Some((
            header.base_offset().max(from),
            Timestamp(header.max_timestamp),
        )));
    };
    for record in records.map_while(Result::ok) {
        let (offset, size) = (Offset(record.offset), record.length);
        if size > limit && !is_plain {
            return Err(RecordTooLarge {
                offset,
                size,
                limit,
            });
        }
        if record.timestamp >= timestamp.0 && offset >= from {
            return Ok(Some((offset, Timestamp(record.timestamp))));
        }
    }
    Ok(None)
}
