//! Whether a follower takes records, in its Fetch requests: below its reserve it asks its leader to take it out of the ISR.
//! It is a tagged field of the partition that only Ottla knows. Apache Kafka ignores it, and takes the follower out when it
//! lags for long.

use ottla_protocol::messages::field::RawTaggedField;

use super::own_field;

/// Beside that of the flushed offset.
const TAG: u32 = own_field::FIRST + 1;

/// The field of a follower without room.
pub fn field() -> RawTaggedField {
    own_field::field(TAG, &[])
}

/// Whether the field is among the unknown fields of a partition.
pub fn is_in(fields: &[RawTaggedField]) -> bool {
    own_field::find::<0>(TAG, fields).is_some()
}
