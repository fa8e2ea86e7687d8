//! Decodes the records of a fetch. Leaves out those of aborted transactions if the reader asks for that.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_protocol::messages::fetch_response::AbortedTransaction;
use ottla_protocol::records::control::ControlType;
use ottla_protocol::records::{
    BatchError, BatchView, Decompressor, Record, TimestampType, split_batches,
};

use crate::TopicPartition;

/// The most bytes one compressed batch may unpack to.
const MAX_UNPACKED_BYTES: usize = 1 << 30;

/// A record as read from a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970, -1 for none.
    pub timestamp: i64,
    /// Whether the client or the broker set the timestamp.
    pub timestamp_type: TimestampType,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<RecordHeader>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// The records of one partition from one fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedRecords {
    pub partition: TopicPartition,
    /// The offset at which the fetch began.
    pub position: i64,
    /// May be empty although `next_offset` moved, because of markers, aborted transactions or compaction.
    pub records: Vec<ConsumedRecord>,
    /// The offset at which the next fetch begins.
    pub next_offset: i64,
    /// One past the last record that is replicated.
    pub high_watermark: i64,
}

/// The records of some batches.
#[derive(Debug, Default)]
pub(crate) struct ReadBatches {
    pub records: Vec<ConsumedRecord>,
    /// The offset at which the next fetch begins.
    pub next_offset: i64,
    /// The leader epoch of the last batch, -1 when there is none.
    pub leader_epoch: i32,
}

/// Reads the batches of a fetch from `position` on. The error says in words what is wrong with them.
pub(crate) fn read_batches(
    bytes: &[u8],
    position: i64,
    aborted: &[AbortedTransaction],
    decompressor: &mut Decompressor,
) -> Result<ReadBatches, String> {
    let mut records = Vec::new();
    let mut next = position;
    let mut leader_epoch = -1;
    let mut transactions = Aborted::new(aborted);
    for batch in split_batches(bytes) {
        let batch = match batch {
            Ok(batch) => batch,
            // The size limit of the fetch may cut the last batch. The next fetch begins with it.
            Err(BatchError::Incomplete { .. }) if next > position || !records.is_empty() => break,
            Err(error) => return Err(error.to_string()),
        };
        if !batch.is_crc_valid() {
            return Err(format!("the CRC of the batch at {next} does not fit"));
        }
        if !transactions.hides(&batch) {
            read_batch(&batch, position, decompressor, &mut records)?;
        }
        next = next.max(batch.header().next_offset().0);
        leader_epoch = batch.header().partition_leader_epoch;
    }
    Ok(ReadBatches {
        records,
        next_offset: next,
        leader_epoch,
    })
}

fn read_batch(
    batch: &BatchView<'_>,
    position: i64,
    decompressor: &mut Decompressor,
    records: &mut Vec<ConsumedRecord>,
) -> Result<(), String> {
    let timestamp_type = batch.header().timestamp_type();
    let unpacked = batch.records(decompressor, MAX_UNPACKED_BYTES);
    for record in unpacked.map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        // A broker sends whole batches, even if the position is in the middle of one.
        if record.offset >= position {
            records.push(owned(&record, timestamp_type));
        }
    }
    Ok(())
}

fn owned(record: &Record<'_>, timestamp_type: TimestampType) -> ConsumedRecord {
    let headers = record.headers.clone().map(|header| RecordHeader {
        key: Bytes::copy_from_slice(header.key),
        value: header.value.map(Bytes::copy_from_slice),
    });
    ConsumedRecord {
        offset: record.offset,
        timestamp: record.timestamp,
        timestamp_type,
        key: record.key.map(Bytes::copy_from_slice),
        value: record.value.map(Bytes::copy_from_slice),
        headers: headers.collect(),
    }
}

/// The aborted transactions of a fetch. Each lasts from its first offset to its marker.
struct Aborted<'a> {
    ahead: Vec<&'a AbortedTransaction>,
    open: BTreeSet<i64>,
}

