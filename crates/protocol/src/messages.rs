//! Every message of Kafka 4.4 that is read or served: requests and responses, metadata records, coordinator records.
//!
//! `cargo xtask generate` writes all of them from the schema files in Kafka's jars: their fields, defaults and versions.
//! [`field`] has the encoding of a field, [`framing`] the bytes around a record.

#[allow(
    ambiguous_glob_reexports,
    clippy::unreadable_literal,
    clippy::allow_attributes,
    reason = "generated: structs of different messages share names, which are reached by their modules; defaults are as in the schemas"
)]
pub mod api;
pub mod by_api;
#[allow(
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "generated: one arm a record type, one line a field"
)]
pub mod coordinator;
mod error;
pub mod field;
pub mod framing;
#[allow(
    clippy::too_many_lines,
    clippy::allow_attributes,
    reason = "generated: one arm a record type, one line a field"
)]
pub mod metadata;
pub mod reader;
pub mod shown;
mod string;
mod tagged;
pub mod writer;

pub use api::*;
pub use error::ProtocolError;
pub use framing::RecordError;
pub use string::KafkaString;
pub use tagged::RawTaggedField;

pub use crate::api_key::ApiKey;
pub use crate::error_code::ErrorCode;
pub use crate::uuid::Uuid as KafkaUuid;

#[cfg(test)]
mod tests {
    use super::coordinator::group::{GroupRecord, OffsetCommitKey, OffsetCommitValue};
    use super::delete_groups_response::DeletableGroupResult;
    use super::metadata::{MetadataRecord, PartitionRecord, TopicRecord};
    use super::{
        ApiVersionsRequestData, DeleteGroupsResponseData, KafkaUuid, LeaveGroupResponseData,
        ProtocolError, RecordError,
    };
    use bytes::{Bytes, BytesMut};

    #[test]
    fn what_a_client_expects_is_in_version_5_only() {
        let request = ApiVersionsRequestData::default()
            .with_cluster_id(Some("c".to_owned().into()))
            .with_node_id(7);
        for (version, expected) in [(4, None), (5, Some(7))] {
            let mut bytes = BytesMut::new();
            request.write(&mut bytes, version).unwrap();
            let read = ApiVersionsRequestData::read(&mut bytes.freeze(), version).unwrap();
            assert_eq!(read.node_id, expected.unwrap_or(-1));
            assert_eq!(read.cluster_id.is_some(), expected.is_some());
        }
        // As Kafka's own class writes the defaults: two empty strings, null, -1, no tagged fields.
        let mut bytes = BytesMut::new();
        let request = ApiVersionsRequestData::default();
        request.write(&mut bytes, 5).unwrap();
        assert_eq!(bytes[..], [1, 1, 0, 255, 255, 255, 255, 0]);
    }

    #[test]
    fn a_message_is_in_version_3_of_delete_groups_only() {
        let result = DeletableGroupResult::default()
            .with_error_code(68)
            .with_error_message(Some("why".to_owned().into()));
        let response = DeleteGroupsResponseData::default().with_results(vec![result]);
        for (version, has_message) in [(2, false), (3, true)] {
            let mut bytes = BytesMut::new();
            response.write(&mut bytes, version).unwrap();
            let read = DeleteGroupsResponseData::read(&mut bytes.freeze(), version).unwrap();
            assert_eq!(read.results[0].error_code, 68);
            assert_eq!(read.results[0].error_message.is_some(), has_message);
        }
    }

    #[test]
    fn versions_that_do_not_exist_are_refused() {
        let mut bytes = BytesMut::new();
        let request = ApiVersionsRequestData::default();
        assert!(request.write(&mut bytes, 6).is_err());
        assert!(ApiVersionsRequestData::read(&mut Bytes::new(), 6).is_err());
        assert!(DeleteGroupsResponseData::read(&mut Bytes::new(), 4).is_err());
    }

    #[test]
    fn the_first_error_is_told_and_nothing_is_read_behind_it() {
        // Throttle time, error code, and an array that claims more members than there are bytes.
        let mut bytes = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2]);
        let refused = LeaveGroupResponseData::read(&mut bytes, 3).unwrap_err();
        let (needed, available) = (0x7fff_ffff, 2);
        assert_eq!(refused, ProtocolError::Truncated { needed, available });
        // The second string of the client is not UTF-8, and the node's id is missing.
        let mut bytes = Bytes::from_static(&[2, b'a', 2, 0xff, 0]);
        let refused = ApiVersionsRequestData::read(&mut bytes, 5).unwrap_err();
        assert!(matches!(refused, ProtocolError::InvalidUtf8(_)));
    }

    #[test]
    fn metadata_record_round_trips_with_its_frame() {
        let record = MetadataRecord::from(PartitionRecord {
            partition_id: 3,
            replicas: vec![1, 2],
            isr: vec![1],
            leader: 1,
            eligible_leader_replicas: Some(vec![2]),
            directories: vec![KafkaUuid::ZERO, KafkaUuid::ZERO],
            ..PartitionRecord::default()
        });
        let bytes = record.encode(2).unwrap();
        assert_eq!(&bytes[..3], [1, 3, 2]);
        assert_eq!(MetadataRecord::decode(bytes).unwrap(), record);
    }

    #[test]
    fn bytes_behind_a_metadata_record_are_refused() {
        let record = MetadataRecord::from(TopicRecord::default());
        let mut bytes = record.encode(0).unwrap().to_vec();
        bytes.push(0);
        let refused = MetadataRecord::decode(Bytes::from(bytes));
        assert!(matches!(refused, Err(RecordError::Trailing(1))));
    }

    #[test]
    fn a_field_that_the_version_cannot_carry_is_refused() {
        let record = MetadataRecord::from(PartitionRecord {
            directories: vec![KafkaUuid::ZERO],
            ..PartitionRecord::default()
        });
        assert!(record.encode(0).is_err());
    }

    #[test]
    fn coordinator_record_round_trips_and_tombstones_have_no_value() {
        let key = OffsetCommitKey {
            group: "g".into(),
            topic: "t".into(),
            partition: 1,
            ..OffsetCommitKey::default()
        };
        let value = OffsetCommitValue {
            offset: 7,
            ..OffsetCommitValue::default()
        };
        let record = GroupRecord::OffsetCommit(key.clone(), Some(value));
        let (key_bytes, value_bytes) = record.encode(4).unwrap();
        assert_eq!(&key_bytes[..2], [0, 1]);
        assert_eq!(
            GroupRecord::decode(key_bytes.clone(), value_bytes).unwrap(),
            record
        );
        assert_eq!(
            GroupRecord::decode(key_bytes, None).unwrap(),
            GroupRecord::OffsetCommit(key, None)
        );
    }
}
