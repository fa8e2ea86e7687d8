//! The damage that is known of a log: found by recovery, by readers and by the scrub. What is known is refused without
//! being looked for again, and no read runs into it.
//!
//! Kept in memory only, and bounded: what is beyond the bound is still refused where it is met. Damage goes with its
//! segment.

use super::PartitionLog;
use crate::damage::Damage;
use crate::directory::StorageError;
use crate::files::Files;
use crate::format::FileKind;
use ottla_protocol::ids::Offset;
use std::collections::BTreeMap;

/// The most places of one log that are remembered.
const MAX_PLACES: usize = 1000;

/// Damage by segment and position.
#[derive(Debug, Default)]
pub(crate) struct KnownDamage {
    places: BTreeMap<(Offset, u64), Damage>,
}

impl KnownDamage {
    fn note(&mut self, damage: Damage) {
        if self.places.len() < MAX_PLACES {
            self.places
                .insert((damage.segment, damage.position), damage);
        }
    }

    /// What keeps `offset` from being read.
    pub(super) fn covering(&self, offset: Offset) -> Option<&Damage> {
        self.places.values().find(|damage| damage.covers(offset))
    }

    /// Whether what lies at `position` of the segment is damaged.
    pub(super) fn is_at(&self, segment: Offset, position: u64) -> bool {
        self.places.contains_key(&(segment, position))
    }

    /// Whether anything of the segment is damaged.
    pub(super) fn is_in(&self, segment: Offset) -> bool {
        let mut places = self.places.range((segment, 0)..);
        places.next().is_some_and(|((base, _), _)| *base == segment)
    }

    /// Where a read of the segment from `position` must end.
    pub(super) fn position_behind(&self, segment: Offset, position: u64) -> Option<u64> {
        let mut behind = self.places.range((segment, position + 1)..);
        let (place, _) = behind.next()?;
        (place.0 == segment).then_some(place.1)
    }

    /// The segment is gone or has changed.
    pub(crate) fn forget(&mut self, segment: Offset) {
        self.places.retain(|(base, _), _| *base != segment);
    }

    /// The log now ends at `end`.
    pub(super) fn cut_to(&mut self, end: Offset) {
        self.places.retain(|_, damage| damage.first_offset < end);
    }
}

impl<F: Files> PartitionLog<F> {
    /// The damage that is known, in the order of offsets.
    pub fn known_damage(&self) -> impl Iterator<Item = &Damage> {
        self.damage.places.values()
    }

    /// Remembers damage that was met.
    pub fn note_damage(&mut self, damage: Damage) {
        if self.segments.contains_key(&damage.segment) {
            self.damage.note(damage);
        }
    }

    /// Where the offsets of the segment at `base` end at the latest: where the next one begins, or the log ends.
    pub fn bound_of(&self, base: Offset) -> Offset {
        let mut later = self.segments.range(base.plus(1)..);
        later.next().map_or(self.next, |(next, _)| *next)
    }

    pub(crate) fn damaged(&self, damage: Damage) -> StorageError {
        StorageError::Damaged {
            path: self.place.path_of(FileKind::Log, damage.segment),
            damage,
        }
    }
}
