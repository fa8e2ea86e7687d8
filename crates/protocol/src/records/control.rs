//! Control records: the keys and values of markers that consumers never see.
//!
//! A key is `version` and `type`, two bytes each. As in Kafka, a higher version is read as the known one.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::messages::{
    EndTxnMarkerData, KRaftVersionRecordData, LeaderChangeMessageData, SnapshotFooterRecordData,
    SnapshotHeaderRecordData, VotersRecordData,
};

/// The type of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ControlType {
    /// The transaction of this producer is aborted.
    Abort,
    /// The transaction of this producer is committed.
    Commit,
    /// A new leader of the metadata quorum.
    LeaderChange,
    /// The start of a metadata snapshot.
    SnapshotHeader,
    /// The end of a metadata snapshot.
    SnapshotFooter,
    /// The feature level `kraft.version`.
    KRaftVersion,
    /// The voters of the metadata quorum.
    KRaftVoters,
    /// A type that this release does not know.
    Unknown(i16),
}

impl ControlType {
    /// The type's number in the key.
    pub fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KRaftVersion => 5,
            Self::KRaftVoters => 6,
            Self::Unknown(id) => id,
        }
    }

    fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KRaftVersion,
            6 => Self::KRaftVoters,
            _ => Self::Unknown(id),
        }
    }

    /// Reads the key of a control record.
    pub fn from_key(key: Option<&[u8]>) -> Result<Self, ControlError> {
        let mut key = key.ok_or(ControlError::Key)?;
        let version = key.try_get_i16().map_err(|_| ControlError::Key)?;
        let id = key.try_get_i16().map_err(|_| ControlError::Key)?;
        if version < 0 {
            return Err(ControlError::Key);
        }
        Ok(Self::from_id(id))
    }

    /// The key of a control record of this type.
    pub fn key(self) -> [u8; 4] {
        let [high, low] = self.id().to_be_bytes();
        [0, 0, high, low]
    }
}

/// Why a control record cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ControlError {
    /// The key is not a control key.
    #[error("the key of a control record is malformed")]
    Key,
    /// The value does not fit the type.
    #[error("the value of a control record of type {0:?} is malformed")]
    Value(ControlType),
}

/// A control record, decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum ControlRecord {
    /// The marker of an aborted transaction.
    Abort(EndTxnMarkerData),
    /// The marker of a committed transaction.
    Commit(EndTxnMarkerData),
    /// See [`ControlType::LeaderChange`].
    LeaderChange(LeaderChangeMessageData),
    /// See [`ControlType::SnapshotHeader`].
    SnapshotHeader(SnapshotHeaderRecordData),
    /// See [`ControlType::SnapshotFooter`].
    SnapshotFooter(SnapshotFooterRecordData),
    /// See [`ControlType::KRaftVersion`].
    KRaftVersion(KRaftVersionRecordData),
    /// See [`ControlType::KRaftVoters`].
    KRaftVoters(VotersRecordData),
    /// A type that this release does not know; it is skipped.
    Unknown(i16),
}

impl ControlRecord {
    /// Its type.
    pub fn control_type(&self) -> ControlType {
        match self {
            Self::Abort(_) => ControlType::Abort,
            Self::Commit(_) => ControlType::Commit,
            Self::LeaderChange(_) => ControlType::LeaderChange,
            Self::SnapshotHeader(_) => ControlType::SnapshotHeader,
            Self::SnapshotFooter(_) => ControlType::SnapshotFooter,
            Self::KRaftVersion(_) => ControlType::KRaftVersion,
            Self::KRaftVoters(_) => ControlType::KRaftVoters,
            Self::Unknown(id) => ControlType::Unknown(*id),
        }
    }

