//! Tagged fields of flexible versions (KIP-482), as the wire has them.

use bytes::Bytes;

/// A tagged field that nobody has decoded: of a later release, or on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTaggedField {
    /// What names the field in its struct.
    pub tag: u32,
    /// What it holds.
    pub data: Bytes,
}
