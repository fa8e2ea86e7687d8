//! Encoded tagged fields of flexible versions (KIP-482).

use bytes::Bytes;

/// A tagged field that is not decoded: its tag is unknown, or it waits to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTaggedField {
    /// The number of the field in its struct.
    pub tag: u32,
    /// The encoded value.
    pub data: Bytes,
}
