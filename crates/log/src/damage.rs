//! Finds damage in a segment: where it begins and ends, which offsets cannot be read, and where the next sound batch
//! is.
//!
//! [`Salvage`] walks a segment and verifies checksums. Bytes that are not a sound batch in order are damage. The walk
//! continues at the next sound batch, which it finds by the damaged batch's length or byte by byte. `Survey` reads
//! headers only, which is cheap, and continues as a `Salvage` at the first header that is not plausible. Nothing here
//! changes a file. Damage exists because synced bytes may go bad: assumption 10 of `docs/formats.md`.

use crate::batch::{BatchError, parse_checked, parse_header};
use crate::files::{File, FileError};
use crate::scan::{Located, Scan, ScanError};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BATCH_OVERHEAD, BatchHeader, MAGIC};
use std::fmt;
use std::ops::Range;

/// No upper bound of the offsets is known.
pub const UNBOUNDED: Offset = Offset(i64::MAX);
/// Bytes of one read while searching for a batch.
const SEARCH_BYTES: usize = 1 << 20;
/// The position of the format's version (magic) in a batch.
const MAGIC_AT: usize = 16;

/// Bytes of a segment that are not sound batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The base offset of the segment.
    pub segment: Offset,
    /// The position in its `.log` file.
    pub position: u64,
    /// How many bytes are damaged.
    pub bytes: u64,
    /// The lowest offset that the damaged bytes can have held.
    pub first_offset: Offset,
    /// The next offset that can be read. It equals `first_offset` if no offset is lost.
    pub next_offset: Offset,
    /// What is wrong with the first damaged batch.
    pub cause: BatchError,
}

impl Damage {
    /// The position after its last byte.
    pub const fn end(&self) -> u64 {
        self.position + self.bytes
    }

    /// Whether `offset` cannot be read because of it.
    pub fn covers(&self, offset: Offset) -> bool {
        self.first_offset <= offset && offset < self.next_offset
    }

    /// The same damage, cut so that it takes no offset from `end` on.
    pub(crate) fn ending_at(self, end: Offset) -> Self {
        let next_offset = self.next_offset.min(end).max(self.first_offset);
        Self {
            next_offset,
            ..self
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, position, cause) = (self.bytes, self.position, &self.cause);
        write!(f, "{bytes} bytes at {position} are damaged ({cause}): ")?;
        if self.first_offset == self.next_offset {
            return f.write_str("no offset is missing");
        }
        let last = self.next_offset.plus(-1);
        write!(
            f,
            "offsets {} to {last} cannot be read, the next that can is {}",
            self.first_offset, self.next_offset
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    Batch(Located),
    Damage(Damage),
}

/// Bytes that are not a sound batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsound {
    pub(crate) position: u64,
    pub(crate) cause: BatchError,
    /// The position where the batch ends by its own length, if that length is possible.
    claimed_end: Option<u64>,
}

/// A walk over the batches of one file that verifies checksums and passes over damage.
#[derive(Debug)]
pub struct Salvage<'a, H> {
    file: &'a H,
    segment: Offset,
    scan: Scan<'a, H>,
    end: u64,
    /// The lowest base offset that the next batch may have.
    next: Offset,
    /// All offsets are below this.
    bound: Offset,
    /// No gap spans this offset: while the walk is before it, no batch may begin after it.
    milestone: Offset,
}

impl<'a, H: File> Salvage<'a, H> {
    /// Walks the bytes at `positions` of the segment with base offset `segment`. A batch begins at the first of them,
    /// and the batches have offsets in `offsets`.
    pub fn new(
        file: &'a H,
        segment: Offset,
        positions: Range<u64>,
        offsets: Range<Offset>,
    ) -> Self {
        Self {
            file,
            segment,
            scan: Scan::new(file, positions.start, positions.end),
            end: positions.end,
            next: offsets.start,
            bound: offsets.end,
            milestone: UNBOUNDED,
        }
    }

    /// The same walk, for a segment in which no gap spans `milestone`.
    pub(crate) fn by_way_of(self, milestone: Offset) -> Self {
        Self { milestone, ..self }
    }

    /// The position of the walk.
    pub fn position(&self) -> u64 {
        self.scan.position()
    }

    /// The bytes of the last batch.
    pub fn bytes_of(&self, met: &Located) -> &[u8] {
        self.scan.bytes_of(met)
    }

