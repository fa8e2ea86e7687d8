//! One coordinator partition: its replicated state, the soft state of its classic groups, and their deadlines.
//!
//! There are two families of methods. `decide_…` and the reads take `&self`. `on_…` changes soft state and returns actions.
//! In both cases the owner appends the records, calls [`Shard::apply`] for each with its offset, and sends the replies
//! when the records are committed. Requests may come only after [`Shard::on_loaded`], which gives soft state to each
//! group that is not of a newer protocol.

use std::collections::BTreeMap;

use ottla_protocol::ids::ProducerId;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::time::{MonotonicTime, Now};

use crate::action::{Action, IfRefused, KeepAlive};
use crate::config::Config;
use crate::group::classic::{
    Group, HeartbeatError, HeartbeatRequest, JoinError, JoinReply, JoinRequest, LeaveError,
    LeaveReply, LeaveRequest, SyncError, SyncRequest, Transition, record,
};
use crate::group::foreign::Kind as GroupKind;
use crate::group::offsets::TransactionResult;
use crate::state::{Position, State, Stored};
use crate::ticket::Ticket;
use crate::timers::{Kind, Timers};

/// The coordinator of one partition.
#[derive(Debug)]
pub struct Shard {
    config: Config,
    state: State,
    is_loaded: bool,
    groups: BTreeMap<String, Group>,
    timers: Timers,
}

