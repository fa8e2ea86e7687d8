//! Reads, decodes and builds batches of the metadata log.

use bytes::Bytes;
use ottla_log::files::{File, FileError};
use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::messages::RecordError as MetadataRecordError;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::records::control::{ControlError, ControlRecord};
use ottla_protocol::records::{
    BATCH_OVERHEAD, BatchBuilder, BatchError, BatchOptions, BatchView, DecompressError,
    Decompressor, RecordError,
};
use ottla_protocol::time::Timestamp;

/// The most bytes that a compressed batch may unpack to. Kafka itself does not compress these batches.
const DECOMPRESSED_LIMIT: usize = 64 * 1024 * 1024;
const CHUNK: usize = 256 * 1024;

/// Why a whole batch with the right CRC cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The records cannot be decompressed.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The batch does not hold as many records as its header says.
    #[error(transparent)]
    Batch(#[from] RecordError),
    /// A control record is malformed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A metadata record is malformed, or newer than this program.
    #[error(transparent)]
    Record(#[from] MetadataRecordError),
    /// A metadata record without a value.
    #[error("a metadata record has no value")]
    NoValue,
}

/// The records of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Data(Vec<MetadataRecord>),
    Control(Vec<ControlRecord>),
}

/// Decodes the records of a batch.
pub(crate) fn decode(batch: &BatchView<'_>) -> Result<Content, DecodeError> {
    let mut decompressor = Decompressor::default();
    let records = batch.records(&mut decompressor, DECOMPRESSED_LIMIT)?;
    if batch.header().is_control() {
        let decoded = records.map(|record| {
            let record = record?;
            Ok(ControlRecord::decode(record.key, record.value)?)
        });
        return decoded
            .collect::<Result<_, DecodeError>>()
            .map(Content::Control);
    }
    let decoded = records.map(|record| {
        let value = record?.value.ok_or(DecodeError::NoValue)?;
        Ok(MetadataRecord::decode(Bytes::copy_from_slice(value))?)
    });
    decoded
        .collect::<Result<_, DecodeError>>()
        .map(Content::Data)
}

/// The place and time of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) timestamp: Timestamp,
}

fn options(place: Place) -> BatchOptions {
    BatchOptions {
        base_offset: place.offset.0,
        partition_leader_epoch: place.epoch.0,
        ..BatchOptions::default()
    }
}

/// One control batch of these records.
pub(crate) fn control_batch(place: Place, records: &[ControlRecord]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions {
        is_control: true,
        ..options(place)
    });
    for record in records {
        let key = record.control_type().key();
        builder.append(
            place.timestamp.0,
            Some(&key),
            Some(&record.encode_value()),
            &[],
        );
    }
    builder.build().expect("a control batch has records")
}

/// Collects metadata records into one batch, in the record versions of a `metadata.version`.
pub(crate) struct DataBatch {
    builder: BatchBuilder,
    timestamp: Timestamp,
}

impl DataBatch {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            builder: BatchBuilder::new(options(place)),
            timestamp: place.timestamp,
        }
    }

    pub(crate) fn append(
        &mut self,
        record: &MetadataRecord,
        version: MetadataVersion,
    ) -> Result<(), MetadataRecordError> {
        let value = record.encode(version.record_version(record))?;
        self.builder
            .append(self.timestamp.0, None, Some(&value), &[]);
        Ok(())
    }

    pub(crate) fn size(&self) -> usize {
        self.builder.size()
    }

    pub(crate) fn record_count(&self) -> i32 {
        self.builder.record_count()
    }

    /// The batch; `None` if it has no records.
    pub(crate) fn build(self) -> Option<Vec<u8>> {
        self.builder.build()
    }
}

/// What the reader finds at its position.
pub(crate) enum Next<'a> {
    /// A whole batch with a valid CRC.
    Batch(BatchView<'a>),
    /// The end of the file.
    End,
    /// No valid batch.
    Bad(BadBatch),
}

/// Why there is no valid batch at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    /// No header, or a batch that the file does not hold whole.
    #[error(transparent)]
    Shape(#[from] BatchError),
    /// The bytes are damaged.
    #[error("the CRC does not fit the bytes")]
    Crc,
}

/// Reads a file batch by batch, in pieces of bounded size.
pub(crate) struct BatchReader<'a, F> {
    file: &'a F,
    length: u64,
    /// The position of the next batch in the file.
    position: u64,
    /// The bytes of the file from `buffered_from` on.
    buffer: Vec<u8>,
    buffered_from: u64,
}

impl<'a, F: File> BatchReader<'a, F> {
    pub(crate) fn new(file: &'a F) -> Result<Self, FileError> {
        Ok(Self {
            file,
            length: file.length()?,
            position: 0,
            buffer: Vec::new(),
            buffered_from: 0,
        })
    }

    /// The position of the next batch in the file.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The length of the file when the reader was made.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Skips `count` bytes.
    pub(crate) fn skip(&mut self, count: u64) {
        self.position += count;
    }

    /// The batch at the position. The position moves behind it only if the batch is valid.
    pub(crate) fn next(&mut self) -> Result<Next<'_>, FileError> {
        if self.position >= self.length {
            return Ok(Next::End);
        }
        let from = self.position;
        let mut needed = BATCH_OVERHEAD;
        loop {
            self.fill(from, needed)?;
            match BatchView::first(self.buffered(from)) {
                Err(BatchError::Incomplete { needed: more, .. })
                    if more > needed && from + more as u64 <= self.length =>
                {
                    needed = more;
                }
                _ => break,
            }
        }
        let (size, is_valid) = match BatchView::first(self.buffered(from)) {
            Ok(batch) => (batch.size(), batch.is_crc_valid()),
            Err(error) => return Ok(Next::Bad(error.into())),
        };
        if !is_valid {
            return Ok(Next::Bad(BadBatch::Crc));
        }
        self.position = from + size as u64;
        let batch = BatchView::first(self.buffered(from)).expect("it was whole a moment ago");
        Ok(Next::Batch(batch))
    }

    /// Buffers `count` bytes from `from` on, or all that the file has.
    fn fill(&mut self, from: u64, count: usize) -> Result<(), FileError> {
        if self.buffered(from).len() >= count {
            return Ok(());
        }
        let left = usize::try_from(self.length - from).unwrap_or(usize::MAX);
        self.buffer.clear();
        self.buffer.resize(count.max(CHUNK).min(left), 0);
        self.buffered_from = from;
        let read = self.file.read_at(&mut self.buffer, from)?;
        self.buffer.truncate(read);
        Ok(())
    }

    fn buffered(&self, from: u64) -> &[u8] {
        from.checked_sub(self.buffered_from)
            .and_then(|skipped| usize::try_from(skipped).ok())
            .and_then(|skipped| self.buffer.get(skipped..))
            .unwrap_or_default()
    }
}
