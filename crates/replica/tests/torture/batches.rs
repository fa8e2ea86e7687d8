//! The batches of a world: made from the seed, and kept as the bytes that a log must return.
//!
//! It shares no code with the log: it writes offsets and epochs into the bytes at their positions.

use ottla_log::files::simulated::Random;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{
    BatchBuilder, BatchOptions, BatchView, Compression, Decompressor, Record, split_batches,
};

/// A record as a consumer gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) timestamp: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Commit,
    Abort,
}

/// A batch that was appended, or whose append failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Kept>,
    pub(super) kind: Kind,
    pub(super) producer: i64,
    pub(super) producer_epoch: i16,
    pub(super) sequence: i32,
    pub(super) is_transactional: bool,
    pub(super) leader_epoch: i32,
    pub(super) appended_at: i64,
}

impl Written {
    fn new((bytes, records): (Vec<u8>, Vec<Kept>), options: &BatchOptions, now: i64) -> Self {
        Self {
            base: 0,
            last: records.len() as i64 - 1,
            bytes,
            records,
            kind: Kind::Data,
            producer: options.producer_id,
            producer_epoch: options.producer_epoch,
            sequence: options.base_sequence,
            is_transactional: options.is_transactional,
            leader_epoch: -1,
            appended_at: now,
        }
    }

    /// The batch as it is in the log after a leader has appended it at `base`.
    pub(super) fn at(&self, base: i64, leader_epoch: i32) -> Self {
        let mut moved = self.clone();
        moved.bytes[..8].copy_from_slice(&base.to_be_bytes());
        moved.bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        for record in &mut moved.records {
            record.offset += base - self.base;
        }
        moved.base = base;
        moved.last = base + self.last - self.base;
        moved.leader_epoch = leader_epoch;
        moved
    }

    pub(super) fn is_data(&self) -> bool {
        self.kind == Kind::Data
    }
}

/// Makes a batch of data with one to four records, with one of `keys` keys each if that is given.
pub(super) fn data(
    random: &mut Random,
    options: BatchOptions,
    keys: Option<u64>,
    now: i64,
) -> Written {
    let compression = if random.one_in(3) {
        Compression::ALL[random.index(Compression::ALL.len())]
    } else {
        Compression::None
    };
    let options = BatchOptions {
        compression,
        level: compression.default_level(),
        ..options
    };
    let mut builder = BatchBuilder::new(options);
    let mut records = Vec::new();
    for offset in 0..=random.signed(4) {
        let key = match keys {
            Some(keys) => Some(format!("key {}", random.below(keys)).into_bytes()),
            None => random.one_in(2).then(|| b"some key".to_vec()),
        };
        let is_tombstone = keys.is_some() && random.one_in(5);
        let length = random.index(60);
        let filler = random.next().to_le_bytes();
        let value: Vec<u8> = filler.into_iter().cycle().take(length).collect();
        let value = (!is_tombstone).then_some(value);
        let timestamp = now - random.signed(40);
        builder.append(timestamp, key.as_deref(), value.as_deref(), &[]);
        records.push(Kept {
            offset,
            key,
            value,
            timestamp,
        });
    }
    Written::new((builder.build().unwrap(), records), &options, now)
}

/// Makes the marker that ends the transaction of a producer.
pub(super) fn marker(producer: i64, epoch: i16, kind: Kind, now: i64) -> Written {
    let options = BatchOptions {
        producer_id: producer,
        producer_epoch: epoch,
        is_transactional: true,
        ..BatchOptions::default()
    };
    let number = u8::from(kind == Kind::Commit);
    let (key, value) = ([0, 0, 0, number], [0; 6]);
    let record = ControlRecord::decode(Some(&key), Some(&value)).unwrap();
    let bytes = BatchBuilder::control(options, now, &record);
    let record = Kept {
        offset: 0,
        key: Some(key.to_vec()),
        value: Some(value.to_vec()),
        timestamp: now,
    };
    let mut marker = Written::new((bytes, vec![record]), &options, now);
    marker.kind = kind;
    marker
}

/// The batches in bytes that were read, each with its first and last offset. Their checksums must be right.
pub(super) fn cut(bytes: &[u8]) -> Vec<(i64, i64, BatchView<'_>)> {
    let mut batches = Vec::new();
    for batch in split_batches(bytes) {
        let batch = batch.unwrap_or_else(|error| panic!("what was read is no batch: {error:?}"));
        let base = i64::from_be_bytes(*batch.bytes().first_chunk().unwrap());
        let delta = i32::from_be_bytes(batch.bytes()[23..27].try_into().unwrap());
        assert!(batch.is_crc_valid(), "the batch at {base} is damaged");
        batches.push((base, base + i64::from(delta), batch));
    }
    batches
}

/// The records of a batch.
pub(super) fn records_of(batch: &BatchView<'_>) -> Vec<Kept> {
    let mut decompressor = Decompressor::default();
    let records = batch.records(&mut decompressor, 1 << 20).unwrap();
    let kept = |record: Record<'_>| Kept {
        offset: record.offset,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        timestamp: record.timestamp,
    };
    records.map(|record| kept(record.unwrap())).collect()
}
