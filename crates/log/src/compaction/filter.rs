//! Decides which records of one batch stay, by Kafka's rules. Pure.
//!
//! A batch keeps its base offset, last offset, producer and sequences, whichever records are removed. Its records keep
//! their offsets and are compressed as before. The first pass that meets a tombstone, or the marker of a transaction
//! without batches, writes a delete horizon into its batch: the time from which a later pass may remove it.

use super::offset_map::OffsetMap;
use crate::batch::MAX_DECOMPRESSED;
use crate::producer_state::{BatchMetadata, ProducerEntry};
use ottla_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use ottla_protocol::records::{
    BatchBuilder, BatchHeader, BatchOptions, BatchView, Compression, Decompressor, Record, Records,
    TimestampType,
};
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;

/// What the decision about a record depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) map: &'a OffsetMap,
    /// The map holds all keys below this offset.
    pub(super) mapped_to: Offset,
    pub(super) now: Timestamp,
    /// The delete horizon that this pass sets.
    pub(super) horizon: Timestamp,
    pub(super) last_records: &'a BTreeMap<ProducerId, LastRecord>,
    /// Whether tombstones may be removed: everything before them could be read, so no record that they delete is left.
    pub(super) may_drop_tombstones: bool,
}

/// The last durable record of an active producer. A start must find it to know the producer's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastRecord {
    /// The offset of its last durable record of data.
    Data(Offset),
    /// Only a marker is known, with this producer epoch.
    Marker(ProducerEpoch),
    /// All remembered batches may be lost by a power cut. The last durable one is at this offset, the last that the
    /// pass has met, or after it.
    AtOrBehind(Offset),
}

impl LastRecord {
    /// The last durable record of a producer in a log that is flushed up to `flushed` and ends at `end`.
    pub(crate) fn of(entry: &ProducerEntry, flushed: Offset, end: Offset) -> Self {
        let durable = |batch: &&BatchMetadata| batch.last_offset < flushed;
        match entry.batches().iter().rev().find(durable) {
            Some(batch) => Self::Data(batch.last_offset),
            None if entry.batches().is_empty() && flushed == end => Self::Marker(entry.epoch),
            None => Self::AtOrBehind(Offset(0)),
        }
    }

    /// The pass has met a batch of data of this producer that ends at `offset`.
    pub(super) fn on_met(&mut self, offset: Offset) {
        if let Self::AtOrBehind(last) = self {
            *last = offset.max(*last);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// The batch belongs to an aborted transaction, or is the marker of one without batches.
    pub(super) is_spent: bool,
    /// The batch must stay, without records if need be: it keeps the end offset of the log.
    pub(super) ends_pass: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remains {
    /// All of the batch, byte for byte.
    Whole,
    /// New bytes, and the number of records in them.
    Rewritten(Vec<u8>, i32),
    Nothing,
}

impl Rules<'_> {
    /// What stays of `batch`; an error if its records cannot be read.
    pub(super) fn apply(
        &self,
        batch: &BatchView<'_>,
        standing: Standing,
        decompressor: &mut Decompressor,
    ) -> Result<Remains, String> {
        let header = batch.header();
        let horizon = header.delete_horizon_ms().map(Timestamp);
        let has_passed = horizon.is_some_and(|horizon| horizon <= self.now);
        let discards = standing.is_spent && (!header.is_control() || has_passed);
        let stays = standing.ends_pass || self.is_last_of_producer(header);
        if discards || header.record_count == 0 {
            return Ok(without_records(header, stays));
        }
        let records = checked_records(batch, decompressor)?;
        let drops = has_passed && self.may_drop_tombstones;
        let keeps = |record: &Record<'_>| header.is_control() || self.keeps(record, drops);
        let (mut kept, mut tombstones) = (0, 0);
        for record in records.clone().flatten().filter(|record| keeps(record)) {
            kept += 1;
            tombstones += i32::from(record.value.is_none());
        }
        if kept == 0 {
            return Ok(without_records(header, stays));
        }
        let marks_nothing = standing.is_spent && header.is_control();
        let stamps = horizon.is_none() && (tombstones > 0 || marks_nothing);
        if kept == header.record_count && !stamps {
            return Ok(Remains::Whole);
        }
        let horizon = if stamps { Some(self.horizon) } else { horizon };
        let mut builder = BatchBuilder::new(options(header, horizon));
        for record in records.flatten().filter(|record| keeps(record)) {
            builder.append_record_at_its_offset(&record);
        }
        builder.end_at(header.last_offset().0);
        let bytes = builder.build();
        Ok(bytes.map_or(Remains::Nothing, |bytes| Remains::Rewritten(bytes, kept)))
    }

    fn keeps(&self, record: &Record<'_>, drops_tombstones: bool) -> bool {
        if record.offset >= self.mapped_to.0 {
            return true;
        }
        // A record without a key cannot be compacted, and is not accepted by a compacted topic.
        let Some(key) = record.key else { return false };
        let newest = self.map.get(key);
        let is_newest = newest.is_none_or(|newest| record.offset >= newest.0);
        is_newest && (record.value.is_some() || !drops_tombstones)
    }

    /// Whether the batch has the last sequence of a producer, or, if no sequence is known, its last epoch.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = self.last_records.get(&ProducerId(header.producer_id));
        last.is_some_and(|last| match last {
            LastRecord::Data(offset) => header.last_offset() == *offset,
            LastRecord::Marker(epoch) => header.is_control() && header.producer_epoch == epoch.0,
            LastRecord::AtOrBehind(offset) => header.last_offset() >= *offset,
        })
    }
}

fn without_records(header: &BatchHeader, stays: bool) -> Remains {
    match (stays, header.record_count) {
        (false, _) => Remains::Nothing,
        (true, 0) => Remains::Whole,
        (true, _) => Remains::Rewritten(header.emptied().encode().to_vec(), 0),
    }
}

fn options(header: &BatchHeader, horizon: Option<Timestamp>) -> BatchOptions {
    let compression = header.compression().unwrap_or(Compression::None);
    let log_append_time = match header.timestamp_type() {
        TimestampType::CreateTime => None,
        TimestampType::LogAppendTime => Some(header.max_timestamp),
    };
    BatchOptions {
        base_offset: header.base_offset,
        partition_leader_epoch: header.partition_leader_epoch,
        compression,
        level: compression.default_level(),
        log_append_time,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        is_transactional: header.is_transactional(),
        is_control: header.is_control(),
        delete_horizon_ms: horizon.map(|horizon| horizon.0),
    }
}

/// The records of a batch; an error unless all can be read and their offsets rise within the batch's.
pub(super) fn checked_records<'s>(
    batch: &BatchView<'s>,
    decompressor: &'s mut Decompressor,
) -> Result<Records<'s>, String> {
    let header = batch.header();
    let records = batch
        .records(decompressor, MAX_DECOMPRESSED)
        .map_err(|error| error.to_string())?;
    let mut next = header.base_offset;
    for record in records.clone() {
        let offset = record.map_err(|error| error.to_string())?.offset;
        if offset < next || offset > header.last_offset().0 {
            return Err(format!("a record has the offset {offset}, out of order"));
        }
        next = offset + 1;
    }
    Ok(records)
}
