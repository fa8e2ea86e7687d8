//! Decodes the records of Kafka's own topics. Types and fields have the names of Kafka's schemas.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::messages::coordinator::share::ShareRecord;
use ottla_protocol::messages::coordinator::transaction::TransactionRecord;
use ottla_protocol::messages::framing;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::messages::shown::Shown;
use ottla_protocol::records::control::ControlRecord;
use serde_json::{Value, json};

/// One of Kafka's own topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InternalTopic {
    /// `__cluster_metadata`.
    Metadata,
    /// `__consumer_offsets`.
    Groups,
    /// `__transaction_state`.
    Transactions,
    /// `__share_group_state`.
    ShareGroups,
}

impl InternalTopic {
    /// The topic of a file, by the name of its directory; a `.checkpoint` is a metadata snapshot.
    pub fn of_file(file: &Path) -> Option<Self> {
        if file
            .extension()
            .is_some_and(|extension| extension == "checkpoint")
        {
            return Some(Self::Metadata);
        }
        let file = file.canonicalize().ok()?;
        let directory = file.parent()?.file_name()?.to_str()?;
        let (topic, _) = directory.rsplit_once('-')?;
        match topic {
            "__cluster_metadata" => Some(Self::Metadata),
            "__consumer_offsets" => Some(Self::Groups),
            "__transaction_state" => Some(Self::Transactions),
            "__share_group_state" => Some(Self::ShareGroups),
            _ => None,
        }
    }

    /// Decodes a record of this topic. The error says why the record cannot be decoded.
    pub fn decode(self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded, String> {
        let bytes = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let (key, value) = (bytes(key), bytes(value));
        if self == Self::Metadata {
            return metadata(value.ok_or("a metadata record without a value")?);
        }
        let key = key.ok_or("a coordinator's record without a key")?;
        let version = match &value {
            Some(value) => {
                let mut prefix = value.clone();
                Some(
                    framing::read_coordinator_prefix(&mut prefix)
                        .map_err(|error| error.to_string())?,
                )
            }
            None => None,
        };
        let at = version.unwrap_or(0);
        let shown = match self {
            Self::Groups => GroupRecord::decode(key, value).map(|record| record.show(at)),
            Self::Transactions => {
                TransactionRecord::decode(key, value).map(|record| record.show(at))
            }
            Self::ShareGroups | Self::Metadata => {
                ShareRecord::decode(key, value).map(|record| record.show(at))
            }
        };
        let (name, key, value) = shown.map_err(|error| error.to_string())?;
        Ok(Decoded {
            name,
            version,
            key: Some(key),
            value,
        })
    }
}

fn metadata(value: Bytes) -> Result<Decoded, String> {
    let mut prefix = value.clone();
    let prefix = framing::read_metadata_prefix(&mut prefix).map_err(|error| error.to_string())?;
    let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
    let (_, version) = prefix;
    let (name, fields) = record.show(version);
    Ok(Decoded {
        name,
        version: Some(version),
        key: None,
        value: Some(fields),
    })
}

/// A decoded record: `OffsetCommit v4 group=billing topic=orders partition=0: offset=42 …`.
pub struct Decoded {
    name: &'static str,
    version: Option<i16>,
    key: Option<Shown>,
    /// `None` for a tombstone.
    value: Option<Shown>,
}

impl Decoded {
    /// Decodes a control record. The error says why it cannot be decoded.
    pub fn of_control(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, String> {
        let record = ControlRecord::decode(key, value).map_err(|error| error.to_string())?;
        let (name, fields) = control(&record);
        Ok(Self {
            name,
            version: None,
            key: None,
            value: Some(Shown::Fields(fields)),
        })
    }

    /// Replaces the bytes in the JSON document by the decoded fields; a control record's are under
    /// `control`.
    pub fn fill(&self, document: &mut Value, is_control: bool) {
        let value = self.value.as_ref().map_or(Value::Null, to_json);
        if is_control {
            let mut control = value;
            control["type"] = json!(self.name);
            document["control"] = control;
            return;
        }
        document["type"] = json!(self.name);
        if let Some(version) = self.version {
            document["version"] = json!(version);
        }
        if let Some(key) = &self.key {
            document["key"] = to_json(key);
        }
        document["value"] = value;
    }
}

impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(version) = self.version {
            write!(f, " v{version}")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {}:", Fields(key))?;
        }
        match &self.value {
            None => write!(f, " tombstone"),
            Some(Shown::Fields(fields)) if fields.is_empty() => Ok(()),
            Some(value) => write!(f, " {}", Fields(value)),
        }
    }
}

