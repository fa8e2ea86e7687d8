//! The steps of the scrub that need the log's lock: choosing the next segment, and recording the damage found.

use super::PartitionLog;
use crate::damage::Damage;
use crate::files::{FileError, Files};
use crate::format::FileKind;
use crate::scrub::SegmentScrub;
use ottla_protocol::ids::Offset;
use std::sync::Arc;

impl<F: Files> PartitionLog<F> {
    /// The first closed segment with a base offset of `from` or later.
    pub fn segment_to_scrub(&self, from: Offset) -> Option<SegmentScrub<F>> {
        let segment = self.segments.from(from).next()?;
        let base = segment.base;
        (base < self.active().base).then(|| SegmentScrub {
            directory: Arc::clone(self.directory()),
            path: self.place().path_of(FileKind::Log, base),
            base,
            size: segment.size,
            bound: self.segments.bound_of(base),
        })
    }

    /// Whether the file of a segment is missing although the log has the segment. Retention and compaction remove files
    /// too.
    pub fn misses(&self, scrub: &SegmentScrub<F>) -> Result<bool, FileError> {
        if !self.holds(scrub) {
            return Ok(false);
        }
        // Compaction may have created another file of this name since.
        let status = self.directory().files().status(&scrub.path)?;
        Ok(status.is_none())
    }

    fn holds(&self, scrub: &SegmentScrub<F>) -> bool {
        let held = self.segments.get(scrub.base);
        held.is_some_and(|segment| segment.size == scrub.size)
    }

    /// Records the damage found in a segment, if the segment is still there; returns the damage that was not known
    /// before.
    pub fn complete_scrub(&mut self, scrub: &SegmentScrub<F>, found: Vec<Damage>) -> Vec<Damage> {
        if !self.holds(scrub) {
            return Vec::new();
        }
        let known: Vec<Damage> = self.known_damage().copied().collect();
        self.segments.forget_damage(scrub.base);
        for damage in &found {
            self.note_damage(*damage);
        }
        let is_new = |damage: &Damage| !known.contains(damage);
        found.into_iter().filter(is_new).collect()
    }
}
