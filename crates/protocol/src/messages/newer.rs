//! The messages of Kafka 4.4 that are served here and that the codec crate, which knows Kafka 4.3, lacks.
//!
//! They have the shape of the codec crate's types and stand in their place in [`messages`](super). The versions that it
//! knows are read and written by it. `cargo xtask codec-test` compares all of them with Kafka's own classes.

use bytes::{Bytes, BytesMut};
use kacrab_protocol::error::Result;
use kacrab_protocol::generated as known;
use kacrab_protocol::{KafkaString, RawTaggedField};

use super::field::{At, Field, Shown, read_tagged_fields, write_tagged_fields};
use known::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};

/// The first version of `ApiVersions` with the broker that the client expects (KIP-1242).
pub const API_VERSIONS_LATEST: i16 = 5;
/// The first version of `DeleteGroups` with a message for each group.
pub const DELETE_GROUPS_LATEST: i16 = 3;

/// The version at which the codec crate reads and writes a body that `latest` has not changed.
const fn unchanged(version: i16, latest: i16) -> i16 {
    if version == latest {
        latest - 1
    } else {
        version
    }
}

/// How fields stand in the newest version of both APIs.
const fn flexible(version: i16) -> At {
    At {
        version,
        flexible: true,
    }
}

/// The request of `ApiVersions`.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiVersionsRequestData {
    /// The name of the client's software, from version 3 on.
    pub client_software_name: KafkaString,
    /// The version of the client's software, from version 3 on.
    pub client_software_version: KafkaString,
    /// The cluster that the client expects, from version 5 on; none where it expects nothing.
    pub cluster_id: Option<KafkaString>,
    /// The node that the client expects, from version 5 on; -1 where it expects nothing.
    pub node_id: i32,
    /// Tagged fields of later releases.
    pub unknown_tagged_fields: Vec<RawTaggedField>,
}

impl Default for ApiVersionsRequestData {
    fn default() -> Self {
        Self {
            client_software_name: KafkaString::default(),
            client_software_version: KafkaString::default(),
            cluster_id: None,
            node_id: -1,
            unknown_tagged_fields: Vec::new(),
        }
    }
}

impl ApiVersionsRequestData {
    /// With this name of the client's software.
    #[must_use]
    pub fn with_client_software_name(mut self, value: KafkaString) -> Self {
        self.client_software_name = value;
        self
    }

    /// With this version of the client's software.
    #[must_use]
    pub fn with_client_software_version(mut self, value: KafkaString) -> Self {
        self.client_software_version = value;
        self
    }

    /// Reads the body at `version` from the front of `buf`.
    pub fn read(buf: &mut Bytes, version: i16) -> Result<Self> {
        if version != API_VERSIONS_LATEST {
            let known = known::ApiVersionsRequestData::read(buf, version)?;
            return Ok(Self {
                client_software_name: known.client_software_name,
                client_software_version: known.client_software_version,
                unknown_tagged_fields: known._unknown_tagged_fields,
                ..Self::default()
            });
        }
        let at = flexible(version);
        Ok(Self {
            client_software_name: Field::read(buf, at)?,
            client_software_version: Field::read(buf, at)?,
            cluster_id: Field::read(buf, at)?,
            node_id: Field::read(buf, at)?,
            unknown_tagged_fields: read_tagged_fields(buf)?,
        })
    }

    /// Appends the body at `version` to `buf`. Versions before 5 leave out what the client expects, as in Kafka.
    pub fn write(&self, buf: &mut BytesMut, version: i16) -> Result<()> {
        if version != API_VERSIONS_LATEST {
            let known = known::ApiVersionsRequestData {
                client_software_name: self.client_software_name.clone(),
                client_software_version: self.client_software_version.clone(),
                _unknown_tagged_fields: self.unknown_tagged_fields.clone(),
            };
            return known.write(buf, version);
        }
        let at = flexible(version);
        self.client_software_name.write(buf, at)?;
        self.client_software_version.write(buf, at)?;
        self.cluster_id.write(buf, at)?;
        self.node_id.write(buf, at)?;
        Ok(write_tagged_fields(buf, &self.unknown_tagged_fields)?)
    }
}

/// The response of `ApiVersions`: version 5 is version 4.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiVersionsResponseData {
    /// The error of the whole request.
    pub error_code: i16,
    /// The APIs that the broker serves.
    pub api_keys: Vec<ApiVersion>,
    /// How long the request was throttled.
    pub throttle_time_ms: i32,
    /// The features that the broker supports.
    pub supported_features: Vec<SupportedFeatureKey>,
    /// The epoch of the finalised features; -1 where it is not known.
    pub finalized_features_epoch: i64,
    /// The levels that the cluster has finalised.
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// Whether a controller is ready for a migration from ZooKeeper.
    pub zk_migration_ready: bool,
    /// Tagged fields of later releases.
    pub unknown_tagged_fields: Vec<RawTaggedField>,
}

impl Default for ApiVersionsResponseData {
    fn default() -> Self {
        known::ApiVersionsResponseData::default().into()
    }
}

