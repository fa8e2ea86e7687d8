//! `DescribeGroups`: classic groups with their members.

use bytes::Bytes;
use ottla_protocol::messages::ErrorCode;

use crate::shard::Shard;

/// A request to describe one classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeGroupRequest {
    pub group_id: String,
}

/// A group as tools see it.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedGroup {
    /// The name of its state.
    pub state: &'static str,
    /// Its protocol type, empty for none.
    pub protocol_type: String,
    /// Its protocol, empty for none.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

/// A member as tools see it.
#[derive(Debug, Clone, PartialEq)]
pub struct DescribedMember {
    pub id: String,
    /// Its static identity.
    pub instance_id: Option<String>,
    /// The client id it joined with.
    pub client_id: String,
    /// The address it joined from.
    pub client_host: String,
    /// Its metadata for the group's protocol.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// Why a group cannot be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescribeError {
    /// There is no such group.
    NotFound,
    /// It is of a newer protocol.
    NotClassic,
}

impl DescribeError {
    /// Kafka's code (for version 6 and later; before, a group that is not there is described as dead).
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotFound | Self::NotClassic => ErrorCode::GroupIdNotFound,
        }
    }
}

impl Shard {
    /// Describes a classic group.
    pub fn describe(&self, group_id: &str) -> Result<DescribedGroup, DescribeError> {
        if self.state().foreign(group_id).is_some() {
            return Err(DescribeError::NotClassic);
        }
        let group = self.classic(group_id).ok_or(DescribeError::NotFound)?;
        Ok(group.describe())
    }
}
