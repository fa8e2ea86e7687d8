//! `JoinGroup`: a member joins or rejoins the group.
//!
//! A new dynamic member is first given an id and told to send it in a second `JoinGroup` (KIP-394, version 4 and later),
//! so that a client that gives up leaves no member behind.

use bytes::Bytes;

use super::group::State;
use super::member::Member;
use super::messages::{JoinError, JoinReply, JoinRequest, Joined, JoinedMember};
use super::transition::Transition;
use crate::action::Action;
use crate::ticket::Ticket;
use crate::timers::Kind;

impl Transition<'_> {
    /// Handles a `JoinGroup`.
    pub fn on_join(&mut self, ticket: Ticket, request: &JoinRequest) {
        if !self.has_room_for(&request.member_id) {
            self.refuse_join(&request.member_id, JoinError::Superseded, "");
            self.group.remove(&request.member_id);
            return self.answer(ticket, JoinReply::refused("", JoinError::GroupFull));
        }
        if !self
            .group
            .supports(&request.protocol_type, &request.protocols)
        {
            let refused = JoinReply::refused(&request.member_id, JoinError::InconsistentProtocol);
            return self.answer(ticket, refused);
        }
        if request.member_id.is_empty() {
            self.on_newcomer(ticket, request);
        } else {
            self.on_known(ticket, request);
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, reply: JoinReply) {
        self.actions.push(Action::ReplyJoin(ticket, reply));
    }

    /// During the join phase only members that have joined count. So a group that is over a lowered limit loses the
    /// members that rejoin last.
    fn has_room_for(&self, member_id: &str) -> bool {
        let member = self.group.members.get(member_id);
        match self.group.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.group.awaiting_joins() < self.config.max_size
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.group.size() < self.config.max_size
            }
        }
    }

    fn on_newcomer(&mut self, ticket: Ticket, request: &JoinRequest) {
        if let Some(instance_id) = &request.instance_id {
            let id = format!("{instance_id}-{}", request.fresh_id);
            return match self.group.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static_member(ticket, request, (&old_id, &id)),
                None => self.add_member(ticket, request, &id),
            };
        }
        let id = format!("{}-{}", request.client_id, request.fresh_id);
        if !request.member_id_required {
            return self.add_member(ticket, request, &id);
        }
        self.group.pending_joins.insert(id.clone());
        self.set_timer(Kind::Session(id.clone()), request.session_timeout);
        self.answer(ticket, JoinReply::refused(&id, JoinError::MemberIdRequired));
    }

    fn on_known(&mut self, ticket: Ticket, request: &JoinRequest) {
        let id = request.member_id.as_str();
        if self.group.pending_joins.contains(id) {
            if request.instance_id.is_some() {
                return self.answer(ticket, JoinReply::refused(id, JoinError::UnknownMember));
            }
            return self.add_member(ticket, request, id);
        }
        let identity = self
            .group
            .check_identity(id, request.instance_id.as_deref());
        if let Err(error) = identity {
            return self.answer(ticket, JoinReply::refused(id, error.into()));
        }
        let unchanged =
            self.group.members.get(id).map(|m| &m.protocols) == Some(&request.protocols);
        match self.group.state {
            State::CompletingRebalance if unchanged => {
                // The client has probably not received the first reply.
                let reply = self.joined(id);
                self.answer(ticket, reply);
            }
            // A leader rejoins to assign partitions again. A follower without a change needs no rebalance.
            State::Stable if unchanged && !self.group.is_leader(id) => {
                let reply = self.joined(id);
                self.answer(ticket, reply);
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update_member(ticket, request, id);
                let why = format!("member {id} rejoins; client's reason: {}", request.why());
                self.rebalance_or_complete_join(&why);
            }
            State::Empty => {
                self.answer(ticket, JoinReply::refused(id, JoinError::UnknownMember));
            }
        }
    }

    /// Updates the protocols and timeouts of a member. An earlier `JoinGroup` of it that still waits is refused.
    pub(super) fn update_member(&mut self, ticket: Ticket, request: &JoinRequest, id: &str) {
        let superseded = self.group.update(id, |member| {
            member.protocols.clone_from(&request.protocols);
            member.rebalance_timeout = request.rebalance_timeout;
            member.session_timeout = request.session_timeout;
            member.awaiting_join.replace(ticket)
        });
        if let Some(superseded) = superseded.flatten() {
            self.answer(superseded, JoinReply::refused(id, JoinError::Superseded));
        }
    }

    fn add_member(&mut self, ticket: Ticket, request: &JoinRequest, id: &str) {
        if self.group.state == State::PreparingRebalance && self.group.previous == State::Empty {
            self.group.new_member_added = true;
        }
        let member = Member {
            id: id.to_owned(),
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout: request.rebalance_timeout,
            session_timeout: request.session_timeout,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(ticket),
            awaiting_sync: None,
        };
        self.group.add(member, &request.protocol_type);
        // The coordinator does not notice that a waiting client has gone. Without this deadline each retry of a client would
        // leave a member behind.
        let timeout = self.config.new_member_join_timeout;
        self.set_timer(Kind::Session(id.to_owned()), timeout);
        let why = format!("member {id} joins; client's reason: {}", request.why());
        self.rebalance_or_complete_join(&why);
    }

    /// The reply that tells `member_id` the generation.
    pub(super) fn joined(&self, member_id: &str) -> JoinReply {
        let members = if self.group.is_leader(member_id) {
            self.group.joined_members()
        } else {
            Vec::new()
        };
        JoinReply {
            member_id: member_id.to_owned(),
            outcome: Ok(Joined {
                generation: self.group.generation,
                protocol_type: self.group.protocol_type.clone(),
                protocol: self.group.protocol.clone(),
                leader: self.group.leader.clone(),
                skip_assignment: false,
                members,
            }),
        }
    }
}

impl super::Group {
    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| JoinedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        members.collect()
    }
}