/// `a=1 b=[2, 3] c={d=null}`.
struct Fields<'a>(&'a Shown);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown::Fields(fields) = self.0 else {
            return write_value(f, self.0);
        };
        for (place, (name, value)) in fields.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(f, "{space}{name}=")?;
            write_value(f, value)?;
        }
        Ok(())
    }
}

fn write_value(f: &mut fmt::Formatter<'_>, value: &Shown) -> fmt::Result {
    match value {
        Shown::Fields(_) => write!(f, "{{{}}}", Fields(value)),
        Shown::List(items) => {
            write!(f, "[")?;
            for (place, item) in items.iter().enumerate() {
                let comma = if place == 0 { "" } else { ", " };
                write!(f, "{comma}")?;
                write_value(f, item)?;
            }
            write!(f, "]")
        }
        Shown::Bytes(bytes) => write!(f, "base64:{}", STANDARD.encode(bytes)),
        // A text that could be read as other syntax is quoted.
        Shown::Text(text) if is_plain(text) => write!(f, "{text}"),
        Shown::Null | Shown::Bool(_) | Shown::Integer(_) | Shown::Float(_) | Shown::Text(_) => {
            write!(f, "{}", to_json(value))
        }
    }
}

fn is_plain(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/,".contains(letter);
    !text.is_empty() && text != "null" && text.chars().all(is_plain)
}

fn to_json(shown: &Shown) -> Value {
    match shown {
        Shown::Null => Value::Null,
        Shown::Bool(truth) => json!(truth),
        Shown::Integer(number) => json!(number),
        Shown::Float(number) => json!(number),
        Shown::Text(text) => json!(text),
        Shown::Bytes(bytes) => json!({ "base64": STANDARD.encode(bytes) }),
        Shown::List(items) => items.iter().map(to_json).collect(),
        Shown::Fields(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| ((*name).to_owned(), to_json(value)));
            Value::Object(fields.collect())
        }
    }
}

/// The name of a control record, in capitals as in Kafka's tools, and its fields.
fn control(record: &ControlRecord) -> (&'static str, Vec<(&'static str, Shown)>) {
    let number = |number: i64| Shown::Integer(number);
    match record {
        ControlRecord::Abort(marker) => (
            "ABORT",
            vec![("coordinatorEpoch", number(marker.coordinator_epoch.into()))],
        ),
        ControlRecord::Commit(marker) => (
            "COMMIT",
            vec![("coordinatorEpoch", number(marker.coordinator_epoch.into()))],
        ),
        ControlRecord::LeaderChange(change) => {
            let ids = |voters: &[ottla_protocol::messages::leader_change_message::Voter]| {
                let ids = voters.iter().map(|voter| number(voter.voter_id.into()));
                Shown::List(ids.collect())
            };
            let fields = vec![
                ("leaderId", number(change.leader_id.into())),
                ("voters", ids(&change.voters)),
                ("grantingVoters", ids(&change.granting_voters)),
            ];
            ("LEADER_CHANGE", fields)
        }
        ControlRecord::SnapshotHeader(header) => {
            let timestamp = number(header.last_contained_log_timestamp);
            (
                "SNAPSHOT_HEADER",
                vec![("lastContainedLogTimestamp", timestamp)],
            )
        }
        ControlRecord::SnapshotFooter(_) => ("SNAPSHOT_FOOTER", Vec::new()),
        ControlRecord::KRaftVersion(version) => (
            "KRAFT_VERSION",
            vec![("kRaftVersion", number(version.k_raft_version.into()))],
        ),
        ControlRecord::KRaftVoters(voters) => {
            let voters = voters.voters.iter().map(voter).collect();
            ("KRAFT_VOTERS", vec![("voters", Shown::List(voters))])
        }
        ControlRecord::Unknown(id) => ("UNKNOWN", vec![("typeId", number((*id).into()))]),
    }
}

