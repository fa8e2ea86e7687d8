//! Borrows one group and the shard's timers while an event changes them, and collects the actions.

use std::time::Duration;

use ottla_protocol::time::Now;

use super::group::Group;
use super::messages::{JoinError, JoinReply, SyncError, SyncReply, Synced};
use crate::action::{Action, Event};
use crate::config::Config;
use crate::timers::{Key, Kind, Timers};

/// A group that an event changes.
pub struct Transition<'a> {
    /// The settings.
    pub config: &'a Config,
    pub group: &'a mut Group,
    /// The deadlines of the shard.
    pub timers: &'a mut Timers,
    /// The actions so far.
    pub actions: &'a mut Vec<Action>,
    /// The time of the event.
    pub now: Now,
}

impl Transition<'_> {
    pub(super) fn report(&mut self, event: Event) {
        self.actions.push(Action::Report(event));
    }

    pub(super) fn set_timer(&mut self, kind: Kind, after: Duration) {
        let key = self.key(kind);
        self.timers.set(key, self.now.monotonic.after(after));
    }

    pub(super) fn cancel_timer(&mut self, kind: Kind) {
        let key = self.key(kind);
        self.timers.cancel(&key);
    }

    fn key(&self, kind: Kind) -> Key {
        Key {
            group: self.group.id.clone(),
            kind,
        }
    }

    /// Restarts the session of a member.
    pub fn keep_alive(&mut self, member_id: &str) {
        if let Some(member) = self.group.members.get(member_id) {
            let timeout = member.session_timeout;
            self.set_timer(Kind::Session(member_id.to_owned()), timeout);
        }
    }

    /// Answers the waiting `JoinGroup` of a member, if there is one.
    pub(super) fn reply_join(&mut self, member_id: &str, reply: JoinReply) {
        if let Some(ticket) = self.group.take_join(member_id) {
            self.actions.push(Action::ReplyJoin(ticket, reply));
        }
    }

    pub(super) fn refuse_join(&mut self, member_id: &str, error: JoinError, reply_id: &str) {
        self.reply_join(member_id, JoinReply::refused(reply_id, error));
    }

    /// Answers the waiting `SyncGroup` of a member, if there is one; true if there was.
    pub(super) fn reply_sync(&mut self, member_id: &str, reply: SyncReply) -> bool {
        let member = self.group.members.get_mut(member_id);
        let Some(ticket) = member.and_then(|member| member.awaiting_sync.take()) else {
            return false;
        };
        self.actions.push(Action::ReplySync(ticket, reply));
        true
    }

    /// Answers every waiting `SyncGroup`, with the assignment or with `error`, and restarts the sessions of those members.
    pub(super) fn reply_syncs(&mut self, error: Option<SyncError>) {
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in ids {
            let reply = match error {
                Some(error) => Err(error),
                None => Ok(self.synced(&id)),
            };
            if self.reply_sync(&id, reply) {
                self.keep_alive(&id);
            }
        }
    }

    pub(super) fn synced(&self, member_id: &str) -> Synced {
        let member = self.group.members.get(member_id);
        Synced {
            protocol_type: self.group.protocol_type.clone(),
            protocol: self.group.protocol.clone(),
            assignment: member.map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }
}