impl From<known::ApiVersionsResponseData> for ApiVersionsResponseData {
    fn from(known: known::ApiVersionsResponseData) -> Self {
        Self {
            error_code: known.error_code,
            api_keys: known.api_keys,
            throttle_time_ms: known.throttle_time_ms,
            supported_features: known.supported_features,
            finalized_features_epoch: known.finalized_features_epoch,
            finalized_features: known.finalized_features,
            zk_migration_ready: known.zk_migration_ready,
            unknown_tagged_fields: known._unknown_tagged_fields,
        }
    }
}

impl ApiVersionsResponseData {
    /// With this error.
    #[must_use]
    pub const fn with_error_code(mut self, value: i16) -> Self {
        self.error_code = value;
        self
    }

    /// With these APIs.
    #[must_use]
    pub fn with_api_keys(mut self, value: Vec<ApiVersion>) -> Self {
        self.api_keys = value;
        self
    }

    /// With these supported features.
    #[must_use]
    pub fn with_supported_features(mut self, value: Vec<SupportedFeatureKey>) -> Self {
        self.supported_features = value;
        self
    }

    /// With these finalised levels.
    #[must_use]
    pub fn with_finalized_features(mut self, value: Vec<FinalizedFeatureKey>) -> Self {
        self.finalized_features = value;
        self
    }

    /// With this epoch of the finalised levels.
    #[must_use]
    pub const fn with_finalized_features_epoch(mut self, value: i64) -> Self {
        self.finalized_features_epoch = value;
        self
    }

    /// Reads the body at `version` from the front of `buf`.
    pub fn read(buf: &mut Bytes, version: i16) -> Result<Self> {
        let version = unchanged(version, API_VERSIONS_LATEST);
        known::ApiVersionsResponseData::read(buf, version).map(Self::from)
    }

    /// Appends the body at `version` to `buf`.
    pub fn write(&self, buf: &mut BytesMut, version: i16) -> Result<()> {
        let known = known::ApiVersionsResponseData {
            error_code: self.error_code,
            api_keys: self.api_keys.clone(),
            throttle_time_ms: self.throttle_time_ms,
            supported_features: self.supported_features.clone(),
            finalized_features_epoch: self.finalized_features_epoch,
            finalized_features: self.finalized_features.clone(),
            zk_migration_ready: self.zk_migration_ready,
            _unknown_tagged_fields: self.unknown_tagged_fields.clone(),
        };
        known.write(buf, unchanged(version, API_VERSIONS_LATEST))
    }
}

/// The request of `DeleteGroups`: version 3 is version 2.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeleteGroupsRequestData {
    /// The groups to delete.
    pub groups_names: Vec<KafkaString>,
    /// Tagged fields of later releases.
    pub unknown_tagged_fields: Vec<RawTaggedField>,
}

impl DeleteGroupsRequestData {
    /// With these groups.
    #[must_use]
    pub fn with_groups_names(mut self, value: Vec<KafkaString>) -> Self {
        self.groups_names = value;
        self
    }

    /// Reads the body at `version` from the front of `buf`.
    pub fn read(buf: &mut Bytes, version: i16) -> Result<Self> {
        let version = unchanged(version, DELETE_GROUPS_LATEST);
        let known = known::DeleteGroupsRequestData::read(buf, version)?;
        Ok(Self {
            groups_names: known.groups_names,
            unknown_tagged_fields: known._unknown_tagged_fields,
        })
    }

    /// Appends the body at `version` to `buf`.
    pub fn write(&self, buf: &mut BytesMut, version: i16) -> Result<()> {
        let known = known::DeleteGroupsRequestData {
            groups_names: self.groups_names.clone(),
            _unknown_tagged_fields: self.unknown_tagged_fields.clone(),
        };
        known.write(buf, unchanged(version, DELETE_GROUPS_LATEST))
    }
}

/// The response of `DeleteGroups`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeleteGroupsResponseData {
    /// How long the request was throttled.
    pub throttle_time_ms: i32,
    /// How the deletion of each group ended.
    pub results: Vec<DeletableGroupResult>,
    /// Tagged fields of later releases.
    pub unknown_tagged_fields: Vec<RawTaggedField>,
}

impl DeleteGroupsResponseData {
    /// With these results.
    #[must_use]
    pub fn with_results(mut self, value: Vec<DeletableGroupResult>) -> Self {
        self.results = value;
        self
    }

    /// Reads the body at `version` from the front of `buf`.
    pub fn read(buf: &mut Bytes, version: i16) -> Result<Self> {
        if version != DELETE_GROUPS_LATEST {
            let known = known::DeleteGroupsResponseData::read(buf, version)?;
            return Ok(Self {
                throttle_time_ms: known.throttle_time_ms,
                results: known.results.into_iter().map(Into::into).collect(),
                unknown_tagged_fields: known._unknown_tagged_fields,
            });
        }
        let at = flexible(version);
        Ok(Self {
            throttle_time_ms: Field::read(buf, at)?,
            results: Field::read(buf, at)?,
            unknown_tagged_fields: read_tagged_fields(buf)?,
        })
    }

