//! The runtime of one coordinator partition: it owns the shard, the replies that wait for a commit, and the requests
//! that wait for an event. Synchronous and pure: what to append and what to answer leave as [`Effect`]s.
//!
//! The driver's contract:
//! - Perform the effects of a call in order, as [`Runtime::perform`] does. An [`Effect::Append`] is always the last one.
//!   Pass its records to [`Runtime::on_appended`], or call [`Runtime::on_append_refused`]. Until then, only
//!   [`Runtime::on_committed`] may be called.
//! - Call [`Runtime::on_tick`] at [`Runtime::next_deadline`].
//! - After [`Runtime::on_append_lost`], replay the partition into a new shard and hand it to [`Runtime::on_loaded`].

mod perform;
mod uncommitted;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ottla_protocol::ids::Offset;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::time::{MonotonicTime, Now};

pub use self::perform::{Outgoing, Writer, Written};
use self::uncommitted::Uncommitted;
use crate::action::{Event, IfRefused};
use crate::config::Config;
use crate::group::requests::{GroupReply, GroupRequest, Notice};
use crate::group::steps::{Step, steps};
use crate::shard::Shard;
use crate::state::Position;
use crate::ticket::Ticket;

/// The number of records in one append, if they need not be appended together.
const RECORDS_PER_APPEND: usize = 1000;

/// Why a coordinator does not answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the coordinator is loading")]
    Loading,
    /// This broker does not lead the partition, or has just lost records that it appended there.
    #[error("this broker is not the coordinator")]
    NotCoordinator,
    /// The coordinator cannot append now, or its records were not committed in time.
    #[error("the coordinator cannot write")]
    NotAvailable,
    /// The record to append is larger than the topic allows.
    #[error("the record is too large for the coordinator's topic")]
    TooLarge,
}

impl Unavailable {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Loading => ErrorCode::CoordinatorLoadInProgress,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::NotAvailable => ErrorCode::CoordinatorNotAvailable,
            Self::TooLarge => ErrorCode::UnknownServerError,
        }
    }
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append these records as one batch, all or none.
    Append(Vec<GroupRecord>),
    /// Answer the request of this ticket. Each request is answered once.
    Reply(Ticket, Result<GroupReply, Unavailable>),
    /// Log this for the operator.
    Report(Event),
}

/// Work that is left while an append is in flight. It is a stack: the last entry runs first.
#[derive(Debug)]
enum Unfinished {
    /// Steps of one group; `outcome` is the first refusal among their appends.
    Steps {
        steps: VecDeque<Step>,
        outcome: Result<(), Unavailable>,
    },
    /// Records that need not be appended together. After a refusal the rest waits for the next notice.
    Pieces(VecDeque<Vec<GroupRecord>>),
    /// The deadlines of the shard that have passed, one after another. Then the replies that were held for the timeout.
    Due,
}

/// An append whose outcome the driver has not reported yet.
#[derive(Debug)]
struct Appending {
    /// The group whose own record is among those appended.
    group: Option<String>,
    if_refused: IfRefused,
}

/// The coordinator of one partition.
///
/// Invariants:
/// - A reply leaves when everything appended before it is committed.
/// - A refused append changes only the soft state of its group.
/// - After a lost append the whole shard is dropped, and every waiting request is answered with
///   [`Unavailable::NotCoordinator`].
#[derive(Debug)]
pub struct Runtime {
    shard: Shard,
    is_loaded: bool,
    uncommitted: Uncommitted<GroupReply>,
    /// Requests without a reply yet: those that wait for a rebalance or an assignment.
    waiting: BTreeSet<Ticket>,
    unfinished: Vec<Unfinished>,
    appending: Option<Appending>,
}

impl Runtime {
    /// A runtime that answers [`Unavailable::Loading`] until it is loaded. Replies wait for a commit for at most
    /// `commit_timeout`.
    pub fn new(config: Config, commit_timeout: Duration) -> Self {
        Self {
            shard: Shard::new(config),
            is_loaded: false,
            uncommitted: Uncommitted::new(commit_timeout),
            waiting: BTreeSet::new(),
            unfinished: Vec::new(),
            appending: None,
        }
    }

