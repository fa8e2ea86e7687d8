//! A Fetch response in parts, so that records go to the socket without another copy.
//!
//! The codec encodes every field. Where it would copy records, a part ends, the records become a part of their own, and
//! the next part begins. A test compares the parts with the codec's own encoding in each version.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::field::{At, Field, write_body};
use ottla_protocol::messages::{FetchResponseData, ProtocolError};

use crate::reply::Part;

/// The first version with compact arrays and tagged fields.
const FIRST_FLEXIBLE: i16 = 12;
/// Throttle time, error code and session id, in front of the topics of a flexible version.
const FIXED_BYTES: usize = 4 + 2 + 4;

/// Appends the first part of `response` to `out`, which holds the frame length and the header, and returns the other parts.
/// `records` are those of the partitions, in their order; the records in the response itself are ignored.
pub fn write(
    response: FetchResponseData,
    records: Vec<Part>,
    (out, version): (&mut BytesMut, i16),
) -> Result<Vec<Part>, ProtocolError> {
    let mut response = response;
    let topics = std::mem::take(&mut response.responses);
    let mut parts = Parts {
        first: None,
        rest: Vec::new(),
        current: std::mem::take(out),
    };
    let start = parts.current.len();
    response.write(&mut parts.current, version)?;
    let tags = if version >= FIRST_FLEXIBLE {
        // What follows the fixed fields and the empty array of one byte.
        let tags = parts.current.split_off(start + FIXED_BYTES + 1);
        parts.current.truncate(start + FIXED_BYTES);
        tags
    } else {
        parts.drop_empty_array(version);
        BytesMut::new()
    };
    parts.count(topics.len(), version);
    let mut records = records.into_iter();
    for topic in topics {
        write_topic(topic, &mut records, (&mut parts, version))?;
    }
    parts.current.extend_from_slice(&tags);
    let last = parts.current;
    match parts.first {
        None => *out = last,
        Some(first) => {
            *out = first;
            parts.rest.push(last.freeze().into());
        }
    }
    Ok(parts.rest)
}

fn write_topic(
    topic: FetchableTopicResponse,
    records: &mut impl Iterator<Item = Part>,
    (parts, version): (&mut Parts, i16),
) -> Result<(), ProtocolError> {
    let mut topic = topic;
    let partitions = std::mem::take(&mut topic.partitions);
    write_field(&topic, &mut parts.current, version)?;
    parts.drop_empty_array(version);
    parts.count(partitions.len(), version);
    for partition in partitions {
        let records = records.next().unwrap_or_default();
        write_partition(partition, records, (parts, version))?;
    }
    if version >= FIRST_FLEXIBLE {
        parts.current.put_u8(0);
    }
    Ok(())
}

fn write_partition(
    partition: PartitionData,
    records: Part,
    (parts, version): (&mut Parts, i16),
) -> Result<(), ProtocolError> {
    let partition = partition.with_records(Some(Bytes::new()));
    write_field(&partition, &mut parts.current, version)?;
    if records.is_empty() {
        return Ok(());
    }
    // Tagged fields carry errors and divergence, which have no records: the empty records are the end of the bytes.
    parts.drop_empty_array(version);
    parts.length(records.len(), version);
    parts.push(records);
    if version >= FIRST_FLEXIBLE {
        parts.current.put_u8(0);
    }
    Ok(())
}

/// Appends one struct of the response.
fn write_field(field: &impl Field, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
    let at = At {
        version,
        flexible: version >= FIRST_FLEXIBLE,
    };
    write_body(field, out, at, ApiKey::Fetch as i16)
}

struct Parts {
    first: Option<BytesMut>,
    rest: Vec<Part>,
    current: BytesMut,
}

impl Parts {
    fn push(&mut self, records: Part) {
        let before = std::mem::take(&mut self.current);
        if self.first.is_none() {
            self.first = Some(before);
        } else {
            self.rest.push(before.freeze().into());
        }
        self.rest.push(records);
    }

    /// Takes off the count 0 of an empty array (or the length 0 of empty bytes), and the empty tagged fields behind.
    fn drop_empty_array(&mut self, version: i16) {
        let size = if version >= FIRST_FLEXIBLE { 2 } else { 4 };
        self.current.truncate(self.current.len() - size);
    }

