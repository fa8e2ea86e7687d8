//! Checks batches against the state of their producers before the write, and applies them after it.
//!
//! The checks and their order are Kafka's (`ProducerAppendInfo`). Transaction verification (KIP-890) is missing until
//! there is a transaction coordinator.

use super::{
    BatchMetadata, CompletedTransaction, EndedTransaction, FirstBatch, OpenTransaction,
    ProducerEntry, ProducerState,
};
use crate::batch::{Batch, EndMarker, end_marker};
use crate::format::AbortedTransaction;
use crate::position::LogPosition;
use ottla_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use ottla_protocol::records::BatchHeader;
use std::collections::BTreeMap;

/// Who appends. It decides which checks apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A producer: epochs, sequences and duplicates are checked.
    Client,
    /// A coordinator of this broker: epochs are checked.
    Coordinator,
    /// The leader: it has done all checks already.
    Replication,
}

/// Why a producer may not append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// The sequence does not follow the last one.
    #[error("producer {producer} sent sequence {sequence} where the last one was {last}")]
    OutOfOrderSequence {
        producer: ProducerId,
        /// The first sequence of the batch.
        sequence: i32,
        /// The last sequence in the log; -1 for none.
        last: i32,
    },
    /// The epoch is older than the producer's current one.
    #[error("producer {producer} has epoch {epoch}, a newer one with epoch {current} took over")]
    InvalidEpoch {
        producer: ProducerId,
        /// The epoch of the batch.
        epoch: ProducerEpoch,
        current: ProducerEpoch,
    },
    /// The batch is not transactional, and its producer has an open transaction.
    #[error("producer {producer} has an open transaction and sent a batch outside of it")]
    InvalidTransactionState { producer: ProducerId },
    /// The marker is from an older coordinator epoch.
    #[error(
        "the marker for producer {producer} is of coordinator epoch {epoch}, the current one is {current}"
    )]
    CoordinatorFenced {
        producer: ProducerId,
        epoch: i32,
        current: i32,
    },
}

/// Batches that have passed the checks and are not written yet.
#[derive(Debug)]
pub struct Staged<'a> {
    state: &'a ProducerState,
    earlier: Option<&'a Changes>,
    changes: Changes,
}

/// The changes of staged batches, for [`ProducerState::apply`] after the write.
#[derive(Debug, Default)]
pub struct Changes {
    entries: BTreeMap<ProducerId, ProducerEntry>,
    transactions: Vec<TransactionChange>,
}

#[derive(Debug)]
enum TransactionChange {
    Began(ProducerId, FirstBatch),
    Ended(CompletedTransaction),
}

impl<'a> Staged<'a> {
    /// Checks batches against `state` and against `earlier` changes, which are staged but not applied yet.
    pub(super) fn new(state: &'a ProducerState, earlier: Option<&'a Changes>) -> Self {
        Self {
            state,
            earlier,
            changes: Changes::default(),
        }
    }

    fn entry(&self, producer: ProducerId) -> Option<&ProducerEntry> {
        let earlier = || {
            self.earlier
                .and_then(|changes| changes.entries.get(&producer))
        };
        let known = self.changes.entries.get(&producer).or_else(earlier);
        known.or_else(|| self.state.producers.get(&producer))
    }

    /// The entry that a batch with this header changes. An older epoch than the entry's is refused, except from a
    /// leader.
    fn entry_for(
        &self,
        header: &BatchHeader,
        origin: Origin,
    ) -> Result<ProducerEntry, ProducerError> {
        let producer = ProducerId(header.producer_id);
        let known = self.entry(producer).copied();
        let entry = known.unwrap_or_else(|| ProducerEntry::new(ProducerEpoch(-1)));
        let (epoch, current) = (ProducerEpoch(header.producer_epoch), entry.epoch);
        if epoch < current && origin != Origin::Replication {
            return Err(ProducerError::InvalidEpoch {
                producer,
                epoch,
                current,
            });
        }
        Ok(entry)
    }

    /// The remembered batch with the same producer, epoch and sequences: `header` is a duplicate of it.
    pub fn duplicate(&self, header: &BatchHeader) -> Option<BatchMetadata> {
        let entry = self.entry(ProducerId(header.producer_id))?;
        let (first, last) = (header.base_sequence, header.last_sequence());
        let same =
            |batch: &&BatchMetadata| batch.first_sequence() == first && batch.last_sequence == last;
        entry
            .batches()
            .iter()
            .find(same)
            .filter(|_| entry.epoch.0 == header.producer_epoch)
            .copied()
    }

    /// Checks and stages a batch with a producer id. Its header must have its final offsets.
    pub fn add(
        &mut self,
        batch: &Batch<'_>,
        position: Option<LogPosition>,
        origin: Origin,
    ) -> Result<(), ProducerError> {
        let header = &batch.header;
        if !header.is_control() {
            return self.add_data(header, position, origin);
        }
        match end_marker(batch) {
            Some(marker) => self.add_marker(header, marker, origin),
            // Compaction leaves a control batch without records once its transaction has no other batch.
            None => Ok(()),
        }
    }

