//! A view over the bytes of one batch.
//!
//! The bytes are exactly one batch of magic 2 with a whole header. Only `is_crc_valid` checks the CRC, and only a walk
//! over the records parses them.

use super::compression::{Compression, DecompressError, Decompressor};
use super::header::{BATCH_OVERHEAD, BatchHeader, CRC_COVERS_FROM};
use super::record::Records;
use super::split::{self, BatchError};
use crate::ids::{LeaderEpoch, Offset};

/// One batch: its header, decoded, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the front of `bytes`.
    pub fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let (header, bytes) = split::first(bytes)?;
        Ok(Self { header, bytes })
    }

    /// The decoded header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, with its header.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The size of the whole batch.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The records as they are stored, perhaps compressed.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(BATCH_OVERHEAD..).unwrap_or_default()
    }

    /// Whether the stored CRC is right.
    pub fn is_crc_valid(&self) -> bool {
        self.compute_crc() == self.header.crc
    }

    /// The CRC-32C of everything from the attributes on.
    pub fn compute_crc(&self) -> u32 {
        crc_fast::crc32_iscsi(self.bytes.get(CRC_COVERS_FROM..).unwrap_or_default())
    }

    /// The records. Compressed ones are decompressed into `decompressor`, to at most `limit` bytes.
    pub fn records<'s>(
        &self,
        decompressor: &'s mut Decompressor,
        limit: usize,
    ) -> Result<Records<'s>, DecompressError>
    where
        'a: 's,
    {
        let id = self.header.compression_id();
        let bytes = match Compression::from_id(id).ok_or(DecompressError::UnknownCompression(id))? {
            Compression::None => self.body(),
            compression => decompressor.decompress(compression, self.body(), limit)?,
        };
        Ok(Records::new(&self.header, bytes))
    }

    /// The records of an uncompressed batch; `None` for a compressed one.
    pub fn plain_records(&self) -> Option<Records<'a>> {
        (self.header.compression() == Some(Compression::None))
            .then(|| Records::new(&self.header, self.body()))
    }
}

/// Sets the base offset of the batch at the front of `batch`; the CRC does not cover it.
pub fn set_base_offset(batch: &mut [u8; BATCH_OVERHEAD], offset: Offset) {
    if let Some(field) = batch.first_chunk_mut::<8>() {
        *field = offset.0.to_be_bytes();
    }
}

/// Sets the partition leader epoch of the batch at the front of `batch`; the CRC does not cover it.
pub fn set_partition_leader_epoch(batch: &mut [u8; BATCH_OVERHEAD], epoch: LeaderEpoch) {
    if let Some(field) = batch.get_mut(12..16) {
        field.copy_from_slice(&epoch.0.to_be_bytes());
    }
}
