//! The layout of producer snapshots (`.snapshot`), which is Kafka 4.3's. Numbers are big-endian and signed.
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 2 | version, 1 |
//! | 2 | 4 | CRC-32C of all that follows |
//! | 6 | 4 | number of producers; for each: |
//! | 0 | 8 | producer id |
//! | 8 | 2 | producer epoch |
//! | 10 | 4 | last sequence, -1 for none |
//! | 14 | 8 | last offset, -1 for none |
//! | 22 | 4 | last offset less first offset of the last batch |
//! | 26 | 8 | largest timestamp of the last batch |
//! | 34 | 4 | epoch of the last transaction coordinator, -1 for none |
//! | 38 | 8 | first offset of the open transaction, -1 for none |

use crate::format::Fields;
use crate::producer_state::{BatchMetadata, ProducerEntry};
use ottla_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;

const VERSION: i16 = 1;
const HEAD_BYTES: usize = 6;

/// The content of a `.snapshot` file.
pub fn encode(producers: &BTreeMap<ProducerId, ProducerEntry>) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 + producers.len() * 46);
    body.extend(
        i32::try_from(producers.len())
            .unwrap_or(i32::MAX)
            .to_be_bytes(),
    );
    for (id, producer) in producers {
        let last = producer.last_batch();
        body.extend(id.0.to_be_bytes());
        body.extend(producer.epoch.0.to_be_bytes());
        body.extend(last.map_or(-1, |batch| batch.last_sequence).to_be_bytes());
        body.extend(last.map_or(-1, |batch| batch.last_offset.0).to_be_bytes());
        body.extend(last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
        body.extend(producer.last_timestamp.0.to_be_bytes());
        body.extend(producer.coordinator_epoch.to_be_bytes());
        body.extend(
            producer
                .transaction_first_offset
                .unwrap_or(Offset::NONE)
                .0
                .to_be_bytes(),
        );
    }
    let mut content = Vec::with_capacity(HEAD_BYTES + body.len());
    content.extend(VERSION.to_be_bytes());
    content.extend(crc_fast::crc32_iscsi(&body).to_be_bytes());
    content.extend(body);
    content
}

/// The producers of a `.snapshot` file; `None` if the file is torn or of another version.
pub fn decode(content: &[u8]) -> Option<BTreeMap<ProducerId, ProducerEntry>> {
    let mut fields = Fields(content);
    let (version, crc) = (fields.i16()?, fields.i32()?);
    if version != VERSION || crc.cast_unsigned() != crc_fast::crc32_iscsi(fields.0) {
        return None;
    }
    let count = fields.i32()?;
    (0..count).map(|_| decode_producer(&mut fields)).collect()
}

fn decode_producer(fields: &mut Fields<'_>) -> Option<(ProducerId, ProducerEntry)> {
    let id = ProducerId(fields.i64()?);
    let mut producer = ProducerEntry::new(ProducerEpoch(fields.i16()?));
    let (last_sequence, last_offset, offset_delta) = (fields.i32()?, fields.i64()?, fields.i32()?);
    producer.last_timestamp = Timestamp(fields.i64()?);
    producer.coordinator_epoch = fields.i32()?;
    producer.transaction_first_offset = Some(Offset(fields.i64()?)).filter(|offset| offset.0 >= 0);
    if last_offset >= 0 {
        producer.push(BatchMetadata {
            last_sequence,
            last_offset: Offset(last_offset),
            offset_delta,
            timestamp: producer.last_timestamp,
        });
    }
    Some((id, producer))
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::producer_state::{BatchMetadata, ProducerEntry};
    use ottla_protocol::ids::{Offset, ProducerEpoch, ProducerId};
    use ottla_protocol::time::Timestamp;
    use std::collections::BTreeMap;

    #[test]
    fn a_snapshot_comes_back_and_a_torn_one_does_not() {
        let mut entry = ProducerEntry::new(ProducerEpoch(3));
        let batch = BatchMetadata {
            last_sequence: 9,
            last_offset: Offset(20),
            offset_delta: 4,
            timestamp: Timestamp(77),
        };
        entry.push(batch);
        entry.coordinator_epoch = 5;
        entry.transaction_first_offset = Some(Offset(16));
        let idle = ProducerEntry::new(ProducerEpoch(0));
        let producers = BTreeMap::from([(ProducerId(1), entry), (ProducerId(2), idle)]);
        let bytes = encode(&producers);
        assert_eq!(bytes.len(), 10 + 2 * 46);
        assert_eq!(decode(&bytes), Some(producers));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None);
        }
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(decode(&damaged), None);
        }
    }
}