    /// The next batch or the next damage.
    pub fn advance(&mut self) -> Result<Option<Met>, FileError> {
        match self.step()? {
            None => Ok(None),
            Some(Ok(located)) => Ok(Some(Met::Batch(located))),
            Some(Err(unsound)) => self.pass_over(unsound).map(Met::Damage).map(Some),
        }
    }

    /// The next batch, or what is there instead; in that case the walk does not move.
    pub(crate) fn step(&mut self) -> Result<Option<Result<Located, Unsound>>, FileError> {
        let position = self.scan.position();
        let (located, checked) = match self.scan.next_framed() {
            Ok(None) => return Ok(None),
            Ok(Some((located, bytes))) => (located, parse_checked(bytes).err()),
            Err(ScanError::Disk(error)) => return Err(error),
            Err(ScanError::Invalid { position, cause }) => {
                return Ok(Some(Err(Unsound {
                    position,
                    cause,
                    claimed_end: None,
                })));
            }
        };
        let wrong = match checked {
            None => self.wrong_order(&located)?,
            checked => checked,
        };
        if let Some(cause) = wrong {
            self.scan.go_to(position);
            return Ok(Some(Err(Unsound {
                position,
                cause,
                claimed_end: Some(located.end()),
            })));
        }
        self.next = located.header.next_offset();
        Ok(Some(Ok(located)))
    }

    /// Moves the walk to the next sound batch after `unsound`.
    pub(crate) fn pass_over(&mut self, unsound: Unsound) -> Result<Damage, FileError> {
        let position = unsound.position;
        let mut resumed = self.resume_after(&unsound)?;
        if resumed.is_none() && self.milestone != UNBOUNDED {
            // There is no sound batch before the milestone. Sound batches after it must not count as damage.
            self.milestone = UNBOUNDED;
            resumed = self.resume_after(&unsound)?;
        }
        let end = resumed.map_or(self.end, |located| located.position);
        self.scan.go_to(end);
        let next_offset = resumed.map_or(self.bound, |located| located.header.base_offset());
        Ok(Damage {
            segment: self.segment,
            position,
            bytes: end - position,
            first_offset: self.next,
            next_offset: next_offset.max(self.next),
            cause: unsound.cause,
        })
    }

    /// The part of `damage` before `offset`, if the headers of its batches lead exactly there; otherwise all of it.
    pub(crate) fn up_to(&self, damage: Damage, offset: Offset) -> Result<Damage, FileError> {
        let mut heads = Scan::new(self.file, damage.position, damage.end());
        let mut next = damage.first_offset;
        while next < offset {
            let located = match heads.next_header() {
                Ok(Some(located)) => located,
                Ok(None) | Err(ScanError::Invalid { .. }) => return Ok(damage),
                Err(ScanError::Disk(error)) => return Err(error),
            };
            if located.header.base_offset() < next {
                return Ok(damage);
            }
            next = located.header.next_offset();
        }
        if next > offset {
            return Ok(damage);
        }
        let bytes = heads.position() - damage.position;
        Ok(Damage { bytes, ..damage })
    }

    /// What is wrong with the base offset of a batch whose checksum is right; the checksum does not cover that field.
    /// After a gap, a base offset is wrong if the next batch begins before this one would end.
    fn wrong_order(&self, located: &Located) -> Result<Option<BatchError>, FileError> {
        let header = &located.header;
        let out_of_order = BatchError::OutOfOrder {
            base_offset: header.base_offset,
            expected: self.next.0,
        };
        if !self.may_be_next(header) {
            return Ok(Some(out_of_order));
        }
        // The batch after a milestone says nothing about the one before it.
        if header.base_offset() == self.next || header.next_offset() == self.milestone {
            return Ok(None);
        }
        let mut behind = Scan::new(self.file, located.end(), self.end);
        let fills = |behind: &Located| {
            let base = behind.header.base_offset();
            self.next <= base && base < header.next_offset()
        };
        match behind.next_header() {
            Err(ScanError::Disk(error)) => Err(error),
            Ok(Some(behind)) if fills(&behind) => Ok(Some(out_of_order)),
            Ok(_) | Err(ScanError::Invalid { .. }) => Ok(None),
        }
    }