    fn add_data(
        &mut self,
        header: &BatchHeader,
        position: Option<LogPosition>,
        origin: Origin,
    ) -> Result<(), ProducerError> {
        let producer = ProducerId(header.producer_id);
        let mut entry = self.entry_for(header, origin)?;
        if origin == Origin::Client {
            check_sequence(header, &entry)?;
        }
        entry.set_epoch(ProducerEpoch(header.producer_epoch));
        entry.push(BatchMetadata::of(header));
        match (entry.transaction_first_offset, header.is_transactional()) {
            (Some(_), false) => return Err(ProducerError::InvalidTransactionState { producer }),
            (None, true) => {
                let first = FirstBatch {
                    offset: header.base_offset(),
                    position,
                };
                entry.transaction_first_offset = Some(first.offset);
                self.changes
                    .transactions
                    .push(TransactionChange::Began(producer, first));
            }
            (Some(_), true) | (None, false) => {}
        }
        self.changes.entries.insert(producer, entry);
        Ok(())
    }

    fn add_marker(
        &mut self,
        header: &BatchHeader,
        marker: EndMarker,
        origin: Origin,
    ) -> Result<(), ProducerError> {
        let producer = ProducerId(header.producer_id);
        let mut entry = self.entry_for(header, origin)?;
        if entry.coordinator_epoch > marker.coordinator_epoch && origin != Origin::Replication {
            let (epoch, current) = (marker.coordinator_epoch, entry.coordinator_epoch);
            return Err(ProducerError::CoordinatorFenced {
                producer,
                epoch,
                current,
            });
        }
        if let Some(first_offset) = entry.transaction_first_offset.take() {
            self.changes
                .transactions
                .push(TransactionChange::Ended(CompletedTransaction {
                    producer_id: producer,
                    first_offset,
                    last_offset: header.base_offset(),
                    is_aborted: marker.is_abort,
                }));
        }
        entry.set_epoch(ProducerEpoch(header.producer_epoch));
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_timestamp = marker.timestamp;
        self.changes.entries.insert(producer, entry);
        Ok(())
    }

    /// The changes, to be applied after the write.
    pub fn finish(self) -> Changes {
        self.changes
    }
}

/// Checks that the batches of a producer follow each other without a gap.
///
/// An unknown producer may begin with any sequence, because its records may have been deleted and its entry may have
/// expired. In a log that never had a record, no producer can have expired. There a first sequence other than 0 means
/// that an earlier batch was refused or is late, and accepting this one would refuse that one for ever (KAFKA-15591).
fn check_sequence(header: &BatchHeader, entry: &ProducerEntry) -> Result<(), ProducerError> {
    let never_held_a_record = header.base_offset().0 == 0;
    let may_be_forgotten = entry.epoch.0 == -1 && !never_held_a_record;
    let last = if entry.epoch.0 == header.producer_epoch {
        entry.last_sequence()
    } else {
        -1
    };
    let sequence = header.base_sequence;
    let follows = i64::from(sequence) == i64::from(last) + 1 || (sequence == 0 && last == i32::MAX);
    if may_be_forgotten || follows {
        return Ok(());
    }
    Err(ProducerError::OutOfOrderSequence {
        producer: ProducerId(header.producer_id),
        sequence,
        last: entry.last_sequence(),
    })
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds the changes of a later append.
    pub fn merge(&mut self, later: Self) {
        self.entries.extend(later.entries);
        self.transactions.extend(later.transactions);
    }
}

impl ProducerState {
    /// Begins to check batches after `earlier` ones, which are staged but not applied yet.
    pub(crate) fn stage_after<'a>(&'a self, earlier: &'a Changes) -> Staged<'a> {
        Staged::new(self, Some(earlier))
    }

    /// Applies staged changes after the write; returns the transactions that they aborted.
    pub fn apply(&mut self, changes: Changes, end: Offset) -> Vec<AbortedTransaction> {
        self.producers.extend(changes.entries);
        let mut aborted = Vec::new();
        for change in changes.transactions {
            match change {
                TransactionChange::Began(producer_id, first) => {
                    self.ongoing
                        .insert(first.offset, OpenTransaction { producer_id, first });
                }
                TransactionChange::Ended(completed) => aborted.extend(self.complete(&completed)),
            }
        }
        self.end = end;
        aborted
    }

    fn complete(&mut self, completed: &CompletedTransaction) -> Option<AbortedTransaction> {
        let last_stable_offset = self.last_stable_offset(completed);
        let first_offset = completed.first_offset;
        let first = self.ongoing.remove(&first_offset).map(|open| open.first);
        let first = first.unwrap_or(FirstBatch {
            offset: first_offset,
            position: None,
        });
        let last_offset = completed.last_offset;
        self.unreplicated
            .insert(first_offset, EndedTransaction { last_offset, first });
        completed.is_aborted.then_some(AbortedTransaction {
            producer_id: completed.producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
        })
    }
}
