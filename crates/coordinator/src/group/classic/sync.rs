//! `SyncGroup`: the leader sends the assignments, and each member gets its own.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::group::State;
use super::messages::{SyncError, SyncRequest};
use super::record;
use super::transition::Transition;
use crate::action::{Action, IfRefused};
use crate::ticket::Ticket;
use crate::timers::Kind;

impl Transition<'_> {
    /// Handles a `SyncGroup`.
    pub fn on_sync(&mut self, ticket: Ticket, request: &SyncRequest) {
        if let Err(error) = self.check_sync(request) {
            return self.actions.push(Action::ReplySync(ticket, Err(error)));
        }
        self.no_longer_pending(&request.member_id);
        if self.group.state == State::Stable {
            let synced = self.synced(&request.member_id);
            return self.actions.push(Action::ReplySync(ticket, Ok(synced)));
        }
        self.wait_for_assignment(ticket, &request.member_id);
        if self.group.is_leader(&request.member_id) {
            self.assign(&request.assignments);
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), SyncError> {
        let group = &self.group;
        if group.state == State::Empty {
            return Err(SyncError::UnknownMember);
        }
        group.check_identity(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != group.generation {
            return Err(SyncError::IllegalGeneration);
        }
        let differs = |said: &Option<String>, is: &Option<String>| {
            said.is_some() && is.is_some() && said != is
        };
        if differs(&request.protocol_type, &group.protocol_type)
            || differs(&request.protocol, &group.protocol)
        {
            return Err(SyncError::InconsistentProtocol);
        }
        if group.state == State::PreparingRebalance {
            return Err(SyncError::RebalanceInProgress);
        }
        Ok(())
    }

    fn no_longer_pending(&mut self, member_id: &str) {
        self.group.pending_syncs.remove(member_id);
        if self.group.pending_syncs.is_empty() {
            self.cancel_timer(Kind::Sync);
        }
    }

    fn wait_for_assignment(&mut self, ticket: Ticket, member_id: &str) {
        let member = self.group.members.get_mut(member_id);
        let superseded = member.and_then(|member| member.awaiting_sync.replace(ticket));
        if let Some(superseded) = superseded {
            let refused = Err(SyncError::RebalanceInProgress);
            self.actions.push(Action::ReplySync(superseded, refused));
        }
    }

    /// Takes the leader's assignments; a member without one gets an empty one. The group is stable at once. If the record
    /// is lost, this state and the replies are lost with it; if it is refused, see [`Self::assign_anew`].
    fn assign(&mut self, assignments: &BTreeMap<String, Bytes>) {
        for member in self.group.members.values_mut() {
            member.assignment = assignments.get(&member.id).cloned().unwrap_or_default();
        }
        let records = vec![record::of(self.group)];
        self.actions
            .push(Action::Append(records, IfRefused::Rebalance));
        self.reply_syncs(None);
        self.group.enter(State::Stable, self.now.wall);
    }

    /// The record with the assignments was refused, and so was every `SyncGroup`: the assignments are dropped, and all
    /// members join again with the ids that they have.
    pub fn assign_anew(&mut self) {
        for member in self.group.members.values_mut() {
            member.assignment = Bytes::new();
        }
        self.prepare_rebalance("the assignments could not be recorded");
    }
}
