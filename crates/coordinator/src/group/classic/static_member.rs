//! A static member comes back under a new member id (KIP-345).
//!
//! The old id is fenced at once. In a stable group whose protocol stays the same there is no rebalance: the new id takes
//! over the assignment, and the change is recorded.

use super::group::State;
use super::member::{Member, StaticMemberBefore};
use super::messages::{JoinError, JoinRequest, SyncError};
use super::record;
use super::transition::Transition;
use crate::action::{Action, IfRefused};
use crate::ticket::Ticket;
use crate::timers::Kind;

impl Transition<'_> {
    /// Replaces the member of a static identity: `ids` are its old and its new id.
    pub(super) fn replace_static_member(
        &mut self,
        ticket: Ticket,
        request: &JoinRequest,
        ids: (&str, &str),
    ) {
        let (old_id, id) = ids;
        let old_leader = self.group.leader.clone();
        self.refuse_join(old_id, JoinError::FencedInstance, old_id);
        self.reply_sync(old_id, Err(SyncError::FencedInstance));
        let Some(member) = self.group.members.get(old_id).cloned() else {
            return;
        };
        self.take_over(&member, id);
        self.keep_alive(id);
        self.update_member(ticket, request, id);
        match self.group.state {
            State::Stable
                if self.group.protocol.as_deref() == Some(&self.group.elect_protocol()) =>
            {
                let before = StaticMemberBefore {
                    member,
                    leader: old_leader.clone(),
                    new_id: id.to_owned(),
                };
                let if_refused = IfRefused::Restore(Box::new(before));
                self.actions
                    .push(Action::Append(vec![record::of(self.group)], if_refused));
                self.reply_without_rebalance(request, id, old_leader);
            }
            State::Stable => {
                self.rebalance_or_complete_join(&format!(
                    "static member {id} changes the protocol"
                ));
            }
            // The leader may have received the old id already. It would then assign nothing to the new one.
            State::CompletingRebalance => {
                self.prepare_rebalance(&format!("static member {id} replaces {old_id}"));
            }
            State::PreparingRebalance | State::Empty => self.complete_join_if_ready(),
        }
    }

    fn take_over(&mut self, old: &Member, id: &str) {
        let mut member = old.clone();
        let led = self.group.is_leader(&old.id);
        let protocol_type = self.group.protocol_type.clone().unwrap_or_default();
        self.group.remove(&old.id);
        id.clone_into(&mut member.id);
        member.is_new = false;
        self.group.add(member, &protocol_type);
        if led {
            self.group.leader = Some(id.to_owned());
        }
    }

    /// Undoes the replacement of a static member, because the record with its new id was refused.
    pub fn restore_static_member(&mut self, before: StaticMemberBefore) {
        let protocol_type = self.group.protocol_type.clone().unwrap_or_default();
        let old_id = before.member.id.clone();
        self.cancel_timer(Kind::Session(before.new_id.clone()));
        self.group.remove(&before.new_id);
        self.group.add(before.member, &protocol_type);
        self.group.leader = before.leader;
        self.keep_alive(&old_id);
    }

    /// The reply to a static member that came back without a rebalance. A client that cannot skip the
    /// assignment must not learn that it leads, or it would assign again.
    fn reply_without_rebalance(
        &mut self,
        request: &JoinRequest,
        id: &str,
        old_leader: Option<String>,
    ) {
        let mut reply = self.joined(id);
        if let Ok(joined) = &mut reply.outcome {
            if request.can_skip_assignment {
                joined.skip_assignment = self.group.is_leader(id);
            } else {
                joined.leader = old_leader;
                joined.members.clear();
            }
        }
        self.reply_join(id, reply);
    }
}
