//! `LeaveGroup`: removes members. An operator may remove static members by their `group.instance.id`.

use ottla_protocol::messages::ErrorCode;

use super::group::State;
use super::messages::IdentityError;
use super::transition::Transition;
use crate::timers::Kind;

/// A `LeaveGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveRequest {
    pub group_id: String,
    /// The members, in the order of the reply.
    pub members: Vec<Leaving>,
}

/// A member to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Empty if only the static identity is known.
    pub member_id: String,
    /// Its static identity.
    pub instance_id: Option<String>,
    /// Why, in the client's words.
    pub reason: Option<String>,
}

/// The outcome for each member.
pub type LeaveReply = Vec<Left>;

/// The outcome for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its id, as in the request.
    pub member_id: String,
    /// Its static identity, as in the request.
    pub instance_id: Option<String>,
    pub outcome: Result<(), LeaveError>,
}

impl Leaving {
    /// The outcome for this member, as the reply has it.
    pub fn answer(&self, outcome: Result<(), LeaveError>) -> Left {
        Left {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            outcome,
        }
    }
}

/// Why a member is not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveError {
    /// No member has this id, or there is no such group.
    UnknownMember,
    /// Another instance has taken over the static identity.
    FencedInstance,
}

impl LeaveError {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
        }
    }
}

impl From<IdentityError> for LeaveError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::UnknownMember => Self::UnknownMember,
            IdentityError::Fenced => Self::FencedInstance,
        }
    }
}

impl Transition<'_> {
    /// Handles a `LeaveGroup`.
    pub fn on_leave(&mut self, request: &LeaveRequest) -> LeaveReply {
        let mut reply = LeaveReply::new();
        for leaving in &request.members {
            reply.push(leaving.answer(self.leave(leaving)));
        }
        let gone: Vec<&str> = reply
            .iter()
            .filter(|left| left.outcome.is_ok())
            .map(|left| left.instance_id.as_deref().unwrap_or(&left.member_id))
            .collect();
        if !gone.is_empty() {
            self.after_leave(&gone);
        }
        reply
    }

    fn leave(&mut self, leaving: &Leaving) -> Result<(), LeaveError> {
        let instance_id = leaving.instance_id.as_deref();
        if leaving.member_id.is_empty() {
            let member_id = instance_id.and_then(|id| self.group.static_members.get(id));
            let member_id = member_id.cloned().ok_or(LeaveError::UnknownMember)?;
            self.remove_member(&member_id);
            return Ok(());
        }
        if self.group.pending_joins.contains(&leaving.member_id) {
            self.group.remove(&leaving.member_id);
            self.cancel_timer(Kind::Session(leaving.member_id.clone()));
            return Ok(());
        }
        self.group.check_identity(&leaving.member_id, instance_id)?;
        self.remove_member(&leaving.member_id);
        Ok(())
    }

    fn after_leave(&mut self, gone: &[&str]) {
        match self.group.state {
            State::Stable | State::CompletingRebalance => {
                self.prepare_rebalance(&format!("members left: {}", gone.join(", ")));
            }
            State::PreparingRebalance => self.complete_join_if_ready(),
            State::Empty => {}
        }
    }
}
