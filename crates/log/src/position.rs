//! A position in a log.

use ottla_protocol::ids::Offset;

/// An offset, its segment, and the position of its batch in that segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    pub offset: Offset,
    /// The base offset of the segment.
    pub segment: Offset,
    /// The position in the segment's `.log` file.
    pub position: u64,
}
