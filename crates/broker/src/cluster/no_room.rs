//! Whether a follower takes records, in its Fetch requests: below its reserve it asks its leader to take it out of the ISR.
//! It is a tagged field of the partition that only Ottla knows. Apache Kafka ignores it, and takes the follower out when it
//! lags for long.

use bytes::Bytes;
use ottla_protocol::messages::field::RawTaggedField;

/// Far above the tags that Kafka uses, beside that of the flushed offset.
const TAG: u32 = 10_001;

/// The field of a follower without room.
pub fn field() -> RawTaggedField {
    RawTaggedField {
        tag: TAG,
        data: Bytes::new(),
    }
}

/// Whether the field is among the unknown fields of a partition.
pub fn is_in(fields: &[RawTaggedField]) -> bool {
    fields.iter().any(|field| field.tag == TAG)
}
