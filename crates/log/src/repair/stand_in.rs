//! Stand-ins for lost batches: empty batches that keep their offsets, and the abort markers that are known to have been
//! there.
//!
//! A consumer that reads committed records skips an aborted transaction up to its marker. Without the marker it would
//! also skip what the producer committed next.

use super::{Repair, RepairError};
use crate::damage::{Damage, Met};
use crate::files::Files;
use crate::format::AbortedTransaction;
use crate::scan::Located;
use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::messages::EndTxnMarkerData;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BATCH_OVERHEAD, BatchBuilder, BatchHeader, BatchOptions};
use std::ops::Range;

/// A batch in place of a lost one.
pub(super) type StandIn = (BatchHeader, Vec<u8>);

/// Facts of the batches before the gap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) leader_epoch: i32,
    /// The largest timestamp of the last batch.
    pub(super) timestamp: i64,
}

impl<F: Files> Repair<F> {
    /// The stand-ins for the offsets of `damage`, in order. `aborted` are the transactions whose markers are in its
    /// segment.
    pub(super) fn stand_ins(
        &self,
        damage: &Damage,
        aborted: &[AbortedTransaction],
        before: Before,
    ) -> Result<Vec<StandIn>, RepairError> {
        let mut batches = Vec::new();
        let mut next = damage.first_offset;
        for entry in aborted
            .iter()
            .filter(|entry| damage.covers(entry.last_offset))
        {
            batches.extend(empty_batch(next..entry.last_offset, before.leader_epoch));
            let epoch = self.epoch_of(entry.producer_id, damage)?;
            batches.extend(abort_marker(entry, epoch, before));
            next = entry.last_offset.plus(1);
        }
        batches.extend(empty_batch(next..damage.next_offset, before.leader_epoch));
        Ok(batches)
    }

    /// The epoch of a producer's last batch before the damage.
    fn epoch_of(&self, producer: ProducerId, damage: &Damage) -> Result<i16, RepairError> {
        let mut epoch = 0;
        let bases = self.bases()?.into_iter();
        for base in bases.take_while(|base| *base <= damage.segment) {
            self.walk(base, |met, _| {
                if let Met::Batch(Located { header, .. }) = met
                    && header.base_offset() < damage.first_offset
                    && header.producer_id == producer.0
                {
                    epoch = header.producer_epoch;
                }
            })?;
        }
        Ok(epoch)
    }
}

/// A batch without records that keeps `offsets`; `None` if the range is empty.
pub(super) fn empty_batch(offsets: Range<Offset>, leader_epoch: i32) -> Option<StandIn> {
    if offsets.is_empty() {
        return None;
    }
    let (first, next) = (offsets.start, offsets.end);
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: first.0,
        partition_leader_epoch: leader_epoch,
        ..BatchOptions::default()
    });
    builder.end_at((next.0 - 1).min(first.0 + i64::from(i32::MAX)));
    with_head(builder.build()?)
}

/// The marker of an aborted transaction. Its coordinator epoch is not known.
fn abort_marker(
    entry: &AbortedTransaction,
    producer_epoch: i16,
    before: Before,
) -> Option<StandIn> {
    let options = BatchOptions {
        base_offset: entry.last_offset.0,
        partition_leader_epoch: before.leader_epoch,
        producer_id: entry.producer_id.0,
        producer_epoch,
        is_transactional: true,
        ..BatchOptions::default()
    };
    let marker = EndTxnMarkerData::default().with_coordinator_epoch(-1);
    with_head(BatchBuilder::control(
        options,
        before.timestamp,
        &ControlRecord::Abort(marker),
    ))
}

fn with_head(bytes: Vec<u8>) -> Option<StandIn> {
    let head = bytes.first_chunk::<BATCH_OVERHEAD>()?;
    Some((BatchHeader::decode(head), bytes))
}