    fn may_be_next(&self, header: &BatchHeader) -> bool {
        let (base, last) = (header.base_offset(), header.last_offset());
        let leaps = self.next < self.milestone && base > self.milestone;
        base >= self.next
            && last < self.bound
            && last.0 - self.segment.0 <= i64::from(i32::MAX)
            && !leaps
    }

    fn resume_after(&self, unsound: &Unsound) -> Result<Option<Located>, FileError> {
        if let Some(end) = unsound.claimed_end {
            if end == self.end {
                return Ok(None);
            }
            if let Some(located) = self.sound_at(end)? {
                return Ok(Some(located));
            }
        }
        let mut from = unsound.position + 1;
        let mut window = Vec::new();
        while from < self.end {
            let left = usize::try_from(self.end - from).unwrap_or(usize::MAX);
            window.resize(left.min(SEARCH_BYTES + BATCH_OVERHEAD), 0);
            let read = self.file.read_at(&mut window, from)?;
            window.truncate(read);
            if let Some(found) = self.search(&window, from)? {
                return Ok(Some(found));
            }
            from += SEARCH_BYTES as u64;
        }
        Ok(None)
    }

    /// The first sound batch that begins in `window`, whose position in the file is `at`.
    fn search(&self, window: &[u8], at: u64) -> Result<Option<Located>, FileError> {
        let magics = window.iter().enumerate().skip(MAGIC_AT);
        let magics = magics.filter(|(_, byte)| i8::from_be_bytes([**byte]) == MAGIC);
        for (start, _) in magics.map(|(index, byte)| (index - MAGIC_AT, byte)) {
            let head = window.get(start..).unwrap_or_default();
            let Ok((header, size)) = parse_header(head) else {
                continue;
            };
            let position = at + start as u64;
            let records = i64::from(header.record_count);
            let is_plausible = self.may_be_next(&header)
                && position + size as u64 <= self.end
                && (0..=i64::from(header.last_offset_delta) + 1).contains(&records);
            if is_plausible && let Some(located) = self.sound_at(position)? {
                return Ok(Some(located));
            }
        }
        Ok(None)
    }

    fn sound_at(&self, position: u64) -> Result<Option<Located>, FileError> {
        let mut scan = Scan::new(self.file, position, self.end);
        match scan.next_batch() {
            Ok(Some((located, _))) if self.may_be_next(&located.header) => Ok(Some(located)),
            Ok(_) | Err(ScanError::Invalid { .. }) => Ok(None),
            Err(ScanError::Disk(error)) => Err(error),
        }
    }
}

/// A walk over the headers of one file that passes over damage, as far as headers show it. A batch counts once the next
/// header follows it, because its length or its last offset may be wrong.
#[derive(Debug)]
pub(crate) struct Survey<'a, H> {
    /// Holds the position of the walk, and does the walk after the first header that is not plausible.
    salvage: Salvage<'a, H>,
    has_met_damage: bool,
    /// The last header, and the lowest base offset that it could have had.
    read: Option<(Located, Offset)>,
}

impl<'a, H: File> Survey<'a, H> {
    /// As [`Salvage::new`].
    pub(crate) fn new(
        file: &'a H,
        segment: Offset,
        positions: Range<u64>,
        offsets: Range<Offset>,
    ) -> Self {
        Self {
            salvage: Salvage::new(file, segment, positions, offsets),
            has_met_damage: false,
            read: None,
        }
    }

    /// The next batch or the next damage.
    pub(crate) fn advance(&mut self) -> Result<Option<Met>, FileError> {
        let salvage = &mut self.salvage;
        while !self.has_met_damage {
            let position = salvage.position();
            match salvage.scan.next_header() {
                Err(ScanError::Disk(error)) => return Err(error),
                Ok(None) => return Ok(self.read.take().map(|(last, _)| Met::Batch(last))),
                Ok(Some(located)) if salvage.may_be_next(&located.header) => {
                    let before = self.read.replace((located, salvage.next));
                    salvage.next = located.header.next_offset();
                    if let Some((batch, _)) = before {
                        return Ok(Some(Met::Batch(batch)));
                    }
                }
                Ok(Some(_)) | Err(ScanError::Invalid { .. }) => {
                    self.has_met_damage = true;
                    salvage.scan.go_to(position);
                    if let Some((last, next)) = self.read {
                        salvage.scan.go_to(last.position);
                        salvage.next = next;
                    }
                }
            }
        }
        salvage.advance()
    }
}
