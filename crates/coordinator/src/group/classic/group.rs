//! The soft state of a classic group, and the small steps that keep it consistent.
//!
//! Invariants:
//! - Every id in `static_members` is a member's. The leader, if there is one, is a member.
//! - The ids in `pending_joins` are no members yet.
//! - `supported` has for each protocol name the number of members that support it. Some name is supported by all members.
//! - `awaiting_joins` is the number of members with a waiting `JoinGroup`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::time::Timestamp;

use super::member::Member;
use super::messages::{IdentityError, JoinError, JoinReply, Protocol, SyncError};
use super::{CONSUMER_PROTOCOL, subscription};
use crate::action::Action;
use crate::ticket::Ticket;

/// The state of a classic group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has no members, but may have committed offsets.
    Empty,
    /// Waiting for members to (re)join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member has an assignment.
    Stable,
}

impl State {
    /// Kafka's name, as tools print and filter it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The delay of an initial rebalance. It is extended while members join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitialDelay {
    /// The delay that runs now.
    pub delay: std::time::Duration,
    /// By how much it may still be extended.
    pub remaining: std::time::Duration,
}

/// A classic group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub(super) id: String,
    pub(super) state: State,
    /// The state before `state`.
    pub(super) previous: State,
    /// When `state` was entered; unknown for groups from old records.
    pub(super) state_since: Option<Timestamp>,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) generation: i32,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Member ids by `group.instance.id`.
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids given to newcomers that have not joined with them yet (KIP-394).
    pub(super) pending_joins: BTreeSet<String>,
    /// Members that have not sent `SyncGroup` in this generation.
    pub(super) pending_syncs: BTreeSet<String>,
    pub(super) subscribed_topics: Option<BTreeSet<String>>,
    /// Whether a member has joined during the delay that runs now, so that it is extended.
    pub(super) new_member_added: bool,
    pub(super) initial_delay: Option<InitialDelay>,
    /// The number of members by the names of the protocols that they support.
    supported: BTreeMap<String, usize>,
    awaiting_joins: usize,
}

