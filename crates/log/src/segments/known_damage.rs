//! The known damage of a log, found by recovery, readers and the scrub. A read of known damage is refused at once, and
//! other reads end before it.
//!
//! It is only in memory, at most `MAX_PLACES` ranges of one log. Other damage is found again when a read meets it.

use crate::damage::Damage;
use ottla_protocol::ids::Offset;
use std::collections::BTreeMap;

/// Upper bound of the ranges of one log.
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

    /// All ranges, by rising offset.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Damage> {
        self.places.values()
    }

    /// The damage that covers `offset`.
    pub(crate) fn covering(&self, offset: Offset) -> Option<&Damage> {
        self.places.values().find(|damage| damage.covers(offset))
    }

    /// Whether the byte at `position` of the segment is damaged.
    pub(crate) fn is_at(&self, segment: Offset, position: u64) -> bool {
        self.places.contains_key(&(segment, position))
    }

    /// Whether anything of the segment is damaged.
    pub(crate) fn is_in(&self, segment: Offset) -> bool {
        let mut places = self.places.range((segment, 0)..);
        places.next().is_some_and(|((base, _), _)| *base == segment)
    }

    /// The position of the first damage after `position`, at which a read must end.
    pub(crate) fn position_behind(&self, segment: Offset, position: u64) -> Option<u64> {
        let mut behind = self.places.range((segment, position + 1)..);
        let (place, _) = behind.next()?;
        (place.0 == segment).then_some(place.1)
    }

    /// Drops the damage of a segment that was removed or has changed.
    pub(super) fn forget(&mut self, segment: Offset) {
        self.places.retain(|(base, _), _| *base != segment);
    }

    /// Drops the damage after `end`, where the log was truncated.
    pub(super) fn cut_to(&mut self, end: Offset) {
        self.places.retain(|_, damage| damage.first_offset < end);
    }
}