    /// Reads key and value of a record of a control batch.
    pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, ControlError> {
        let kind = ControlType::from_key(key)?;
        let malformed = ControlError::Value(kind);
        if let ControlType::Unknown(id) = kind {
            return Ok(Self::Unknown(id));
        }
        let mut value = Bytes::copy_from_slice(value.ok_or(malformed)?);
        let decoded = match kind {
            ControlType::Abort => read_marker(&mut value).map(Self::Abort),
            ControlType::Commit => read_marker(&mut value).map(Self::Commit),
            ControlType::LeaderChange => {
                let version = peek_version(&value).ok_or(malformed)?;
                LeaderChangeMessageData::read(&mut value, version.min(1))
                    .ok()
                    .map(Self::LeaderChange)
            }
            ControlType::SnapshotHeader => SnapshotHeaderRecordData::read(&mut value, 0)
                .ok()
                .map(Self::SnapshotHeader),
            ControlType::SnapshotFooter => SnapshotFooterRecordData::read(&mut value, 0)
                .ok()
                .map(Self::SnapshotFooter),
            ControlType::KRaftVersion => KRaftVersionRecordData::read(&mut value, 0)
                .ok()
                .map(Self::KRaftVersion),
            ControlType::KRaftVoters => VotersRecordData::read(&mut value, 0)
                .ok()
                .map(Self::KRaftVoters),
            ControlType::Unknown(id) => Some(Self::Unknown(id)),
        };
        decoded.ok_or(malformed)
    }

    /// The value, for a record whose key is `control_type().key()`.
    pub fn encode_value(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Abort(marker) | Self::Commit(marker) => {
                out.put_i16(0);
                marker.write(&mut out, 0)
            }
            Self::LeaderChange(message) => message.write(&mut out, message.version),
            Self::SnapshotHeader(header) => header.write(&mut out, 0),
            Self::SnapshotFooter(footer) => footer.write(&mut out, 0),
            Self::KRaftVersion(version) => version.write(&mut out, 0),
            Self::KRaftVoters(voters) => voters.write(&mut out, 0),
            Self::Unknown(_) => Ok(()),
        }
        .expect("control records encode into memory");
        out.freeze()
    }
}

/// Markers have their version in front of the value; the quorum's records have it as their first field.
fn read_marker(value: &mut Bytes) -> Option<EndTxnMarkerData> {
    let version = value.try_get_i16().ok()?;
    if version < 0 {
        return None;
    }
    EndTxnMarkerData::read(value, 0).ok()
}

fn peek_version(value: &[u8]) -> Option<i16> {
    value
        .first_chunk()
        .map(|version| i16::from_be_bytes(*version))
        .filter(|version| *version >= 0)
}

#[cfg(test)]
mod tests {
    use super::{ControlRecord, ControlType};
    use crate::messages::{EndTxnMarkerData, KRaftVersionRecordData, LeaderChangeMessageData};

    #[test]
    fn round_trips() {
        let records = [
            ControlRecord::Abort(EndTxnMarkerData::default().with_coordinator_epoch(7)),
            ControlRecord::Commit(EndTxnMarkerData::default().with_coordinator_epoch(-1)),
            ControlRecord::LeaderChange(
                LeaderChangeMessageData::default()
                    .with_version(1)
                    .with_leader_id(3),
            ),
            ControlRecord::KRaftVersion(KRaftVersionRecordData::default().with_k_raft_version(1)),
        ];
        for record in records {
            let key = record.control_type().key();
            assert_eq!(
                ControlRecord::decode(Some(&key), Some(&record.encode_value())).unwrap(),
                record
            );
        }
    }

    #[test]
    fn passes_over_unknown_types_and_refuses_short_ones() {
        assert_eq!(
            ControlType::from_key(Some(&[0, 0, 0, 99])),
            Ok(ControlType::Unknown(99))
        );
        assert!(ControlType::from_key(Some(&[0, 0, 0])).is_err());
        assert!(ControlRecord::decode(Some(&[0, 0, 0, 1]), Some(&[0, 0, 1])).is_err());
        assert!(ControlRecord::decode(Some(&[0, 0, 0, 1]), None).is_err());
    }
}
