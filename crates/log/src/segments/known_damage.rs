//! The damage that is known of a log: found by recovery, by readers and by the scrub. Known damage is refused without a
//! second look, and no read runs into it.
//!
//! It is kept in memory only, and at most `MAX_PLACES` of it. Damage beyond that is still refused where a read meets it.

use crate::damage::Damage;
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
    pub(super) fn note(&mut self, damage: Damage) {
        if self.places.len() < MAX_PLACES {
            self.places
                .insert((damage.segment, damage.position), damage);
        }
    }

    /// All of it, by rising offset.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Damage> {
        self.places.values()
    }

    /// What keeps `offset` from being read.
    pub(crate) fn covering(&self, offset: Offset) -> Option<&Damage> {
        self.places.values().find(|damage| damage.covers(offset))
    }

    /// Whether what lies at `position` of the segment is damaged.
    pub(crate) fn is_at(&self, segment: Offset, position: u64) -> bool {
        self.places.contains_key(&(segment, position))
    }

    /// Whether anything of the segment is damaged.
    pub(crate) fn is_in(&self, segment: Offset) -> bool {
        let mut places = self.places.range((segment, 0)..);
        places.next().is_some_and(|((base, _), _)| *base == segment)
    }

    /// Where a read of the segment from `position` must end.
    pub(crate) fn position_behind(&self, segment: Offset, position: u64) -> Option<u64> {
        let mut behind = self.places.range((segment, position + 1)..);
        let (place, _) = behind.next()?;
        (place.0 == segment).then_some(place.1)
    }

    /// The segment is gone or has changed.
    pub(super) fn forget(&mut self, segment: Offset) {
        self.places.retain(|(base, _), _| *base != segment);
    }

    /// The log now ends at `end`.
    pub(super) fn cut_to(&mut self, end: Offset) {
        self.places.retain(|_, damage| damage.first_offset < end);
    }
}