impl<'a> Aborted<'a> {
    fn new(aborted: &'a [AbortedTransaction]) -> Self {
        let mut ahead: Vec<_> = aborted.iter().collect();
        ahead.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self {
            ahead,
            open: BTreeSet::new(),
        }
    }

    /// Whether the batch is a marker, or belongs to an aborted transaction, so that the reader must not see it.
    fn hides(&mut self, batch: &BatchView<'_>) -> bool {
        let header = batch.header();
        while let Some(next) = self
            .ahead
            .pop_if(|next| next.first_offset <= header.last_offset().0)
        {
            self.open.insert(next.producer_id);
        }
        if header.is_control() {
            if is_abort_marker(batch) {
                self.open.remove(&header.producer_id);
            }
            return true;
        }
        header.is_transactional() && self.open.contains(&header.producer_id)
    }
}

fn is_abort_marker(batch: &BatchView<'_>) -> bool {
    let first = batch.plain_records().and_then(|mut records| records.next());
    let Some(Ok(record)) = first else {
        return false;
    };
    ControlType::from_key(record.key) == Ok(ControlType::Abort)
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::EndTxnMarkerData;
    use ottla_protocol::messages::fetch_response::AbortedTransaction;
    use ottla_protocol::records::control::ControlRecord;
    use ottla_protocol::records::{BatchBuilder, BatchOptions, Compression, Decompressor};

    use super::read_batches;

    fn batch(base_offset: i64, producer_id: i64, values: &[&str]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset,
            producer_id,
            compression: Compression::Lz4,
            is_transactional: producer_id >= 0,
            ..BatchOptions::default()
        });
        for value in values {
            builder.append(1, None, Some(value.as_bytes()), &[]);
        }
        builder.build().unwrap()
    }

    fn abort_marker(base_offset: i64, producer_id: i64) -> Vec<u8> {
        let options = BatchOptions {
            base_offset,
            producer_id,
            is_transactional: true,
            ..BatchOptions::default()
        };
        let marker = ControlRecord::Abort(EndTxnMarkerData::default());
        BatchBuilder::control(options, 1, &marker)
    }

    fn values(bytes: &[u8], position: i64, aborted: &[AbortedTransaction]) -> (Vec<String>, i64) {
        let mut decompressor = Decompressor::default();
        let read = read_batches(bytes, position, aborted, &mut decompressor).unwrap();
        let value = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        let values = read
            .records
            .iter()
            .map(|record| value(record.value.as_ref().unwrap()));
        (values.collect(), read.next_offset)
    }

    #[test]
    fn reading_from_inside_a_batch_leaves_out_what_is_before() {
        let bytes = batch(10, -1, &["a", "b", "c"]);
        assert_eq!(values(&bytes, 11, &[]), (vec!["b".into(), "c".into()], 13));
    }

    #[test]
    fn a_batch_cut_by_the_size_limit_is_left_for_the_next_fetch() {
        let mut bytes = batch(0, -1, &["a"]);
        let second = batch(1, -1, &["b"]);
        bytes.extend_from_slice(&second[..second.len() - 1]);
        assert_eq!(values(&bytes, 0, &[]), (vec!["a".into()], 1));
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut bytes = batch(0, -1, &["a"]);
        *bytes.last_mut().unwrap() ^= 1;
        assert!(read_batches(&bytes, 0, &[], &mut Decompressor::default()).is_err());
    }

    #[test]
    fn an_aborted_transaction_is_hidden_up_to_its_marker_and_no_further() {
        let mut bytes = batch(0, 7, &["aborted"]);
        bytes.extend(batch(1, 8, &["other producer"]));
        bytes.extend(abort_marker(2, 7));
        bytes.extend(batch(3, 7, &["next transaction"]));
        let aborted = [AbortedTransaction {
            producer_id: 7,
            first_offset: 0,
            ..AbortedTransaction::default()
        }];
        let (seen, next) = values(&bytes, 0, &aborted);
        assert_eq!(seen, ["other producer", "next transaction"]);
        assert_eq!(next, 4);
        // Without isolation only the marker is hidden.
        assert_eq!(values(&bytes, 0, &[]).0.len(), 3);
    }
}
