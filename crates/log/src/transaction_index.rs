//! Decides which entries of an index of aborted transactions are sound. They have no checksum, and a wrong entry would
//! hide committed records or show aborted ones.

use crate::format::{AbortedTransaction, IndexEntry};
use ottla_protocol::ids::Offset;
use std::ops::Range;

/// The entries of the index of a segment with offsets in `offsets`; `None` for an entry that is damaged or torn. In a
/// sound entry the first offset is below the marker's, markers rise, and the last stable offset is plausible.
pub(crate) fn entries(bytes: &[u8], offsets: &Range<Offset>) -> Vec<Option<AbortedTransaction>> {
    let mut before = offsets.start.plus(-1);
    let mut judge = |entry: &AbortedTransaction| {
        let marker = entry.last_offset;
        let is_sound = Offset(0) <= entry.first_offset
            && entry.first_offset < marker
            && before < marker
            && marker < offsets.end
            && (Offset(0)..=marker.plus(1)).contains(&entry.last_stable_offset);
        if is_sound {
            before = marker;
        }
        is_sound
    };
    bytes
        .chunks(AbortedTransaction::SIZE)
        .map(|chunk| {
            let whole = Some(chunk).filter(|chunk| chunk.len() == AbortedTransaction::SIZE);
            whole
                .and_then(AbortedTransaction::decode)
                .filter(&mut judge)
        })
        .collect()
}

/// The part of an index with transactions that ended below an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Below {
    /// The number of its entries, with damaged ones between them.
    pub(crate) entries: usize,
    /// The number of damaged entries right after these, which a crash may have torn.
    pub(crate) damaged: usize,
    /// The offset of the last marker in `entries`.
    pub(crate) marker: Option<Offset>,
}

impl Below {
    /// The entries have the order of their markers: after the first with a later marker, all are later.
    pub(crate) fn of(entries: &[Option<AbortedTransaction>], end: Offset) -> Self {
        let is_later = |entry: &Option<AbortedTransaction>| {
            entry.is_some_and(|entry| entry.last_offset >= end)
        };
        let later = entries.iter().position(is_later);
        let before = entries.get(..later.unwrap_or(entries.len()));
        let before = before.unwrap_or_default();
        let last = before.iter().rposition(Option::is_some);
        let kept = last.map_or(0, |last| last + 1);
        let marker = last.and_then(|last| before.get(last).copied().flatten());
        Self {
            entries: kept,
            damaged: before.len() - kept,
            marker: marker.map(|entry| entry.last_offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Below, entries};
    use crate::format::{AbortedTransaction, IndexEntry};
    use ottla_protocol::ids::{Offset, ProducerId};

    fn entry(first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(0),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
        }
    }

    #[test]
    fn what_is_no_entry_is_told_from_what_is() {
        let sound = [entry(0, 2), entry(3, 5), entry(1, 8)];
        let mut bytes = Vec::new();
        for entry in &sound {
            entry.encode(&mut bytes);
        }
        let of = |bytes: &[u8]| entries(bytes, &(Offset(0)..Offset(9)));
        assert_eq!(of(&bytes), sound.map(Some));
        let mut torn = bytes.clone();
        torn.extend([0; 34]);
        torn.extend([0; 5]);
        assert_eq!(of(&torn)[3..], [None, None], "zeros, and a part");
        // Each field of the second entry except its producer.
        for (at, byte) in [
            (34, 1),
            (44, 0x80),
            (51, 9),
            (59, 0),
            (59, 2),
            (59, 9),
            (67, 7),
            (60, 0x80),
        ] {
            let mut hurt = bytes.clone();
            hurt[at] = byte;
            assert_eq!(of(&hurt)[1], None, "{byte} at {at}");
            assert_eq!(of(&hurt)[2], Some(sound[2]), "{byte} at {at}");
        }
    }

    #[test]
    fn what_a_crash_left_behind_the_end_is_told_from_damage_before_it() {
        let (early, late) = (Some(entry(0, 2)), Some(entry(3, 5)));
        let of = |entries: &[Option<AbortedTransaction>]| {
            let below = Below::of(entries, Offset(4));
            (
                below.entries,
                below.damaged,
                below.marker.map(|marker| marker.0),
            )
        };
        assert_eq!(of(&[]), (0, 0, None));
        assert_eq!(of(&[early, late]), (1, 0, Some(2)));
        assert_eq!(of(&[None, early, None, None]), (2, 2, Some(2)));
        assert_eq!(
            of(&[late, None, early]),
            (0, 0, None),
            "what is behind a later one"
        );
        assert_eq!(of(&[None, late]), (0, 1, None));
    }
}
