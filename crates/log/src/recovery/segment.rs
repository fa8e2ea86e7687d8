//! Recovers one segment: decides which index entries to trust, reads the batches after them, and decides where the
//! segment ends.

use super::{Left, OpenError, Recovering};
use crate::batch::BatchError;
use crate::damage::{Damage, Salvage, UNBOUNDED};
use crate::files::{File, FileError, Files};
use crate::format::{FileKind, IndexEntry, OffsetEntry, TimeEntry};
use crate::index_file::{IndexFile, read_entries};
use crate::leader_epochs::LeaderEpochs;
use crate::place::Place;
use crate::planted::{Bug, is_planted};
use crate::scan::{Located, Scan};
use crate::segment::Segment;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Scanned {
    /// The offset after the last sound batch, or after damage that stays.
    pub(super) end: Offset,
    /// The position of `end`.
    position: u64,
    /// Damage below the recovery point, which stays.
    pub(super) damage: Vec<Damage>,
    /// Whether the segment ends in damage that stays.
    pub(super) ends_in_damage: bool,
    /// Where and why the segment must be cut, if it must.
    pub(super) cut: Option<Cut>,
}

#[derive(Debug)]
pub(super) struct Cut {
    pub(super) position: u64,
    pub(super) cause: BatchError,
}

impl Scanned {
    /// Cuts the segment at its end if the next one begins later: its last batches were not on stable storage and are
    /// lost, and the log must end at the gap. Gaps before `gaps_end` are compaction's.
    pub(super) fn compare_with_next(&mut self, next: Offset, gaps_end: Offset) {
        if self.cut.is_none() && self.end < next && self.end >= gaps_end {
            self.cut = Some(Cut {
                position: self.position,
                cause: BatchError::OutOfOrder {
                    base_offset: next.0,
                    expected: self.end.0,
                },
            });
        }
    }
}

impl<F: Files> Recovering<F> {
    /// Reads a segment from the recovery point on and rebuilds its indexes from there. `read` is called with the bytes
    /// read.
    pub(super) fn recover_segment(
        &mut self,
        base: Offset,
        left: &Left,
        read: impl FnMut(u64),
    ) -> Result<Scanned, OpenError> {
        let recovery_point = left.recovery_point;
        let first = self.segments.first_base();
        let log_start = first.map_or(left.log_start, |first| first.max(left.log_start));
        let bound = self.segments.next_base(base.plus(1)).unwrap_or(UNBOUNDED);
        let (segment, place) = self
            .segments
            .get_mut(base)
            .expect("a segment that was just listed");
        let directory = &place.directory;
        let size = segment.size;
        let start = directory.judge(segment.trust_indexes(place, recovery_point, log_start))?;
        directory.judge(segment.begin_scan(place, start, self.now))?;
        let file = directory.judge(segment.file(place))?;
        let walk = Salvage::new(&*file, base, start..size, base..bound);
        let walk = walk.by_way_of(left.gaps_end());
        let scan = SegmentScan {
            segment,
            index_interval: u64::from(self.config.index_interval_bytes),
            leader_epochs: &mut self.leader_epochs,
            read,
        };
        let scanned = directory.judge(scan.run(walk, recovery_point))?;
        segment.size = scanned.position;
        if scanned.end < recovery_point {
            // A truncation was interrupted: the batches are gone, and the index entries of aborted transactions have
            // come back.
            directory.judge(segment.truncate_aborted(place, scanned.end, log_start))?;
        }
        directory.judge(segment.close(place))?;
        if let Some(cut) = &scanned.cut
            && directory.judge(is_legacy(cut, &*file))?
        {
            return Err(OpenError::Legacy {
                path: place.path_of(FileKind::Log, base),
                position: cut.position,
            });
        }
        self.segments.forget_empty_aborted(base);
        Ok(scanned)
    }
}

/// What a scan of a segment updates.
struct SegmentScan<'a, F: Files, R> {
    segment: &'a mut Segment<F>,
    index_interval: u64,
    leader_epochs: &'a mut LeaderEpochs,
    read: R,
}

impl<F: Files, R: FnMut(u64)> SegmentScan<'_, F, R> {
    /// Reads the batches of a walk. At the recovery point or after it, the log ends before the first bad batch. Damage
    /// below the recovery point stays. Damage that spans the recovery point ends the log there; its bytes known to be
    /// after that point are cut off.
    fn run(
        mut self,
        mut walk: Salvage<'_, F::File>,
        recovery_point: Offset,
    ) -> Result<Scanned, FileError> {
        let mut scanned = Scanned {
            end: self.segment.base,
            position: walk.position(),
            damage: Vec::new(),
            ends_in_damage: false,
            cut: None,
        };
        let mut last_position = walk.position();
        while let Some(step) = walk.step()? {
            let unsound = match step {
                Ok(located) => {
                    self.note(&located);
                    scanned.end = located.header.next_offset();
                    last_position = located.position;
                    scanned.position = walk.position();
                    scanned.ends_in_damage = false;
                    continue;
                }
                Err(unsound) => unsound,
            };
            let (mut position, cause) = (unsound.position, unsound.cause);
            if scanned.end >= recovery_point {
                if is_planted(Bug::RecoveryCutsOneBatchMore) {
                    position = last_position;
                    scanned.position = position;
                }
                scanned.cut = Some(Cut { position, cause });
                break;
            }
            let met = walk.pass_over(unsound)?;
            let is_last = met.next_offset > recovery_point;
            let kept = if is_last {
                walk.up_to(met, recovery_point)?
            } else {
                met
            };
            let kept = kept.ending_at(recovery_point);
            scanned.end = kept.next_offset;
            scanned.position = kept.end();
            scanned.ends_in_damage = true;
            scanned.damage.push(kept);
            if is_last {
                if kept.end() < met.end() || met.next_offset != UNBOUNDED {
                    let position = kept.end();
                    scanned.cut = Some(Cut { position, cause });
                }
                break;
            }
        }
        Ok(scanned)
    }

    fn note(&mut self, located: &Located) {
        let header = located.header;
        self.leader_epochs.observe(
            LeaderEpoch(header.partition_leader_epoch),
            header.base_offset(),
        );
        self.segment.note(located, self.index_interval);
        (self.read)(located.size as u64);
    }
}

