//! Performs the effects of a [`Runtime`]: writes appends through a [`Writer`], and leaves the rest to the driver.

use std::collections::VecDeque;

use ottla_protocol::ids::Offset;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::time::Now;

use super::{Effect, Runtime, Unavailable};
use crate::action::Event;
use crate::group::requests::GroupReply;
use crate::ticket::Ticket;

/// Writes to the partition of a coordinator.
pub trait Writer {
    fn now(&self) -> Now;
    /// Appends `records` as one batch, all or none. If they are not committed at once, the driver calls
    /// [`Runtime::on_committed`] later, or [`Runtime::on_append_lost`].
    fn append(&mut self, records: &[GroupRecord]) -> Result<Written, Unavailable>;
}

/// Records that were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The offset of the first record.
    pub first: Offset,
    /// The offset after the last record.
    pub end: Offset,
    /// Whether they are committed already.
    pub is_committed: bool,
}

/// Work for the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// Answer the request of this ticket.
    Reply(Ticket, Result<GroupReply, Unavailable>),
    /// Log this for the operator.
    Report(Event),
}

impl Unavailable {
    /// The answer to requests when an append is refused with this code.
    pub const fn of_append(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => Self::NotCoordinator,
            ErrorCode::RecordListTooLarge | ErrorCode::MessageTooLarge => Self::TooLarge,
            _ => Self::NotAvailable,
        }
    }
}

impl Runtime {
    /// Performs effects in order, with the effects that follow from an append. Returns the work that is left.
    pub fn perform(&mut self, effects: Vec<Effect>, writer: &mut impl Writer) -> Vec<Outgoing> {
        let mut effects = VecDeque::from(effects);
        let mut outgoing = Vec::new();
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Append(records) => effects.extend(self.append_to(writer, records)),
                Effect::Reply(ticket, reply) => outgoing.push(Outgoing::Reply(ticket, reply)),
                Effect::Report(event) => outgoing.push(Outgoing::Report(event)),
            }
        }
        outgoing
    }

    fn append_to(&mut self, writer: &mut impl Writer, records: Vec<GroupRecord>) -> Vec<Effect> {
        let written = match writer.append(&records) {
            Ok(written) => written,
            Err(refused) => return self.on_append_refused(refused, writer.now()),
        };
        let mut effects = Vec::new();
        if written.is_committed {
            effects = self.on_committed(written.end);
        }
        effects.extend(self.on_appended(records, written.first, writer.now()));
        effects
    }
}
