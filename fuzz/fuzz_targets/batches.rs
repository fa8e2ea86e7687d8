//! Fuzzes record batches with any compression, as producers send them and as recovery finds them in a segment.
//!
//! Length, magic and CRC are corrected first, because no fuzzer guesses them, and the code behind these checks must be
//! reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_protocol::records::{
    BATCH_OVERHEAD, BatchHeader, BatchView, Compression, CompressionLevel, Decompressor,
    HEADER_UP_TO_LENGTH, KeyRule, MAGIC, ProduceRules, TargetCompression, TimestampType,
    first_batch, split_batches, validate,
};
use ottla_protocol::time::Timestamp;

/// A larger limit would only find slow decompression.
const MAX_DECOMPRESSED: usize = 1024 * 1024;

fn rules(compression: TargetCompression) -> ProduceRules {
    ProduceRules {
        compression,
        keys: KeyRule::Optional,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        max_message_bytes: MAX_DECOMPRESSED,
        max_decompressed_bytes: MAX_DECOMPRESSED,
        max_record_bytes: MAX_DECOMPRESSED,
    }
}

fuzz_target!(|bytes: &[u8]| {
    // The input without corrections.
    for batch in split_batches(bytes).flatten() {
        let _ = batch.is_crc_valid();
    }
    let Some((header, body)) = bytes.split_first_chunk::<BATCH_OVERHEAD>() else {
        return;
    };
    let mut header = BatchHeader::decode(header);
    header.magic = MAGIC;
    header.length =
        i32::try_from(bytes.len() - HEADER_UP_TO_LENGTH).expect("fuzzed inputs are small");
    header.crc = header.compute_crc(body);
    let mut batch = header.encode().to_vec();
    batch.extend_from_slice(body);
    let view = BatchView::first(&batch).expect("the header is right now");
    let mut decompressor = Decompressor::default();
    if let Ok(records) = view.records(&mut decompressor, MAX_DECOMPRESSED) {
        for record in records.take(10_000).flatten() {
            let _ = record.headers.encoded();
        }
    }
    let Ok(view) = first_batch(&batch, 13) else {
        return;
    };
    let recompress = TargetCompression::Fixed(Compression::Lz4, CompressionLevel(9));
    for compression in [TargetCompression::Producer, recompress] {
        let _ = validate(&view, &rules(compression), Timestamp(0), &mut decompressor);
    }
});
