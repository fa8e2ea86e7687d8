//! Splits a batch that is too large for the broker.

use bytes::Bytes;
use ottla_protocol::records::{
    BatchBuilder, BatchOptions, BatchView, Decompressor, Record, increment_sequence,
};

use super::batch::Sealed;
use super::options::ProducerOptions;

/// The most bytes that one of our batches may unpack to.
const MAX_UNPACKED_BYTES: usize = 1 << 30;

/// The records of a batch, of which there must be at least two, as two batches. Each record keeps its sequence number.
pub(super) fn in_halves(
    batch: &Sealed,
    options: &ProducerOptions,
    decompressor: &mut Decompressor,
) -> [Sealed; 2] {
    let view = BatchView::first(&batch.bytes).expect("a batch that was built here");
    let header = *view.header();
    let records = view.records(decompressor, MAX_UNPACKED_BYTES);
    let records = records.expect("a batch that was built here");
    let records: Vec<Record<'_>> = records
        .map(|record| record.expect("a record that was appended here"))
        .collect();
    let middle = records.len() / 2;
    let half = |range: std::ops::Range<usize>| {
        let first = i32::try_from(range.start).expect("a batch has fewer than 2^31 records");
        let base_sequence = match header.base_sequence {
            sequence if sequence < 0 => sequence,
            sequence => increment_sequence(sequence, first),
        };
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: options.compression,
            level: options
                .level
                .unwrap_or_else(|| options.compression.default_level()),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence,
            ..BatchOptions::default()
        });
        for record in &records[range.clone()] {
            builder.append_record(record);
        }
        Sealed {
            bytes: Bytes::from(builder.build().expect("half of two or more is not empty")),
            tickets: batch.tickets[range].to_vec(),
            deadline: batch.deadline,
            is_in_doubt: batch.is_in_doubt,
        }
    };
    [half(0..middle), half(middle..records.len())]
}
