//! Tagged fields that only Ottla knows, in requests between nodes and the answers to them. Apache Kafka ignores them, as any
//! node ignores tagged fields that it does not know (KIP-482).

use bytes::Bytes;
use ottla_protocol::messages::field::RawTaggedField;

/// The first tag of Ottla's own fields in a message: far above those of Kafka, which count up from 0.
pub const FIRST: u32 = 10_000;

/// A field with these bytes.
pub fn field(tag: u32, bytes: &[u8]) -> RawTaggedField {
    RawTaggedField {
        tag,
        data: Bytes::copy_from_slice(bytes),
    }
}

/// The first `N` bytes of a field; `None` if it is not among `fields`, or shorter.
pub fn find<const N: usize>(tag: u32, fields: &[RawTaggedField]) -> Option<[u8; N]> {
    let field = fields.iter().find(|field| field.tag == tag)?;
    field.data.first_chunk::<N>().copied()
}
