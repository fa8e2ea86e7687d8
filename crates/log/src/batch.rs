//! Record batches as the log sees them: a head that says what it needs, and a body that it never looks into.
//!
//! The layout is `protocol::records`'. This adds what a log must be sure of before it trusts a head from disk: that
//! the length is possible, that offsets do not go backwards, that the checksum is the content's.

use ottla_protocol::ids::Offset;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{
    self, BATCH_OVERHEAD, BatchHeader, BatchView, Compression, Decompressor, Records, ValidBatch,
};
use ottla_protocol::time::Timestamp;

/// A batch that may be appended: its head, of which the log sets base offset and leader epoch, and what follows.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The head.
    pub header: BatchHeader,
    /// All bytes after the head.
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
    /// They are no batch, or not all of one.
    #[error(transparent)]
    Framing(#[from] records::BatchError),
    /// Offsets that no log can have.
    #[error(
        "a batch cannot have the base offset {base_offset} and the last offset delta {last_offset_delta}"
    )]
    Offsets {
        /// The first offset.
        base_offset: i64,
        /// The last offset less the first.
        last_offset_delta: i32,
    },
    /// The offsets of the batch before are not lower.
    #[error("offset {base_offset} follows where {expected} or later must")]
    OutOfOrder {
        /// The first offset.
        base_offset: i64,
        /// The offset after the batch before.
        expected: i64,
    },
    /// The checksum is not the content's.
    #[error("the stored checksum is {stored:08x}, the content's {computed:08x}")]
    Checksum {
        /// What the head says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
}

impl BatchError {
    /// Whether this is a batch of Kafka 0.10 or older, which is sound but not understood.
    pub fn is_legacy(&self) -> bool {
        matches!(self, Self::Framing(records::BatchError::LegacyMagic(_)))
    }
}

/// A batch's head and size, from the first 61 bytes or more; what follows them need not be there.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<(BatchHeader, usize), BatchError> {
    let available = bytes.len();
    let Some(head) = bytes.first_chunk() else {
        // Too short for a head, but perhaps long enough to tell what it is.
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

/// The batch at the start of `bytes`, its checksum compared.
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

/// How a transaction ended, as its marker says.
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
    /// Its bytes without its length field.
    pub size: usize,
    pub limit: usize,
}

/// The first record of a batch with a timestamp of at least `timestamp` and an offset of at least `from`. Of a batch
/// that cannot be read, its first offset. In a compressed one a record of more than `limit` bytes ends the search.
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
