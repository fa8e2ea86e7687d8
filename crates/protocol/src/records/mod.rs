//! Record batches (magic 2): a checked view over bytes, lazy records, compression, building, produce validation.
//!
//! The bytes come from the network or from disk. No input makes this code panic, or allocate more than the caller's
//! limit.

#![deny(clippy::indexing_slicing)]

mod batch;
mod builder;
mod compression;
pub mod control;
mod header;
mod lz4;
mod record;
mod snappy;
mod split;
mod validate;
pub mod varint;

pub use batch::{BatchView, set_base_offset, set_partition_leader_epoch};
pub use builder::{BatchBuilder, BatchOptions};
pub use compression::{Compression, CompressionLevel, DecompressError, Decompressor};
pub use header::{
    BATCH_OVERHEAD, BatchHeader, HEADER_UP_TO_LENGTH, HEADER_UP_TO_MAGIC, MAGIC, TimestampType,
    increment_sequence,
};
pub use record::{Header, Headers, Record, RecordError, Records};
pub use split::{BatchError, SplitBatches, split_batches};
pub use validate::{
    KeyRule, ProduceRules, RecordRejection, RejectedBatch, TargetCompression, ValidBatch,
    ValidBody, first_batch, validate,
};
