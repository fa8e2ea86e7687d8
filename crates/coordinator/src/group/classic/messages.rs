//! `JoinGroup` and `SyncGroup`, and their replies. Plain data, on which the other files of the classic group build.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::ErrorCode;

use crate::config::Config;

/// A protocol (for consumers: an assignor) that a member supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    /// What the member tells the leader: for consumers, its subscription.
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JoinRequest {
    pub group_id: String,
    /// Empty for a newcomer.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client id of the request.
    pub client_id: String,
    /// The address the request came from, as Java prints it (`/127.0.0.1`).
    pub client_host: String,
    /// How long it stays a member without a heartbeat.
    pub session_timeout: Duration,
    /// How long a rebalance waits for it to rejoin.
    pub rebalance_timeout: Duration,
    /// What its protocols are for: `consumer`, `connect`, …
    pub protocol_type: String,
    /// Its protocols, best first.
    pub protocols: Vec<Protocol>,
    /// Why it joins, in the client's words.
    pub reason: Option<String>,
    /// Whether a dynamic newcomer must come back with the id it is given (version 4 and later).
    pub member_id_required: bool,
    /// Whether the client understands `skip_assignment` (version 9 and later).
    pub can_skip_assignment: bool,
    /// A fresh random UUID, for the id of a newcomer.
    pub fresh_id: String,
}

impl JoinRequest {
    /// The checks that need no group.
    pub fn check(&self, config: &Config) -> Result<(), JoinError> {
        if self.group_id.is_empty() {
            return Err(JoinError::InvalidGroupId);
        }
        let allowed = config.min_session_timeout..=config.max_session_timeout;
        if !allowed.contains(&self.session_timeout) {
            return Err(JoinError::InvalidSessionTimeout);
        }
        Ok(())
    }

    pub(super) fn why(&self) -> &str {
        let reason = self.reason.as_deref();
        reason
            .filter(|why| !why.is_empty())
            .unwrap_or("not provided")
    }
}

/// The answer to a request to join.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinReply {
    /// The id that the member must use from now on.
    pub member_id: String,
    /// The new generation, or why the member has not joined.
    pub outcome: Result<Joined, JoinError>,
}

impl JoinReply {
    /// A refusal.
    pub fn refused(member_id: &str, error: JoinError) -> Self {
        Self {
            member_id: member_id.to_owned(),
            outcome: Err(error),
        }
    }
}

/// A generation, as one of its members sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: Option<String>,
    /// The elected protocol.
    pub protocol: Option<String>,
    /// The leader's id.
    pub leader: Option<String>,
    /// Whether the leader, to which this reply goes, must keep the current assignment.
    pub skip_assignment: bool,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member, as the leader sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinedMember {
    pub id: String,
    /// Its static identity.
    pub instance_id: Option<String>,
    /// Its metadata for the elected protocol.
    pub metadata: Bytes,
}

/// Why a request to join is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinError {
    /// The group id is empty.
    InvalidGroupId,
    /// The session timeout is outside the bounds of the broker.
    InvalidSessionTimeout,
    /// The member must join again with the id in the reply.
    MemberIdRequired,
    /// No member has this id.
    UnknownMember,
    /// Another instance has taken over the static identity.
    FencedInstance,
    /// Not all members support one of these protocols.
    InconsistentProtocol,
    GroupFull,
    /// The member has sent another `JoinGroup` since.
    Superseded,
}

impl JoinError {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            Self::MemberIdRequired => ErrorCode::MemberIdRequired,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::GroupFull => ErrorCode::GroupMaxSizeReached,
            Self::Superseded => ErrorCode::RebalanceInProgress,
        }
    }
}

impl From<IdentityError> for JoinError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::UnknownMember => Self::UnknownMember,
            IdentityError::Fenced => Self::FencedInstance,
        }
    }
}

/// A request for an assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncRequest {
    pub group_id: String,
    pub member_id: String,
    /// Its static identity.
    pub instance_id: Option<String>,
    /// The generation that the member knows.
    pub generation: i32,
    /// The protocol type that the member knows, if it sends one (version 5 and later).
    pub protocol_type: Option<String>,
    /// The protocol that the member knows, if it sends one (version 5 and later).
    pub protocol: Option<String>,
    /// From the leader: the assignment of each member.
    pub assignments: BTreeMap<String, Bytes>,
}

/// The answer to a request for an assignment.
pub type SyncReply = Result<Synced, SyncError>;

/// An assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Synced {
    /// The protocol type of the group.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// The member's assignment, as the leader encoded it.
    pub assignment: Bytes,
}

/// Why there is no assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncError {
    /// The group id is empty.
    InvalidGroupId,
    /// No member has this id, or there is no such group.
    UnknownMember,
    /// Another instance has taken over the static identity.
    FencedInstance,
    /// Not the current generation.
    IllegalGeneration,
    /// Not the protocol of this generation.
    InconsistentProtocol,
    /// A new rebalance has begun: join again.
    RebalanceInProgress,
}

impl SyncError {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        }
    }
}

impl From<IdentityError> for SyncError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::UnknownMember => Self::UnknownMember,
            IdentityError::Fenced => Self::FencedInstance,
        }
    }
}

/// What is wrong with the identity in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityError {
    /// No member has this id.
    UnknownMember,
    /// Another member has taken over this static identity.
    Fenced,
}
