//! A Fetch response in pieces, so that records go from the file's bytes to the socket without another copy.
//!
//! The codec crate writes every field; where it would copy records, the piece before them ends, the records become
//! a piece of their own, and the next begins. The test compares the pieces with the codec's whole, version by version.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::{FetchResponseData, ProtocolError};

/// The first version with compact arrays and tagged fields.
const FIRST_FLEXIBLE: i16 = 12;
/// Throttle time, error code and session id, in front of the topics of a flexible version.
const FIXED_BYTES: usize = 4 + 2 + 4;

/// Appends `response` to `out` (frame length and header), which becomes the first piece, still to be changed, and
/// returns the others.
pub fn write(
    response: FetchResponseData,
    out: &mut BytesMut,
    version: i16,
) -> Result<Vec<Bytes>, ProtocolError> {
    let mut response = response;
    let topics = std::mem::take(&mut response.responses);
    let mut pieces = Pieces {
        first: None,
        rest: Vec::new(),
        current: std::mem::take(out),
    };
    let start = pieces.current.len();
    response.write(&mut pieces.current, version)?;
    let tags = if version >= FIRST_FLEXIBLE {
        // What follows the fixed fields and the empty array of one byte.
        let tags = pieces.current.split_off(start + FIXED_BYTES + 1);
        pieces.current.truncate(start + FIXED_BYTES);
        tags
    } else {
        pieces.drop_empty_array(version);
        BytesMut::new()
    };
    pieces.count(topics.len(), version);
    for topic in topics {
        write_topic(topic, &mut pieces, version)?;
    }
    pieces.current.extend_from_slice(&tags);
    let last = pieces.current;
    match pieces.first {
        None => *out = last,
        Some(first) => {
            *out = first;
            pieces.rest.push(last.freeze());
        }
    }
    Ok(pieces.rest)
}

fn write_topic(
    topic: FetchableTopicResponse,
    pieces: &mut Pieces,
    version: i16,
) -> Result<(), ProtocolError> {
    let mut topic = topic;
    let partitions = std::mem::take(&mut topic.partitions);
    topic.write(&mut pieces.current, version)?;
    pieces.drop_empty_array(version);
    pieces.count(partitions.len(), version);
    for partition in partitions {
        write_partition(partition, pieces, version)?;
    }
    if version >= FIRST_FLEXIBLE {
        pieces.current.put_u8(0);
    }
    Ok(())
}

fn write_partition(
    partition: PartitionData,
    pieces: &mut Pieces,
    version: i16,
) -> Result<(), ProtocolError> {
    let mut partition = partition;
    let records = partition.records.replace(Bytes::new()).unwrap_or_default();
    partition.write(&mut pieces.current, version)?;
    if records.is_empty() {
        return Ok(());
    }
    // Tagged fields tell of errors and divergence, which come without records: the empty records end the bytes.
    pieces.drop_empty_array(version);
    pieces.length(records.len(), version);
    pieces.push(records);
    if version >= FIRST_FLEXIBLE {
        pieces.current.put_u8(0);
    }
    Ok(())
}

struct Pieces {
    first: Option<BytesMut>,
    rest: Vec<Bytes>,
    current: BytesMut,
}

impl Pieces {
    fn push(&mut self, records: Bytes) {
        let before = std::mem::take(&mut self.current);
        if self.first.is_none() {
            self.first = Some(before);
        } else {
            self.rest.push(before.freeze());
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
    use super::write;
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

    #[test]
    fn the_pieces_are_the_codecs_bytes_in_every_version() {
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
                let mut pieces_out = BytesMut::from(&b"head"[..]);
                let pieces = write(response.clone(), &mut pieces_out, version).unwrap();
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
                let joined = [&[pieces_out.freeze()], pieces.as_slice()]
                    .concat()
                    .concat();
                assert_eq!(joined, whole, "version {version} {shape:?}");
            }
        }
    }
}
