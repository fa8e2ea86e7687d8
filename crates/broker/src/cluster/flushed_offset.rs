//! How far a follower has flushed, in its Fetch requests: a tagged field of the partition that only Ottla knows.

use ottla_protocol::ids::Offset;
use ottla_protocol::messages::field::RawTaggedField;

use super::own_field;

/// The field of a follower whose log is on stable storage up to `flushed`.
pub fn field(flushed: Offset) -> RawTaggedField {
    own_field::field(own_field::FIRST, &flushed.0.to_be_bytes())
}

/// The flushed offset among the unknown fields of a partition; `None` if it is not there or makes no sense.
pub fn find(fields: &[RawTaggedField]) -> Option<Offset> {
    let flushed = i64::from_be_bytes(own_field::find(own_field::FIRST, fields)?);
    (flushed >= 0).then_some(Offset(flushed))
}

#[cfg(test)]
mod tests {
    use super::{field, find};
    use bytes::Bytes;
    use ottla_protocol::ids::Offset;
    use ottla_protocol::messages::FetchRequestData;
    use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use ottla_protocol::messages::field::RawTaggedField;

    #[test]
    fn the_flushed_offset_survives_the_wire() {
        let partition = FetchPartition {
            unknown_tagged_fields: vec![field(Offset(77))],
            ..FetchPartition::default()
        };
        let topic = FetchTopic::default().with_partitions(vec![partition]);
        let request = FetchRequestData::default().with_topics(vec![topic]);
        let mut bytes = bytes::BytesMut::new();
        request.write(&mut bytes, 17).unwrap();
        let mut bytes = bytes.freeze();
        let read = FetchRequestData::read(&mut bytes, 17).unwrap();
        let partition = &read.topics[0].partitions[0];
        assert_eq!(find(&partition.unknown_tagged_fields), Some(Offset(77)));
    }

    #[test]
    fn what_makes_no_sense_is_not_taken() {
        let raw = |data: &'static [u8]| RawTaggedField {
            tag: 10_000,
            data: Bytes::from_static(data),
        };
        assert_eq!(find(&[raw(&[0; 7])]), None);
        assert_eq!(find(&[raw(&[0xFF; 8])]), None);
        assert_eq!(find(&[]), None);
    }
}