/// Whether there is a message of Kafka 0.10 or older at the cut, whole and with the right checksum. Zeros and torn
/// bytes can look like the header of one.
fn is_legacy<H: File>(Cut { position, cause }: &Cut, file: &H) -> Result<bool, FileError> {
    const MAX_BYTES: usize = 64 << 20;
    if !cause.is_legacy() {
        return Ok(false);
    }
    let mut head = [0; 16];
    file.read_at(&mut head, *position)?;
    let [.., l0, l1, l2, l3, c0, c1, c2, c3] = head;
    let length = usize::try_from(i32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(0);
    if !(5..=MAX_BYTES).contains(&length) {
        return Ok(false);
    }
    let mut content = vec![0; length - 4];
    let read = file.read_at(&mut content, position + head.len() as u64)?;
    let is_whole = read == content.len();
    Ok(is_whole && crc_fast::crc32_iso_hdlc(&content) == u32::from_be_bytes([c0, c1, c2, c3]))
}

impl<F: Files> Segment<F> {
    /// Keeps the index entries that are sound and below `recovery_point`; returns the position of the last batch that
    /// they name, from which the scan starts.
    fn trust_indexes(
        &mut self,
        place: &Place<F>,
        recovery_point: Offset,
        log_start: Offset,
    ) -> Result<u64, FileError> {
        let limit = recovery_point.0.saturating_sub(self.base.0);
        let position = self.trust_below(place, limit)?;
        // Entries of aborted transactions below the recovery point are durable. Later ones are found again in the
        // batches.
        self.truncate_aborted(place, recovery_point, log_start)?;
        Ok(position)
    }

    /// As [`Segment::trust_indexes`], for the offset and time index, and relative offsets below `limit`. If no entry of
    /// the offset index is right, neither index is trusted, and both are detached.
    fn trust_below(&mut self, place: &Place<F>, limit: i64) -> Result<u64, FileError> {
        if self.has_detached_indexes() {
            self.detach_indexes();
            return Ok(0);
        }
        let is_blind = is_planted(Bug::IndexTrustedOverLog);
        let file = place.open(FileKind::OffsetIndex, self.base)?;
        let entries = read_entries::<OffsetEntry, _>(&*file, 0, self.offset_index.count())?;
        let mut before = OffsetEntry {
            relative_offset: -1,
            position: -1,
        };
        let is_below = |entry: &OffsetEntry| i64::from(entry.relative_offset) < limit || is_blind;
        let sound = entries.iter().take_while(|entry| {
            let follows =
                entry.relative_offset > before.relative_offset && entry.position > before.position;
            before = **entry;
            follows && is_below(entry)
        });
        let last = (1..).zip(sound).last();
        let is_right = match last {
            Some((_, entry)) => is_blind || self.is_named_rightly(place, *entry)?,
            None => false,
        };
        let kept = last.filter(|_| is_right);
        let (count, position) = kept.map_or((0, 0), |(count, entry)| (count, entry.position));
        let is_blank = !entries.first().is_some_and(is_below);
        if count == 0 && !is_blank {
            self.detach_indexes();
            return Ok(0);
        }
        self.offset_index
            .truncate(count, &|| Ok(Arc::clone(&file)))?;
        self.trust_time_index(place, limit)?;
        Ok(u64::try_from(position).unwrap_or(0))
    }

    fn is_named_rightly(&self, place: &Place<F>, entry: OffsetEntry) -> Result<bool, FileError> {
        let position = u64::try_from(entry.position).unwrap_or(u64::MAX);
        let file = self.file(place)?;
        let named = self.base.plus(i64::from(entry.relative_offset));
        let mut scan = Scan::new(&*file, position, self.size);
        let found = scan.next_batch();
        Ok(found.is_ok_and(|found| found.is_some_and(|(at, _)| at.header.last_offset() == named)))
    }

    fn trust_time_index(&mut self, place: &Place<F>, limit: i64) -> Result<(), FileError> {
        let file = place.open(FileKind::TimeIndex, self.base)?;
        let entries = read_entries::<TimeEntry, _>(&*file, 0, self.time_index.count())?;
        let mut before = TimeEntry {
            timestamp: -1,
            relative_offset: -1,
        };
        let sound = entries.iter().take_while(|entry| {
            let follows = entry.timestamp > before.timestamp
                && entry.relative_offset >= before.relative_offset;
            before = **entry;
            follows && i64::from(entry.relative_offset) < limit
        });
        let count = u32::try_from(sound.count()).unwrap_or(u32::MAX);
        self.time_index = IndexFile::of_length(u64::from(count) * TimeEntry::SIZE as u64);
        self.time_index.truncate(count, &|| Ok(Arc::clone(&file)))
    }
}