impl Shard {
    /// A shard without groups, which is not loaded yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            state: State::default(),
            is_loaded: false,
            groups: BTreeMap::new(),
            timers: Timers::default(),
        }
    }

    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The replicated state.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// A classic group, or one that only stores offsets.
    pub fn classic(&self, group_id: &str) -> Option<&Group> {
        self.groups.get(group_id)
    }

    /// All groups that [`Self::classic`] finds.
    pub fn classics(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(id, group)| (id.as_str(), group))
    }

    /// When [`Self::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        self.timers.next()
    }

    /// Applies a record of the log, read or just appended.
    pub fn apply(&mut self, position: Position, record: GroupRecord) {
        let touched = match &record {
            GroupRecord::GroupMetadata(key, value) => Some((key.group.clone(), value.is_none())),
            GroupRecord::OffsetCommit(key, Some(_)) => Some((key.group.clone(), false)),
            _ => None,
        };
        self.state.apply(position, record);
        if let Some((group_id, is_deleted)) = touched.filter(|_| self.is_loaded) {
            if is_deleted {
                self.groups.remove(&group_id);
                self.timers.cancel_group(&group_id);
            } else if !self.groups.contains_key(&group_id) {
                self.restore(&group_id);
            }
        }
    }

    /// Applies the marker that ends a transaction.
    pub fn apply_marker(&mut self, producer_id: ProducerId, result: TransactionResult) {
        self.state.apply_marker(producer_id, result);
    }

    /// The log has been read to its end. The session of every member starts now.
    pub fn on_loaded(&mut self, now: Now) -> Vec<Action> {
        self.is_loaded = true;
        let ids: Vec<String> = self.state.group_ids().map(str::to_owned).collect();
        let mut actions = Vec::new();
        for id in ids {
            self.restore(&id);
            self.start_sessions(&id, now, &mut actions);
        }
        actions
    }

    /// The partition refused the record of `group_id`. The owner refuses the replies of the actions after it, and those
    /// returned here.
    pub fn on_append_refused(
        &mut self,
        group_id: &str,
        if_refused: IfRefused,
        now: Now,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        match if_refused {
            IfRefused::Stand => {}
            IfRefused::Drop => {
                if let Some(group) = self.groups.remove(group_id) {
                    actions.extend(group.abandon());
                }
                self.timers.cancel_group(group_id);
            }
            IfRefused::Rebalance => {
                if let Some(mut transition) = self.transition(group_id, now, &mut actions) {
                    transition.assign_anew();
                }
            }
            IfRefused::Restore(before) => {
                if let Some(mut transition) = self.transition(group_id, now, &mut actions) {
                    transition.restore_static_member(*before);
                }
            }
        }
        actions
    }

    /// Restarts the session of a member.
    pub fn keep_alive(&mut self, keep_alive: &KeepAlive, now: Now) {
        let mut actions = Vec::new();
        if let Some(mut transition) = self.transition(&keep_alive.group, now, &mut actions) {
            transition.keep_alive(&keep_alive.member);
        }
    }

    /// Handles a `JoinGroup` that has passed [`JoinRequest::check`].
    pub fn on_join(&mut self, ticket: Ticket, request: &JoinRequest, now: Now) -> Vec<Action> {
        let mut records = Vec::new();
        let is_new = !self.groups.contains_key(&request.group_id);
        if is_new && let Err(error) = self.make_group(request, now, &mut records) {
            let id = match error {
                JoinError::UnknownMember => request.member_id.as_str(),
                _ => "",
            };
            return vec![Action::ReplyJoin(ticket, JoinReply::refused(id, error))];
        }
        let mut actions = Vec::new();
        if let Some(mut transition) = self.transition(&request.group_id, now, &mut actions) {
            transition.on_join(ticket, request);
        }
        let is_recorded = actions
            .iter()
            .any(|action| matches!(action, Action::Append(..)));
        if is_new && !is_recorded {
            records.extend(self.classic(&request.group_id).map(record::of_new));
        }
        if !records.is_empty() {
            actions.insert(0, Action::Append(records, IfRefused::Drop));
        }
        actions
    }

    /// Creates a group for its first member. An empty group of a newer protocol with the same id is deleted.
    fn make_group(
        &mut self,
        request: &JoinRequest,
        now: Now,
        records: &mut Vec<GroupRecord>,
    ) -> Result<(), JoinError> {
        if let Some(foreign) = self.state.foreign(&request.group_id) {
            if !foreign.is_empty() || foreign.kind == GroupKind::Share {
                return Err(JoinError::InconsistentProtocol);
            }
            records.extend(foreign.tombstones());
        }
        if !request.member_id.is_empty() {
            records.clear();
            return Err(JoinError::UnknownMember);
        }
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            records.clear();
            return Err(JoinError::InconsistentProtocol);
        }
        let group = Group::new(&request.group_id, Some(now.wall));
        self.groups.insert(request.group_id.clone(), group);
        Ok(())
    }

    /// Handles a `SyncGroup`.
    pub fn on_sync(&mut self, ticket: Ticket, request: &SyncRequest, now: Now) -> Vec<Action> {
        if request.group_id.is_empty() {
            return vec![Action::ReplySync(ticket, Err(SyncError::InvalidGroupId))];
        }
        let mut actions = Vec::new();
        match self.transition(&request.group_id, now, &mut actions) {
            Some(mut transition) => transition.on_sync(ticket, request),
            None => actions.push(Action::ReplySync(ticket, Err(SyncError::UnknownMember))),
        }
        actions
    }

    /// Handles a Heartbeat.
    pub fn on_heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        now: Now,
    ) -> Result<(), HeartbeatError> {
        if request.group_id.is_empty() {
            return Err(HeartbeatError::InvalidGroupId);
        }
        let mut actions = Vec::new();
        let transition = self.transition(&request.group_id, now, &mut actions);
        transition
            .ok_or(HeartbeatError::UnknownMember)?
            .on_heartbeat(request)
    }

    /// Handles a `LeaveGroup`.
    pub fn on_leave(&mut self, request: &LeaveRequest, now: Now) -> (LeaveReply, Vec<Action>) {
        let mut actions = Vec::new();
        let reply =
            if let Some(mut transition) = self.transition(&request.group_id, now, &mut actions) {
                transition.on_leave(request)
            } else {
                let members = request.members.iter();
                members
                    .map(|m| m.answer(Err(LeaveError::UnknownMember)))
                    .collect()
            };
        (reply, actions)
    }

    /// Handles the earliest deadline that has passed, if there is one.
    pub fn on_deadline(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(key) = self.timers.pop_due(now.monotonic)
            && let Some(mut transition) = self.transition(&key.group, now, &mut actions)
        {
            match &key.kind {
                Kind::Join => transition.on_join_deadline(),
                Kind::Sync => transition.on_sync_deadline(),
                Kind::Session(member) => transition.on_session_deadline(member),
            }
        }
        actions
    }

    fn transition<'a>(
        &'a mut self,
        group_id: &str,
        now: Now,
        actions: &'a mut Vec<Action>,
    ) -> Option<Transition<'a>> {
        Some(Transition {
            config: &self.config,
            group: self.groups.get_mut(group_id)?,
            timers: &mut self.timers,
            actions,
            now,
        })
    }

    /// Creates the soft state of a group from its replicated state.
    fn restore(&mut self, group_id: &str) {
        let group = match self.state.group(group_id) {
            Some(Stored::Classic(value)) => record::read(group_id, value),
            Some(Stored::Simple) => Group::new(group_id, None),
            Some(Stored::Foreign(_)) | None => return,
        };
        self.groups.insert(group_id.to_owned(), group);
    }

    /// Starts the sessions of a restored group's members.
    fn start_sessions(&mut self, group_id: &str, now: Now, actions: &mut Vec<Action>) {
        if let Some(mut transition) = self.transition(group_id, now, actions) {
            transition.on_restored();
        }
    }
}
