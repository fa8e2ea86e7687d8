//! `Heartbeat`: restarts the session of a member, and tells it whether it must rejoin.

use ottla_protocol::messages::ErrorCode;

use super::group::State;
use super::messages::IdentityError;
use super::transition::Transition;

/// A `Heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRequest {
    pub group_id: String,
    pub member_id: String,
    /// Its static identity.
    pub instance_id: Option<String>,
    /// The generation that the member knows.
    pub generation: i32,
}

/// Why a heartbeat is refused, or that the member must rejoin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatError {
    /// The group id is empty.
    InvalidGroupId,
    /// No member has this id, or there is no such group.
    UnknownMember,
    /// Another instance has taken over the static identity.
    FencedInstance,
    /// Not the current generation.
    IllegalGeneration,
    /// The heartbeat counts, and the member must rejoin.
    RebalanceInProgress,
}

impl HeartbeatError {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        }
    }
}

impl From<IdentityError> for HeartbeatError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::UnknownMember => Self::UnknownMember,
            IdentityError::Fenced => Self::FencedInstance,
        }
    }
}

impl Transition<'_> {
    /// Handles a Heartbeat.
    pub fn on_heartbeat(&mut self, request: &HeartbeatRequest) -> Result<(), HeartbeatError> {
        let instance_id = request.instance_id.as_deref();
        self.group.check_identity(&request.member_id, instance_id)?;
        if request.generation != self.group.generation {
            return Err(HeartbeatError::IllegalGeneration);
        }
        self.keep_alive(&request.member_id);
        match self.group.state {
            State::Empty => Err(HeartbeatError::UnknownMember),
            State::PreparingRebalance => Err(HeartbeatError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }
}
