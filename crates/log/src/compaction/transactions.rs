//! What compaction knows of transactions while it walks a log: which batches belong to aborted ones, and which markers
//! are still needed.
//!
//! An aborted transaction has an entry in a transaction index, with its first offset and the offset of its marker. A
//! marker may be removed when no batch of its transaction was met, not even an empty one. After a batch that could not
//! be read no marker is removed, because that batch may belong to its transaction.

use crate::batch::{Batch, end_marker};
use crate::format::AbortedTransaction;
use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::records::BatchHeader;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default)]
pub(super) struct Transactions {
    /// The aborted transactions, by producer and offset of the marker.
    aborted: BTreeMap<(ProducerId, Offset), AbortedTransaction>,
    /// The aborted transactions of which a batch was met.
    met: BTreeSet<(ProducerId, Offset)>,
    /// The producers with a batch that is not aborted, and no marker after it so far.
    open: BTreeSet<ProducerId>,
    keeps_markers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MarkerFate {
    /// Whether no batch of its transaction is left, so that the marker may be removed.
    pub(super) may_go: bool,
    /// The index entry that is kept with it.
    pub(super) entry: Option<AbortedTransaction>,
}

impl Transactions {
    pub(super) fn new(aborted: Vec<AbortedTransaction>) -> Self {
        let keyed = aborted
            .into_iter()
            .map(|entry| ((entry.producer_id, entry.last_offset), entry));
        Self {
            aborted: keyed.collect(),
            ..Self::default()
        }
    }

    /// Something could not be read: all markers from here on stay.
    pub(super) fn on_unreadable(&mut self) {
        self.keeps_markers = true;
    }

    pub(super) fn has_met_unreadable(&self) -> bool {
        self.keeps_markers
    }

    /// The entries of transactions whose markers lie in this batch, which cannot be read. The batch stays, so its
    /// entries do.
    pub(super) fn take_ended_in(&mut self, header: &BatchHeader) -> Vec<AbortedTransaction> {
        let within = header.base_offset()..=header.last_offset();
        let is_within = |(_, offset): &(ProducerId, Offset)| within.contains(offset);
        let ended = self.aborted.extract_if(.., |key, _| is_within(key));
        let mut ended: Vec<AbortedTransaction> = ended.map(|(_, entry)| entry).collect();
        ended.sort_by_key(|entry| entry.last_offset);
        ended
    }

    /// Records a batch of data; returns whether it belongs to an aborted transaction.
    pub(super) fn on_data(&mut self, header: &BatchHeader) -> bool {
        if !header.is_transactional() {
            return false;
        }
        let producer = ProducerId(header.producer_id);
        let offset = header.base_offset();
        let mut later = self
            .aborted
            .range((producer, offset)..=(producer, Offset(i64::MAX)));
        let ending = later
            .next()
            .filter(|(_, entry)| entry.first_offset <= offset);
        if let Some((key, _)) = ending {
            self.met.insert(*key);
            return true;
        }
        self.open.insert(producer);
        false
    }

    /// Records a control batch.
    pub(super) fn on_control(&mut self, batch: &Batch<'_>) -> MarkerFate {
        let stays = MarkerFate {
            may_go: false,
            entry: None,
        };
        if batch.header.record_count == 0 {
            // The transaction has no marker any more.
            return MarkerFate {
                may_go: true,
                entry: None,
            };
        }
        let Some(marker) = end_marker(batch) else {
            return stays;
        };
        let producer = ProducerId(batch.header.producer_id);
        let key = (producer, batch.header.base_offset());
        if marker.is_abort
            && let Some(entry) = self.aborted.remove(&key)
        {
            let was_met = self.met.remove(&key) || self.keeps_markers;
            return MarkerFate {
                may_go: !was_met,
                entry: was_met.then_some(entry),
            };
        }
        let was_met = self.open.remove(&producer) || self.keeps_markers;
        MarkerFate {
            may_go: !was_met,
            entry: None,
        }
    }
}