impl Group {
    /// An empty group.
    pub fn new(id: &str, since: Option<Timestamp>) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            previous: State::Empty,
            state_since: since,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            subscribed_topics: None,
            new_member_added: false,
            initial_delay: None,
            supported: BTreeMap::new(),
            awaiting_joins: 0,
        }
    }

    pub const fn state(&self) -> State {
        self.state
    }

    pub const fn generation(&self) -> i32 {
        self.generation
    }

    /// Its protocol type; a simple group, which only stores offsets, has none.
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// When it entered its state, if known.
    pub const fn state_since(&self) -> Option<Timestamp> {
        self.state_since
    }

    /// How many members it has.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Whether its members are Kafka consumers.
    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// The topics its members subscribe to, if the coordinator can read that.
    pub const fn subscribed_topics(&self) -> Option<&BTreeSet<String>> {
        self.subscribed_topics.as_ref()
    }

    /// Whether a member may subscribe to `topic`: true also for consumers whose subscriptions cannot be read.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// Checks the identity in a request.
    pub fn check_identity(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), IdentityError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(IdentityError::UnknownMember),
                Some(id) if id != member_id => return Err(IdentityError::Fenced),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(IdentityError::UnknownMember)
        }
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Adds a member that is not there; the first one of a group sets its protocol type and leads.
    pub(super) fn add(&mut self, member: Member, protocol_type: &str) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending_joins.remove(&member.id);
        self.count(&member, 1);
        self.members.insert(member.id.clone(), member);
    }

    /// Removes a member or a pending join; its waiting requests must have been answered.
    pub(super) fn remove(&mut self, member_id: &str) {
        if let Some(member) = self.members.remove(member_id) {
            self.count(&member, -1);
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_joins.remove(member_id);
        self.pending_syncs.remove(member_id);
    }

    /// Changes a member, and keeps `supported` and `awaiting_joins` right.
    pub(super) fn update<R>(
        &mut self,
        member_id: &str,
        change: impl FnOnce(&mut Member) -> R,
    ) -> Option<R> {
        let mut member = self.members.remove(member_id)?;
        self.count(&member, -1);
        let result = change(&mut member);
        self.count(&member, 1);
        self.members.insert(member_id.to_owned(), member);
        Some(result)
    }

    /// Takes the waiting `JoinGroup` of a member.
    pub(super) fn take_join(&mut self, member_id: &str) -> Option<Ticket> {
        let ticket = self.members.get_mut(member_id)?.awaiting_join.take()?;
        self.awaiting_joins -= 1;
        Some(ticket)
    }

    /// How many members wait in `JoinGroup`.
    pub(super) const fn awaiting_joins(&self) -> usize {
        self.awaiting_joins
    }

    pub(super) fn have_all_joined(&self) -> bool {
        self.members.len() == self.awaiting_joins && self.pending_joins.is_empty()
    }

    /// Whether all members support one of these protocols, so that a client with them can be a member.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        // A group without members supports every protocol.
        let is_supported = |protocol: &Protocol| {
            let supporters = self.supported.get(&protocol.name).copied();
            supporters.unwrap_or(0) == self.members.len()
        };
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(is_supported)
    }

    /// The protocol with the most votes among those that all members support; among equals the first by name.
    pub(super) fn elect_protocol(&self) -> String {
        let candidates: BTreeSet<&str> = self
            .supported
            .iter()
            .filter(|(_, count)| **count == self.members.len())
            .map(|(name, _)| name.as_str())
            .collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for vote in self.members.values().filter_map(|m| m.vote(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().max().copied();
        votes
            .into_iter()
            .find(|(_, count)| Some(*count) == most)
            .map(|(name, _)| name.to_owned())
            .unwrap_or_default()
    }

    /// Makes a member that has joined the leader, unless the leader has joined. False if no member has joined.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        let has_joined = |member: &Member| member.awaiting_join.is_some();
        if self.members.get(leader).is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.values().find(|member| has_joined(member));
        let Some(id) = joined.map(|member| member.id.clone()) else {
            return false;
        };
        self.leader = Some(id);
        true
    }

    pub(super) fn enter(&mut self, state: State, at: Timestamp) {
        self.previous = self.state;
        self.state = state;
        self.state_since = Some(at);
    }

    pub(super) fn start_generation(&mut self, at: Timestamp) {
        self.generation = self.generation.wrapping_add(1);
        self.protocol = (!self.members.is_empty()).then(|| self.elect_protocol());
        self.subscribed_topics = self.read_subscriptions();
        let next = if self.members.is_empty() {
            State::Empty
        } else {
            State::CompletingRebalance
        };
        self.enter(next, at);
        self.pending_syncs.clear();
    }

    /// The topics that the members subscribe to in the current generation; `None` if that cannot be read.
    pub(super) fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        if self.members.is_empty() {
            return Some(topics);
        }
        let protocol = self.protocol.as_deref()?;
        for member in self.members.values() {
            topics.extend(subscription::topics(member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// The longest rebalance timeout of the members.
    pub(super) fn rebalance_timeout(&self) -> std::time::Duration {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Answers every waiting request, so that the member joins again.
    pub(crate) fn abandon(self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (id, member) in self.members {
            let refused = JoinReply::refused(&id, JoinError::Superseded);
            actions.extend(
                member
                    .awaiting_join
                    .map(|ticket| Action::ReplyJoin(ticket, refused)),
            );
            let refused = Err(SyncError::RebalanceInProgress);
            actions.extend(
                member
                    .awaiting_sync
                    .map(|ticket| Action::ReplySync(ticket, refused)),
            );
        }
        actions
    }

    fn count(&mut self, member: &Member, by: isize) {
        let names: BTreeSet<&str> = member.protocols.iter().map(|p| p.name.as_str()).collect();
        for name in names {
            let count = self.supported.entry(name.to_owned()).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.supported.remove(name);
            }
        }
        if member.awaiting_join.is_some() {
            self.awaiting_joins = self.awaiting_joins.saturating_add_signed(by);
        }
    }
}