    fn count(&mut self, count: usize, version: i16) {
        self.length(count, version);
    }

    /// A length or count as the version writes it: four bytes, or one more than it as a varint.
    fn length(&mut self, length: usize, version: i16) {
        let length = u32::try_from(length).expect("a response is below 2 GiB");
        if version < FIRST_FLEXIBLE {
            self.current.put_u32(length);
            return;
        }
        let mut rest = length + 1;
        while rest >= 0x80 {
            self.current.put_u8(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.current.put_u8(rest.to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, write};
    use bytes::{Bytes, BytesMut};
    use ottla_protocol::messages::fetch_response::{
        AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
        PartitionData,
    };
    use ottla_protocol::messages::{FetchResponseData, KafkaString, KafkaUuid};

    fn partition(index: i32, records: Option<usize>, version: i16) -> PartitionData {
        let mut partition = PartitionData::default()
            .with_partition_index(index)
            .with_high_watermark(77)
            .with_records(records.map(|size| Bytes::from(vec![7; size])));
        if version >= 4 && index % 2 == 0 {
            partition.aborted_transactions =
                Some(vec![AbortedTransaction::default().with_producer_id(5)]);
        }
        if version >= 12 && records.is_none_or(|size| size == 0) {
            partition.current_leader = LeaderIdAndEpoch::default().with_leader_id(3);
            partition.diverging_epoch = EpochEndOffset::default().with_epoch(9);
        }
        partition
    }

    fn response(topics: &[&[Option<usize>]], version: i16) -> FetchResponseData {
        let topics = topics.iter().zip(1..).map(|(partitions, id)| {
            let mut topic = FetchableTopicResponse::default().with_partitions(
                partitions
                    .iter()
                    .zip(0..)
                    .map(|(records, index)| partition(index, *records, version))
                    .collect(),
            );
            if version >= 13 {
                topic.topic_id = KafkaUuid::from_parts(id, id);
            } else {
                topic.topic = KafkaString::from_static("topic");
            }
            topic
        });
        let mut response = FetchResponseData::default().with_responses(topics.collect());
        if version >= 7 {
            response.session_id = 1234;
        }
        if version >= 16 {
            response.node_endpoints = vec![NodeEndpoint::default().with_node_id(2)];
        }
        response
    }

    /// The records of `response`, in the order of its partitions.
    fn records_of(response: &FetchResponseData) -> Vec<Part> {
        let topics = response.responses.iter();
        let partitions = topics.flat_map(|topic| &topic.partitions);
        let records = partitions.map(|partition| partition.records.clone().unwrap_or_default());
        records.map(Part::from).collect()
    }

    fn joined(first: BytesMut, rest: &[Part]) -> BytesMut {
        let mut joined = first;
        for part in rest {
            match part {
                Part::Bytes(bytes) => joined.extend_from_slice(bytes),
                Part::Stored(stored) => panic!("{stored:?} lies in a file"),
            }
        }
        joined
    }

    #[test]
    fn the_parts_are_the_codecs_bytes_in_every_version() {
        let shapes: [&[&[Option<usize>]]; 5] = [
            &[],
            &[&[]],
            &[&[Some(100)]],
            &[
                &[Some(0), None, Some(20_000)],
                &[Some(126), Some(127), Some(128)],
            ],
            &[&[None]],
        ];
        for version in 4..=18 {
            for shape in shapes {
                let mut response = response(shape, version);
                let mut first = BytesMut::from(&b"head"[..]);
                let records = records_of(&response);
                let rest = write(response.clone(), records, (&mut first, version)).unwrap();
                // A missing record set is answered as an empty one, as Kafka does.
                for partition in response
                    .responses
                    .iter_mut()
                    .flat_map(|topic| &mut topic.partitions)
                {
                    partition.records.get_or_insert_default();
                }
                let mut whole = BytesMut::from(&b"head"[..]);
                response.write(&mut whole, version).unwrap();
                let parts = joined(first, &rest);
                assert_eq!(parts, whole, "version {version} {shape:?}");
            }
        }
    }
}
