//! Walking a segment that is to be compacted: batches that can be read, and those that cannot, one after the other.
//!
//! A batch whose head is plausible but whose checksum is wrong is passed over by its length. Where not even the head
//! makes sense, nobody knows where the next batch begins: the walk ends there with [`WalkError::Damaged`].

use crate::batch::parse_checked;
use crate::files::{File, FileError};
use crate::scan::{Located, Scan, ScanError};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, BatchView};
use std::ops::Range;

/// A walk over the batches of one segment.
#[derive(Debug)]
pub(super) struct Walk<'a, H> {
    scan: Scan<'a, H>,
    /// What the next batch may begin with.
    next: Offset,
    /// What no batch may reach.
    end: Offset,
}

/// What a walk comes upon.
#[derive(Debug)]
pub(super) enum Met<'a> {
    /// A whole batch with the right checksum.
    Batch(Located, BatchView<'a>),
    Unreadable(Unreadable<'a>),
}

/// A batch that cannot be read.
#[derive(Debug)]
pub(super) struct Unreadable<'a> {
    pub(super) header: BatchHeader,
    pub(super) bytes: &'a [u8],
    /// What is wrong with it.
    pub(super) reason: String,
}

/// Why a walk cannot go on.
#[derive(Debug)]
pub(super) enum WalkError {
    Disk(FileError),
    /// No batch can be made out from this position on.
    Damaged {
        /// The lowest offset that can lie there.
        from: Offset,
        position: u64,
        reason: String,
    },
}

impl<'a, H: File> Walk<'a, H> {
    /// Walks the bytes of `file` at `positions`, whose batches have offsets in `offsets`.
    pub(super) fn new(file: &'a H, positions: Range<u64>, offsets: Range<Offset>) -> Self {
        Self {
            scan: Scan::new(file, positions.start, positions.end),
            next: offsets.start,
            end: offsets.end,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Met<'_>>, WalkError> {
        let (next, end) = (self.next, self.end);
        let framed = self.scan.next_framed().map_err(|error| match error {
            ScanError::Disk(error) => WalkError::Disk(error),
            ScanError::Invalid { position, cause } => WalkError::Damaged {
                from: next,
                position,
                reason: cause.to_string(),
            },
        })?;
        let Some((located, bytes)) = framed else {
            return Ok(None);
        };
        let (first, last) = (located.header.base_offset(), located.header.last_offset());
        if first < next || last >= end {
            let position = located.position;
            let reason = format!(
                "a batch of offsets {first} to {last} where {next} to {} belong",
                end.0 - 1
            );
            let from = next;
            return Err(WalkError::Damaged {
                from,
                position,
                reason,
            });
        }
        self.next = located.header.next_offset();
        Ok(Some(match parse_checked(bytes) {
            Ok(batch) => Met::Batch(located, batch),
            Err(cause) => Met::Unreadable(Unreadable {
                header: located.header,
                bytes,
                reason: cause.to_string(),
            }),
        }))
    }
}
