//! The payload of a Raft entry: batches of the metadata log, decided together in one epoch.
//!
//! | payload | bytes |
//! |---|---|
//! | version, 1 | 1 |
//! | the epoch in which it was decided | 4 |
//! | record batches as in Kafka's log, offsets from 0 on, leader epoch 0 | the rest |
//!
//! Every controller places the batches at the end of its own log when it applies the entry. Offset and leader epoch of a
//! batch are outside of its CRC, so the rest of its bytes stays as it was decided.

use bytes::{Buf, BufMut, Bytes};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchView, set_base_offset, set_partition_leader_epoch};

use super::format::Malformed;

const VERSION: u8 = 1;
const HEADER: usize = 5;

/// A checked payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The epoch of the leader that decided it.
    pub(crate) epoch: LeaderEpoch,
    batches: Bytes,
    records: i64,
}

/// A batch at its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: i64,
    /// In milliseconds.
    pub(crate) timestamp: i64,
}

/// The payload of `batches`, which were built from offset 0 on.
pub(crate) fn encode(epoch: LeaderEpoch, batches: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + batches.iter().map(Vec::len).sum::<usize>());
    bytes.put_u8(VERSION);
    bytes.put_i32(epoch.0);
    for batch in batches {
        bytes.put_slice(batch);
    }
    bytes
}

impl Payload {
    /// Reads a payload. Every batch must be whole, with the right CRC and the offset after the batch before it.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut rest = bytes.clone();
        if rest.try_get_u8()? != VERSION {
            return Err(Malformed::Unknown("version of a payload"));
        }
        let epoch = LeaderEpoch(rest.try_get_i32()?);
        let mut payload = Self {
            epoch,
            batches: rest,
            records: 0,
        };
        let mut next = 0;
        for batch in payload.views() {
            let batch = batch?;
            let header = batch.header();
            let is_next = header.base_offset == next && header.last_offset_delta >= 0;
            if !is_next || header.partition_leader_epoch != 0 || !batch.is_crc_valid() {
                return Err(Malformed::Impossible("batch"));
            }
            next += i64::from(header.last_offset_delta) + 1;
        }
        if next == 0 {
            return Err(Malformed::Impossible("batch"));
        }
        payload.records = next;
        Ok(payload)
    }

    /// The number of its records.
    pub(crate) fn records(&self) -> i64 {
        self.records
    }

    fn views(&self) -> impl Iterator<Item = Result<BatchView<'_>, Malformed>> {
        let mut rest: &[u8] = &self.batches;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Ok(batch) = BatchView::first(rest) else {
                rest = &[];
                return Some(Err(Malformed::Impossible("batch")));
            };
            rest = rest.get(batch.size()..).unwrap_or_default();
            Some(Ok(batch))
        })
    }

    /// Its batches, from `base` on, with `epoch` as their leader epoch.
    pub(crate) fn place(&self, base: Offset, epoch: LeaderEpoch) -> Vec<Placed> {
        let views = self
            .views()
            .map(|view| view.expect("it was checked when it was parsed"));
        views
            .map(|view| {
                let header = view.header();
                let start = base.plus(header.base_offset);
                let mut bytes = view.bytes().to_vec();
                let head = bytes.first_chunk_mut().expect("a batch has a header");
                set_base_offset(head, start);
                set_partition_leader_epoch(head, epoch);
                Placed {
                    bytes,
                    records: i64::from(header.last_offset_delta) + 1,
                    timestamp: header.max_timestamp,
                }
            })
            .collect()
    }
}