fn voter(voter: &ottla_protocol::messages::voters_record::Voter) -> Shown {
    let endpoints = voter.endpoints.iter().map(|endpoint| {
        Shown::Fields(vec![
            ("name", Shown::Text(endpoint.name.to_string())),
            ("host", Shown::Text(endpoint.host.to_string())),
            ("port", Shown::Integer(endpoint.port.into())),
        ])
    });
    let versions = &voter.k_raft_version_feature;
    let versions = vec![
        (
            "minSupportedVersion",
            Shown::Integer(versions.min_supported_version.into()),
        ),
        (
            "maxSupportedVersion",
            Shown::Integer(versions.max_supported_version.into()),
        ),
    ];
    Shown::Fields(vec![
        ("voterId", Shown::Integer(voter.voter_id.into())),
        (
            "voterDirectoryId",
            Shown::Text(voter.voter_directory_id.to_string()),
        ),
        ("endpoints", Shown::List(endpoints.collect())),
        ("kRaftVersionFeature", Shown::Fields(versions)),
    ])
}

#[cfg(test)]
mod tests {
    use super::{Decoded, InternalTopic, to_json};
    use ottla_protocol::messages::coordinator::group::{
        GroupRecord, OffsetCommitKey, OffsetCommitValue,
    };
    use ottla_protocol::messages::metadata::{MetadataRecord, PartitionRecord};
    use ottla_protocol::records::control::{ControlRecord, ControlType};
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn a_committed_offset_is_told_by_kafkas_names() {
        let key = OffsetCommitKey {
            group: "billing team".to_owned(),
            topic: "orders".to_owned(),
            partition: 3,
            ..OffsetCommitKey::default()
        };
        let value = OffsetCommitValue {
            offset: 42,
            leader_epoch: 7,
            commit_timestamp: 1000,
            ..OffsetCommitValue::default()
        };
        let (key_bytes, value_bytes) = GroupRecord::OffsetCommit(key, Some(value))
            .encode(3)
            .unwrap();
        let decoded = InternalTopic::Groups.decode(Some(&key_bytes), value_bytes.as_deref());
        assert_eq!(
            decoded.unwrap().to_string(),
            "OffsetCommit v3 group=\"billing team\" topic=orders partition=3: \
             offset=42 leaderEpoch=7 metadata=\"\" commitTimestamp=1000"
        );
        let tombstone = InternalTopic::Groups
            .decode(Some(&key_bytes), None)
            .unwrap();
        assert!(tombstone.to_string().ends_with("partition=3: tombstone"));
    }

    #[test]
    fn a_metadata_record_shows_what_its_version_carries() {
        let record = MetadataRecord::from(PartitionRecord {
            partition_id: 1,
            replicas: vec![1, 2],
            isr: vec![1],
            ..PartitionRecord::default()
        });
        let decoded = |version| {
            let bytes = record.encode(version).unwrap();
            InternalTopic::Metadata.decode(None, Some(&bytes)).unwrap()
        };
        assert!(!decoded(0).to_string().contains("directories"));
        let shown = decoded(1);
        assert!(
            shown
                .to_string()
                .starts_with("PartitionRecord v1 partitionId=1 topicId=")
        );
        assert!(shown.to_string().contains(" replicas=[1, 2] isr=[1] "));
        let document = to_json(shown.value.as_ref().unwrap());
        assert_eq!(document["directories"], json!([]));
        assert_eq!(document["leaderEpoch"], -1);
    }

    #[test]
    fn a_control_record_is_told_by_its_type_and_fields() {
        let commit =
            ControlRecord::decode(Some(&ControlType::Commit.key()), Some(&[0, 0, 0, 0, 0, 9]));
        let commit = commit.unwrap();
        let (key, value) = (ControlType::Commit.key(), commit.encode_value());
        let decoded = Decoded::of_control(Some(&key), Some(&value)).unwrap();
        assert_eq!(decoded.to_string(), "COMMIT coordinatorEpoch=9");
        let mut document = json!({});
        decoded.fill(&mut document, true);
        assert_eq!(
            document,
            json!({"control": {"type": "COMMIT", "coordinatorEpoch": 9}})
        );
    }

    #[test]
    fn a_snapshot_of_the_metadata_is_known_by_its_name() {
        let topic = InternalTopic::of_file(Path::new("00000000000000000012-0000000001.checkpoint"));
        assert_eq!(topic, Some(InternalTopic::Metadata));
        assert_eq!(InternalTopic::of_file(Path::new("nothing.log")), None);
    }

    #[test]
    fn what_is_no_record_of_the_topic_says_so() {
        let error = InternalTopic::Groups.decode(Some(&[0, 99]), None).err();
        assert_eq!(error.unwrap(), "unknown record type 99");
        assert!(InternalTopic::Metadata.decode(None, None).is_err());
    }
}
