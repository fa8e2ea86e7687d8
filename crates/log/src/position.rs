//! A place in a log.

use ottla_protocol::ids::Offset;

/// An offset, and the position of its batch in the segment that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    pub offset: Offset,
    /// The base offset of the segment.
    pub segment: Offset,
    /// Where in the segment's `.log` file.
    pub position: u64,
}
