//! Walks the batches of a segment that is compacted, both those that can be read and those that cannot.
//!
//! A batch with a plausible header and a wrong checksum is passed over by its length. Where the header is not
//! plausible, the position of the next batch is unknown, and the walk ends with [`WalkError::Damaged`].

use crate::batch::parse_checked;
use crate::files::{File, FileError};
use crate::scan::{Located, Scan, ScanError};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, BatchView};
use std::ops::Range;

#[derive(Debug)]
pub(super) struct Walk<'a, H> {
    scan: Scan<'a, H>,
    /// The lowest base offset that the next batch may have.
    next: Offset,
    /// All offsets must be below this.
    end: Offset,
}

#[derive(Debug)]
pub(super) enum Met<'a> {
    Batch(Located, BatchView<'a>),
    Unreadable(Unreadable<'a>),
}

#[derive(Debug)]
pub(super) struct Unreadable<'a> {
    pub(super) header: BatchHeader,
    pub(super) bytes: &'a [u8],
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) enum WalkError {
    Disk(FileError),
    /// The bytes from this position on have no plausible header.
    Damaged {
        /// The lowest offset that a batch there can have.
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
