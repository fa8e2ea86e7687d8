//! The phases of a rebalance, and what deadlines do to them.

use super::group::{InitialDelay, State};
use super::messages::{JoinError, SyncError};
use super::record;
use super::transition::Transition;
use crate::action::{Action, Event, IfRefused};
use crate::timers::Kind;
use bytes::Bytes;

impl Transition<'_> {
    /// Starts a rebalance. If one is running, ends its join phase once all members have joined.
    pub(super) fn rebalance_or_complete_join(&mut self, reason: &str) {
        if self.group.state == State::PreparingRebalance {
            self.complete_join_if_ready();
        } else {
            self.prepare_rebalance(reason);
        }
    }

    /// Ends the join phase once all members have joined. An initial rebalance always waits until its delay is over.
    pub(super) fn complete_join_if_ready(&mut self) {
        let is_initial = self.group.previous == State::Empty;
        let gathering = self.group.state == State::PreparingRebalance && !is_initial;
        if gathering && self.group.have_all_joined() {
            self.complete_join();
        }
    }

    pub(super) fn prepare_rebalance(&mut self, reason: &str) {
        if self.group.state == State::CompletingRebalance {
            for member in self.group.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.reply_syncs(Some(SyncError::RebalanceInProgress));
        }
        self.group.pending_syncs.clear();
        self.cancel_timer(Kind::Sync);
        let is_initial = self.group.state == State::Empty;
        self.group.enter(State::PreparingRebalance, self.now.wall);
        self.report(Event::RebalanceStarted {
            group: self.group.id.clone(),
            generation: self.group.generation,
            reason: reason.to_owned(),
        });
        if is_initial {
            let delay = self.config.initial_rebalance_delay;
            let remaining = self.group.rebalance_timeout().saturating_sub(delay);
            self.wait_for_more(InitialDelay { delay, remaining });
        } else if self.group.have_all_joined() {
            self.complete_join();
        } else {
            let timeout = self.group.rebalance_timeout();
            self.set_timer(Kind::Join, timeout);
        }
    }

    /// Waits for more members to join. A delay of zero ends the join phase at once, without a timer.
    fn wait_for_more(&mut self, wait: InitialDelay) {
        if wait.delay.is_zero() {
            return self.complete_join();
        }
        self.group.initial_delay = Some(wait);
        self.set_timer(Kind::Join, wait.delay);
    }

    /// The deadline of the join phase has passed.
    pub fn on_join_deadline(&mut self) {
        let wait = self.group.initial_delay.take();
        match wait.filter(|wait| self.group.new_member_added && !wait.remaining.is_zero()) {
            Some(wait) => {
                self.group.new_member_added = false;
                let delay = self.config.initial_rebalance_delay.min(wait.remaining);
                let remaining = wait.remaining.saturating_sub(wait.delay);
                self.wait_for_more(InitialDelay { delay, remaining });
            }
            None => self.complete_join(),
        }
    }

    /// Ends the join phase. Members that have not rejoined are removed, except static members within their session.
    pub(super) fn complete_join(&mut self) {
        self.cancel_timer(Kind::Join);
        self.group.initial_delay = None;
        self.group.new_member_added = false;
        self.drop_members("JoinGroup", |transition, id| {
            let member = transition.group.members.get(id);
            member.is_some_and(|m| m.awaiting_join.is_none() && m.instance_id.is_none())
        });
        if !self.group.elect_joined_leader() && !self.group.members.is_empty() {
            let group = self.group.id.clone();
            self.report(Event::NobodyJoined { group });
            let timeout = self.group.rebalance_timeout();
            return self.set_timer(Kind::Join, timeout);
        }
        self.group.start_generation(self.now.wall);
        self.report(Event::GenerationStarted {
            group: self.group.id.clone(),
            generation: self.group.generation,
            members: self.group.size(),
        });
        if self.group.state == State::Empty {
            let records = vec![record::of(self.group)];
            self.actions.push(Action::Append(records, IfRefused::Stand));
        } else {
            self.hand_out_generation();
        }
    }

    fn hand_out_generation(&mut self) {
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in ids {
            let reply = self.joined(&id);
            self.reply_join(&id, reply);
            self.keep_alive(&id);
            if let Some(member) = self.group.members.get_mut(&id) {
                member.is_new = false;
            }
            self.group.pending_syncs.insert(id);
        }
        let timeout = self.group.rebalance_timeout();
        self.set_timer(Kind::Sync, timeout);
    }

    /// Starts the sessions of a group that was read from the log. If it has more members than `group.max.size` now allows,
    /// a rebalance removes those beyond the limit, after they could commit their offsets.
    pub fn on_restored(&mut self) {
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in &ids {
            self.keep_alive(id);
        }
        if ids.len() > self.config.max_size {
            self.prepare_rebalance("the group is over group.max.size");
        }
    }

    /// Removes the members that have not sent `SyncGroup` in time.
    pub fn on_sync_deadline(&mut self) {
        let syncing = matches!(self.group.state, State::CompletingRebalance | State::Stable);
        if syncing && !self.group.pending_syncs.is_empty() {
            self.drop_members("SyncGroup", |transition, id| {
                transition.group.pending_syncs.contains(id)
            });
            self.prepare_rebalance("members did not ask for their assignment in time");
        }
    }

    /// The session of a member has ended, or the wait for a newcomer's second `JoinGroup`.
    pub fn on_session_deadline(&mut self, member_id: &str) {
        if self.group.pending_joins.contains(member_id) {
            self.group.remove(member_id);
            return self.complete_join_if_all_joined();
        }
        let member = self.group.members.get(member_id);
        if member.is_none_or(super::Member::is_waiting) {
            return;
        }
        self.report(Event::MembersExpired {
            group: self.group.id.clone(),
            members: vec![member_id.to_owned()],
            missed: "Heartbeat",
        });
        self.remove_member(member_id);
        self.after_removal(&format!("the session of member {member_id} has expired"));
    }

    /// Removes a member. Its waiting `JoinGroup` is answered so that a client that is still there joins as a new member.
    pub(super) fn remove_member(&mut self, member_id: &str) {
        self.cancel_timer(Kind::Session(member_id.to_owned()));
        self.refuse_join(member_id, JoinError::UnknownMember, "");
        self.reply_sync(member_id, Err(SyncError::UnknownMember));
        self.group.remove(member_id);
    }

    fn after_removal(&mut self, reason: &str) {
        match self.group.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(reason),
            State::PreparingRebalance => self.complete_join_if_all_joined(),
            State::Empty => {}
        }
    }

    /// Unlike [`Self::complete_join_if_ready`] this ends an initial rebalance too, as Kafka does.
    fn complete_join_if_all_joined(&mut self) {
        if self.group.state == State::PreparingRebalance && self.group.have_all_joined() {
            self.complete_join();
        }
    }

    fn drop_members(&mut self, missed: &'static str, has_missed: impl Fn(&Self, &str) -> bool) {
        let ids = self.group.members.keys().filter(|id| has_missed(self, id));
        let members: Vec<String> = ids.cloned().collect();
        if members.is_empty() {
            return;
        }
        for id in &members {
            self.remove_member(id);
        }
        let group = self.group.id.clone();
        self.report(Event::MembersExpired {
            group,
            members,
            missed,
        });
    }
}
