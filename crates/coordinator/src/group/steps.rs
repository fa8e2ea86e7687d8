//! Turns a request or a notice into steps: it calls the method of [`Shard`] that decides the [`GroupRequest`], and lists
//! what the runtime must do then.

use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::time::Now;

use super::requests::{GroupReply, GroupRequest, Notice};
use crate::action::{Action, Decision, Event, IfRefused, KeepAlive};
use crate::shard::Shard;
use crate::ticket::Ticket;

/// One step that a request, a deadline, or a load causes. Steps run in order. Once an append of the list is refused, its
/// replies carry the refusal, and no session is restarted; later appends still run.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Append the records of one group as one batch and apply them.
    Append(Vec<GroupRecord>, IfRefused),
    /// Restart the session of a member.
    KeepAlive(KeepAlive),
    /// Answer a request once everything appended before is committed.
    Reply(Ticket, GroupReply),
    /// Log this for the operator.
    Report(Event),
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        match action {
            Action::Append(records, if_refused) => Self::Append(records, if_refused),
            Action::ReplyJoin(ticket, reply) => Self::Reply(ticket, GroupReply::Join(reply)),
            Action::ReplySync(ticket, reply) => Self::Reply(ticket, GroupReply::Sync(reply)),
            Action::Report(event) => Self::Report(event),
        }
    }
}

impl<R> Decision<R> {
    fn into_steps(self, ticket: Ticket, reply: impl FnOnce(R) -> GroupReply) -> Vec<Step> {
        let append = (!self.records.is_empty())
            // A decision changes no soft state, so a refusal has nothing to undo.
            .then_some(Step::Append(self.records, IfRefused::Stand));
        let keep_alive = self.keep_alive.map(Step::KeepAlive);
        let reply = Step::Reply(ticket, reply(self.reply));
        append
            .into_iter()
            .chain(keep_alive)
            .chain([reply])
            .collect()
    }
}

impl Shard {
    /// Handles a request. The steps answer `ticket`, now or, for a join or a sync, when a later event does.
    pub fn on_request(&mut self, request: GroupRequest, ticket: Ticket, now: Now) -> Vec<Step> {
        let reply = match request {
            GroupRequest::Join(request) => return steps(self.on_join(ticket, &request, now)),
            GroupRequest::Sync(request) => return steps(self.on_sync(ticket, &request, now)),
            GroupRequest::Leave(request) => {
                let (reply, actions) = self.on_leave(&request, now);
                let mut steps = steps(actions);
                steps.push(Step::Reply(ticket, GroupReply::Leave(reply)));
                return steps;
            }
            GroupRequest::CommitOffsets(request) => {
                let decision = self.decide_commit(request, now);
                return decision.into_steps(ticket, GroupReply::CommitOffsets);
            }
            GroupRequest::DeleteOffsets(request) => {
                let decision = self.decide_offset_delete(&request);
                return decision.into_steps(ticket, GroupReply::DeleteOffsets);
            }
            GroupRequest::DeleteGroup(request) => {
                let decision = self.decide_delete_group(&request.group_id);
                return decision.into_steps(ticket, GroupReply::DeleteGroup);
            }
            GroupRequest::Heartbeat(request) => {
                GroupReply::Heartbeat(self.on_heartbeat(&request, now))
            }
            GroupRequest::FetchOffsets(request) => {
                GroupReply::FetchOffsets(self.fetch_offsets(&request))
            }
            GroupRequest::DescribeGroup(request) => {
                GroupReply::DescribeGroup(self.describe(&request.group_id))
            }
            GroupRequest::ListGroups(filter) => GroupReply::ListGroups(self.list(&filter)),
            GroupRequest::ListOffsets(_) => GroupReply::ListOffsets(self.list_offsets()),
        };
        vec![Step::Reply(ticket, reply)]
    }

    /// The records that a notice causes. They need not be appended together.
    pub fn decide_notice(&self, notice: &Notice, now: Now) -> Vec<GroupRecord> {
        match notice {
            Notice::ExpiryDue => self.decide_expiry(now),
            Notice::TopicDeleted { name, id } => self.decide_topic_deleted(name, *id),
        }
    }
}

/// Actions as steps.
pub(crate) fn steps(actions: Vec<Action>) -> Vec<Step> {
    actions.into_iter().map(Step::from).collect()
}
