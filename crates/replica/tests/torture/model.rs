//! The model of a partition: lists, and scans over them. It shares no code with the log.
//!
//! Invariants: `batches` are in the order of their offsets, and are never forgotten at the front, because a log start
//! that was not acknowledged may go back; all before `acknowledged` must survive everything.

use super::batches::{Kept, Kind, Written};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) next_sequence: i32,
    pub(super) is_transactional: bool,
    pub(super) has_open_transaction: bool,
}

#[derive(Debug)]
pub(super) struct Model {
    /// The appended batches.
    pub(super) batches: Vec<Written>,
    /// Batches whose append failed because of the disk. They may be there after a crash.
    pub(super) refused: Vec<Written>,
    pub(super) acknowledged: i64,
    /// The log start offset, as last read from the log.
    pub(super) start: i64,
    pub(super) acknowledged_start: i64,
    /// The highest log start offset so far.
    pub(super) highest_start: i64,
    /// Before this offset compaction has left one record of each key.
    pub(super) compacted_to: i64,
    /// Compaction may have rewritten batches before this offset.
    pub(super) touched_to: i64,
    pub(super) producers: Vec<Producer>,
    pub(super) leader_epoch: i32,
    next_producer: i64,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut model = Self {
            batches: Vec::new(),
            refused: Vec::new(),
            acknowledged: 0,
            start: 0,
            acknowledged_start: 0,
            highest_start: 0,
            compacted_to: 0,
            touched_to: 0,
            producers: Vec::new(),
            leader_epoch: 0,
            next_producer: 0,
        };
        for is_transactional in [false, false, true, true] {
            let producer = model.new_producer(is_transactional);
            model.producers.push(producer);
        }
        model
    }

    fn new_producer(&mut self, is_transactional: bool) -> Producer {
        let id = self.next_producer;
        self.next_producer += 1;
        Producer {
            id,
            epoch: 0,
            next_sequence: 0,
            is_transactional,
            has_open_transaction: false,
        }
    }

    pub(super) fn end(&self) -> i64 {
        let next = self.batches.last().map_or(0, |batch| batch.last + 1);
        next.max(self.start)
    }

    pub(super) fn appended(&mut self, written: Written) {
        let by = |producer: &&mut Producer| producer.id == written.producer;
        if let Some(producer) = self.producers.iter_mut().find(by) {
            producer.epoch = written.producer_epoch;
            producer.has_open_transaction = written.is_data() && written.is_transactional;
            if written.is_data() {
                let count = i32::try_from(written.last - written.base).unwrap() + 1;
                producer.next_sequence = written.sequence + count;
            }
        }
        self.batches.push(written);
    }

    /// The records from `offset` on are removed, with the batch that holds it.
    pub(super) fn truncated(&mut self, offset: i64) {
        self.batches.retain(|batch| batch.last < offset);
        self.refused.clear();
        self.acknowledged = self.acknowledged.min(self.end());
        self.resume_producers();
    }

    /// The records from `offset` on may be removed, all or some.
    pub(super) fn truncation_failed(&mut self, offset: i64) {
        let gone: Vec<Written> = self
            .batches
            .extract_if(.., |batch| batch.last >= offset)
            .collect();
        let from = gone.first().map_or(offset, |first| first.base);
        self.refused.extend(gone);
        self.acknowledged = self.acknowledged.min(from);
        self.acknowledged_start = self.acknowledged_start.min(from);
    }

    /// Sets the model after a start: these are the batches, and all are durable.
    pub(super) fn restarted(&mut self, batches: Vec<Written>, start: i64, end: i64) {
        self.batches = batches;
        self.refused.clear();
        self.highest_start = self.highest_start.max(self.start);
        self.start = start;
        self.acknowledged = end;
        self.resume_producers();
    }

    /// Sets the producers to their last batches in the log. A producer whose batches are all gone gets a new id.
    fn resume_producers(&mut self) {
        let mut producers = std::mem::take(&mut self.producers);
        for producer in &mut producers {
            let last = self.last_batch_of(producer.id);
            match last.filter(|last| last.base >= self.start) {
                Some(last) => {
                    producer.epoch = last.producer_epoch;
                    producer.next_sequence =
                        last.sequence + i32::try_from(last.last - last.base).unwrap() + 1;
                    producer.has_open_transaction =
                        self.open_transactions().contains_key(&producer.id);
                }
                None if producer.next_sequence == 0 && producer.epoch == 0 => {}
                None => *producer = self.new_producer(producer.is_transactional),
            }
        }
        self.producers = producers;
    }

    pub(super) fn last_batch_of(&self, producer: i64) -> Option<&Written> {
        let of = |batch: &&Written| batch.producer == producer && batch.is_data();
        self.batches.iter().rev().find(of)
    }

    /// The open transactions: by producer, their batches.
    fn open_transactions(&self) -> BTreeMap<i64, Vec<&Written>> {
        let mut open: BTreeMap<i64, Vec<&Written>> = BTreeMap::new();
        for batch in self.batches.iter().filter(|batch| batch.is_transactional) {
            if batch.is_data() {
                open.entry(batch.producer).or_default().push(batch);
            } else {
                open.remove(&batch.producer);
            }
        }
        open
    }

    /// The range of the last stable offset in a log from `start` to its end. For a transaction that began before
    /// `start` it depends on whether the log still knows where.
    pub(super) fn last_stable(&self, start: i64) -> (i64, i64) {
        let end = self.end().max(start);
        let mut bounds = (end, end);
        for batches in self.open_transactions().values() {
            let first = batches.first().map_or(end, |batch| batch.base);
            let seen = batches.iter().find(|batch| batch.last >= start);
            bounds.0 = bounds.0.min(first.max(start));
            bounds.1 = bounds
                .1
                .min(seen.map_or(end, |batch| batch.base.max(start)));
        }
        bounds
    }

    /// The records that a reader of committed records gets from `from` up to `to`, each with the time of its append.
    pub(super) fn committed(&self, from: i64, to: i64) -> Vec<(&Kept, i64)> {
        let mut open: BTreeMap<i64, Vec<&Written>> = BTreeMap::new();
        let mut batches = Vec::new();
        for batch in &self.batches {
            match batch.kind {
                Kind::Data if batch.is_transactional => {
                    open.entry(batch.producer).or_default().push(batch);
                }
                Kind::Data => batches.push(batch),
                Kind::Commit => batches.extend(open.remove(&batch.producer).unwrap_or_default()),
                Kind::Abort => drop(open.remove(&batch.producer)),
            }
        }
        let records = batches.iter().flat_map(|batch| {
            let appended_at = batch.appended_at;
            batch
                .records
                .iter()
                .map(move |record| (record, appended_at))
        });
        let mut records: Vec<_> = records
            .filter(|(record, _)| (from..to).contains(&record.offset))
            .collect();
        records.sort_by_key(|(record, _)| record.offset);
        records
    }

    /// The leader epochs of a log from `start` on, and their start offsets.
    pub(super) fn leader_epochs(&self, start: i64) -> Vec<(i32, i64)> {
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        for batch in self.batches.iter().filter(|batch| batch.last >= start) {
            if epochs
                .last()
                .is_none_or(|(epoch, _)| *epoch < batch.leader_epoch)
            {
                epochs.push((batch.leader_epoch, batch.base.max(start)));
            }
        }
        epochs
    }
}
