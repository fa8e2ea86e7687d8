//! Builds the batches of a proposal, and the record that begins an epoch.

use super::ProposeError;
use crate::batches::{DataBatch, Place};
use crate::voter::Voter;
use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::LeaderChangeMessageData;
use ottla_protocol::messages::leader_change_message as wire;
use ottla_protocol::messages::metadata::{
    BeginTransactionRecord, EndTransactionRecord, MetadataRecord,
};
use ottla_protocol::records::control::ControlRecord;

/// Batches and the numbers of their records.
pub(crate) type Built = Vec<(Vec<u8>, i32)>;

/// The batches of `records` from `place` on: one, or a metadata transaction of several if one would have more than `limit`
/// bytes. Without records there is none.
pub(crate) fn build(
    records: &[MetadataRecord],
    version: MetadataVersion,
    place: Place,
    limit: usize,
) -> Result<Built, ProposeError> {
    let mut batch = DataBatch::new(place);
    for record in records {
        batch.append(record, version)?;
    }
    if batch.size() > limit {
        return build_transaction(records, version, place, limit);
    }
    let count = batch.record_count();
    Ok(batch
        .build()
        .map(|bytes| (bytes, count))
        .into_iter()
        .collect())
}

fn build_transaction(
    records: &[MetadataRecord],
    version: MetadataVersion,
    place: Place,
    limit: usize,
) -> Result<Built, ProposeError> {
    let opens_its_own = records
        .iter()
        .any(|record| matches!(record, MetadataRecord::BeginTransaction(_)));
    if !version.has_transactions() || opens_its_own {
        return Err(ProposeError::TooLarge);
    }
    let begin = BeginTransactionRecord::default().into();
    let end = EndTransactionRecord::default().into();
    let all = std::iter::once(&begin)
        .chain(records)
        .chain(std::iter::once(&end));
    let mut built = Vec::new();
    let mut next = place;
    let mut batch = DataBatch::new(next);
    for record in all {
        batch.append(record, version)?;
        if batch.size() > limit / 2 {
            let count = batch.record_count();
            built.extend(batch.build().map(|bytes| (bytes, count)));
            next.offset = next.offset.plus(i64::from(count));
            batch = DataBatch::new(next);
        }
    }
    let count = batch.record_count();
    built.extend(batch.build().map(|bytes| (bytes, count)));
    if built.iter().any(|(bytes, _)| bytes.len() > limit) {
        return Err(ProposeError::TooLarge);
    }
    Ok(built)
}

/// The record that begins an epoch.
pub(crate) fn leader_change(
    leader: NodeId,
    granting: &[NodeId],
    voters: &[Voter],
) -> ControlRecord {
    let voter = |id: NodeId| wire::Voter {
        voter_id: id.0,
        ..wire::Voter::default()
    };
    let change = LeaderChangeMessageData::default()
        .with_leader_id(leader.0)
        .with_granting_voters(granting.iter().map(|id| voter(*id)).collect())
        .with_voters(voters.iter().map(|of| voter(of.node_id)).collect());
    ControlRecord::LeaderChange(change)
}