    /// The shard as it is, committed or not.
    pub const fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Whether requests are served.
    pub const fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// Whether everything appended is committed.
    pub fn is_committed(&self) -> bool {
        self.uncommitted.is_empty()
    }

    /// When [`Self::on_tick`] has something to do.
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        let deadlines = [self.shard.next_deadline(), self.uncommitted.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// The partition has been replayed into `shard`, to its end: requests are served from now on.
    pub fn on_loaded(&mut self, shard: Shard, now: Now) -> Vec<Effect> {
        assert!(!self.is_loaded, "a runtime is loaded once for each loss");
        self.shard = shard;
        self.is_loaded = true;
        let actions = self.shard.on_loaded(now);
        self.start(steps(actions), now)
    }

    /// Handles a request. `ticket` must be new; the reply carries it.
    pub fn on_request(&mut self, request: GroupRequest, ticket: Ticket, now: Now) -> Vec<Effect> {
        if !self.is_loaded {
            return vec![Effect::Reply(ticket, Err(Unavailable::Loading))];
        }
        self.waiting.insert(ticket);
        let steps = self.shard.on_request(request, ticket, now);
        self.start(steps, now)
    }

    /// Handles a notice. A shard that is not loaded ignores it: the next [`Notice::ExpiryDue`] finds what this one missed.
    pub fn on_notice(&mut self, notice: &Notice, now: Now) -> Vec<Effect> {
        if !self.is_loaded {
            return Vec::new();
        }
        let records = self.shard.decide_notice(notice, now);
        let pieces = records.chunks(RECORDS_PER_APPEND).map(<[_]>::to_vec);
        self.unfinished.push(Unfinished::Pieces(pieces.collect()));
        self.run(now)
    }

    /// Handles the deadlines that have passed.
    pub fn on_tick(&mut self, now: Now) -> Vec<Effect> {
        self.unfinished.push(Unfinished::Due);
        self.run(now)
    }

    /// The append was written: these records, the first of them at offset `first`.
    pub fn on_appended(
        &mut self,
        records: Vec<GroupRecord>,
        first: Offset,
        now: Now,
    ) -> Vec<Effect> {
        self.take_append();
        let mut next = first;
        for record in records {
            self.shard.apply(Position::plain(next), record);
            next = next.plus(1);
        }
        self.uncommitted.on_appended(next);
        self.run(now)
    }

    /// The append was refused, and nothing of it is in the log.
    pub fn on_append_refused(&mut self, why: Unavailable, now: Now) -> Vec<Effect> {
        let refused = self.take_append();
        match self.unfinished.last_mut() {
            Some(Unfinished::Steps { outcome, .. }) => {
                *outcome = outcome.and(Err(why));
                let mut undo = Vec::new();
                if let Some(group_id) = refused.group {
                    let if_refused = refused.if_refused;
                    undo = self.shard.on_append_refused(&group_id, if_refused, now);
                }
                self.unfinished.push(Unfinished::Steps {
                    steps: steps(undo).into(),
                    outcome: Err(why),
                });
            }
            Some(Unfinished::Pieces(_)) => {
                self.unfinished.pop();
            }
            Some(Unfinished::Due) | None => unreachable!("only steps and pieces append"),
        }
        self.run(now)
    }

    /// Everything below `end` is committed.
    pub fn on_committed(&mut self, end: Offset) -> Vec<Effect> {
        let released = self.uncommitted.on_committed(end).into_iter();
        released
            .map(|(ticket, outcome)| Effect::Reply(ticket, outcome))
            .collect()
    }

    /// An append that was not committed is gone from the log. The shard is dropped, and every waiting request is answered.
    /// The driver loads the partition again.
    pub fn on_append_lost(&mut self) -> Vec<Effect> {
        self.shard = Shard::new(self.shard.config().clone());
        self.is_loaded = false;
        self.unfinished.clear();
        self.appending = None;
        let mut unanswered = std::mem::take(&mut self.waiting);
        unanswered.extend(self.uncommitted.clear());
        let lost = unanswered.into_iter();
        lost.map(|ticket| Effect::Reply(ticket, Err(Unavailable::NotCoordinator)))
            .collect()
    }

    fn take_append(&mut self) -> Appending {
        let appending = self.appending.take();
        appending.expect("the driver answers an append that was asked for, once")
    }

    fn start(&mut self, steps: Vec<Step>, now: Now) -> Vec<Effect> {
        self.unfinished.push(Unfinished::Steps {
            steps: steps.into(),
            outcome: Ok(()),
        });
        self.run(now)
    }

    /// Runs the work that is left, up to the next append.
    fn run(&mut self, now: Now) -> Vec<Effect> {
        assert!(
            self.appending.is_none(),
            "the driver answers an append before it calls again"
        );
        let mut effects = Vec::new();
        while self.appending.is_none()
            && let Some(work) = self.unfinished.pop()
        {
            match work {
                Unfinished::Steps { steps, outcome } => {
                    self.run_step(steps, outcome, now, &mut effects);
                }
                Unfinished::Pieces(pieces) => self.run_piece(pieces, &mut effects),
                Unfinished::Due => self.run_due(now, &mut effects),
            }
        }
        effects
    }

    fn run_step(
        &mut self,
        mut steps: VecDeque<Step>,
        outcome: Result<(), Unavailable>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(step) = steps.pop_front() else {
            return;
        };
        self.unfinished.push(Unfinished::Steps { steps, outcome });
        match step {
            Step::Append(records, if_refused) => self.append(records, if_refused, effects),
            Step::KeepAlive(keep_alive) => {
                if outcome.is_ok() {
                    self.shard.keep_alive(&keep_alive, now);
                }
            }
            Step::Reply(ticket, reply) => {
                self.waiting.remove(&ticket);
                let outcome = outcome.map(|()| reply);
                let at_once = self.uncommitted.hold(ticket, outcome, now.monotonic);
                effects.extend(at_once.map(|(ticket, outcome)| Effect::Reply(ticket, outcome)));
            }
            Step::Report(event) => effects.push(Effect::Report(event)),
        }
    }

    fn run_piece(&mut self, mut pieces: VecDeque<Vec<GroupRecord>>, effects: &mut Vec<Effect>) {
        let Some(piece) = pieces.pop_front() else {
            return;
        };
        self.unfinished.push(Unfinished::Pieces(pieces));
        self.append(piece, IfRefused::Stand, effects);
    }

    fn run_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let next = self.shard.next_deadline();
        if next.is_some_and(|deadline| deadline <= now.monotonic) {
            self.unfinished.push(Unfinished::Due);
            let actions = self.shard.on_deadline(now);
            self.unfinished.push(Unfinished::Steps {
                steps: steps(actions).into(),
                outcome: Ok(()),
            });
            return;
        }
        let expired = self.uncommitted.expire(now.monotonic).into_iter();
        effects.extend(expired.map(|ticket| Effect::Reply(ticket, Err(Unavailable::NotAvailable))));
    }

    fn append(
        &mut self,
        records: Vec<GroupRecord>,
        if_refused: IfRefused,
        effects: &mut Vec<Effect>,
    ) {
        if records.is_empty() {
            return;
        }
        self.appending = Some(Appending {
            group: group_of(&records),
            if_refused,
        });
        effects.push(Effect::Append(records));
    }
}

/// The group whose own record is among `records`.
fn group_of(records: &[GroupRecord]) -> Option<String> {
    records.iter().find_map(|record| match record {
        GroupRecord::GroupMetadata(key, _) => Some(key.group.clone()),
        _ => None,
    })
}