    /// Appends the body at `version` to `buf`. Versions before 3 leave the messages out, as in Kafka.
    pub fn write(&self, buf: &mut BytesMut, version: i16) -> Result<()> {
        if version != DELETE_GROUPS_LATEST {
            let known = known::DeleteGroupsResponseData {
                throttle_time_ms: self.throttle_time_ms,
                results: self
                    .results
                    .iter()
                    .map(DeletableGroupResult::without_message)
                    .collect(),
                _unknown_tagged_fields: self.unknown_tagged_fields.clone(),
            };
            return known.write(buf, version);
        }
        let at = flexible(version);
        self.throttle_time_ms.write(buf, at)?;
        self.results.write(buf, at)?;
        Ok(write_tagged_fields(buf, &self.unknown_tagged_fields)?)
    }
}

/// How the deletion of one group ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeletableGroupResult {
    /// The group.
    pub group_id: KafkaString,
    /// The error, or 0.
    pub error_code: i16,
    /// What the error means, from version 3 on.
    pub error_message: Option<KafkaString>,
    /// Tagged fields of later releases.
    pub unknown_tagged_fields: Vec<RawTaggedField>,
}

impl From<known::delete_groups_response::DeletableGroupResult> for DeletableGroupResult {
    fn from(known: known::delete_groups_response::DeletableGroupResult) -> Self {
        Self {
            group_id: known.group_id,
            error_code: known.error_code,
            error_message: None,
            unknown_tagged_fields: known._unknown_tagged_fields,
        }
    }
}

impl DeletableGroupResult {
    /// With this group.
    #[must_use]
    pub fn with_group_id(mut self, value: KafkaString) -> Self {
        self.group_id = value;
        self
    }

    /// With this error.
    #[must_use]
    pub const fn with_error_code(mut self, value: i16) -> Self {
        self.error_code = value;
        self
    }

    fn without_message(&self) -> known::delete_groups_response::DeletableGroupResult {
        known::delete_groups_response::DeletableGroupResult {
            group_id: self.group_id.clone(),
            error_code: self.error_code,
            _unknown_tagged_fields: self.unknown_tagged_fields.clone(),
        }
    }
}

impl Field for DeletableGroupResult {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        Ok(Self {
            group_id: Field::read(buf, at)?,
            error_code: Field::read(buf, at)?,
            error_message: Field::read(buf, at)?,
            unknown_tagged_fields: read_tagged_fields(buf)?,
        })
    }

    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        self.group_id.write(buf, at)?;
        self.error_code.write(buf, at)?;
        self.error_message.write(buf, at)?;
        Ok(write_tagged_fields(buf, &self.unknown_tagged_fields)?)
    }

    fn show(&self, at: At) -> Shown {
        Shown::Fields(vec![
            ("groupId", self.group_id.show(at)),
            ("errorCode", self.error_code.show(at)),
            ("errorMessage", self.error_message.show(at)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiVersionsRequestData, DeletableGroupResult, DeleteGroupsResponseData};
    use bytes::{Bytes, BytesMut};

    #[test]
    fn what_a_client_expects_is_in_version_5_only() {
        let request = ApiVersionsRequestData {
            cluster_id: Some("c".to_owned().into()),
            node_id: 7,
            ..ApiVersionsRequestData::default()
        };
        for (version, expected) in [(4, None), (5, Some(7))] {
            let mut bytes = BytesMut::new();
            request.write(&mut bytes, version).unwrap();
            let read = ApiVersionsRequestData::read(&mut bytes.freeze(), version).unwrap();
            assert_eq!(read.node_id, expected.unwrap_or(-1));
            assert_eq!(read.cluster_id.is_some(), expected.is_some());
        }
        // As Kafka's own class writes the defaults: two empty strings, null, -1, no tagged fields.
        let mut bytes = BytesMut::new();
        ApiVersionsRequestData::default()
            .write(&mut bytes, 5)
            .unwrap();
        assert_eq!(bytes[..], [1, 1, 0, 255, 255, 255, 255, 0]);
    }

    #[test]
    fn a_message_is_in_version_3_of_delete_groups_only() {
        let result = DeletableGroupResult {
            error_message: Some("why".to_owned().into()),
            ..DeletableGroupResult::default().with_error_code(68)
        };
        let response = DeleteGroupsResponseData::default().with_results(vec![result]);
        for (version, has_message) in [(2, false), (3, true)] {
            let mut bytes = BytesMut::new();
            response.write(&mut bytes, version).unwrap();
            let mut bytes: Bytes = bytes.freeze();
            let read = DeleteGroupsResponseData::read(&mut bytes, version).unwrap();
            assert_eq!(read.results[0].error_code, 68);
            assert_eq!(read.results[0].error_message.is_some(), has_message);
        }
    }

    #[test]
    fn versions_that_do_not_exist_are_refused() {
        let mut bytes = BytesMut::new();
        assert!(
            ApiVersionsRequestData::default()
                .write(&mut bytes, 6)
                .is_err()
        );
        assert!(ApiVersionsRequestData::read(&mut Bytes::new(), 6).is_err());
        assert!(DeleteGroupsResponseData::read(&mut Bytes::new(), 4).is_err());
    }
}
