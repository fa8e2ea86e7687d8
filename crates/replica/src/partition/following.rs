//! A partition that follows: what it fetches next, and what it does with the leader's answer. Invariants:
//!
//! - an answer counts only in the leader epoch in which it was asked for, and while the log has the end and the last epoch
//!   for which it was asked: an answer that comes twice must not truncate what was fetched since;
//! - batches of a later epoch are not appended: the leader of that epoch is asked first where the logs diverge;
//! - records below the high watermark are removed only after a [`Loss`] that says so has been recorded;
//! - after a truncation nothing is appended before the checkpoints that lie beyond the new end are written.

use std::sync::Arc;

use ottla_log::files::Files;
use ottla_log::{AppendError, PartitionLog, StorageError};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::planted::{Bug, is_planted};
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use ottla_replication::follower::{EpochEnd, truncation};
use ottla_replication::{FollowerFetch, Following, LeaderOffsets, Reset, Step};

use super::Partition;
use super::state::{State, Surroundings, Woken};
use crate::Host;
use crate::loss::{Loss, LossReason};
use crate::topic_settings::Durability;
use crate::urgency::Urgency;

/// What a follower asks of its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextFetch {
    pub leader: NodeId,
    pub fetch: FollowerFetch,
    /// Whether to ask for the offsets of the leader's log (ListOffsets) instead of records.
    pub wants_offsets: bool,
}

/// The next step of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Fetch(NextFetch),
    /// To write the recovery points and log start offsets of its directory, then [`Partition::checkpoints_written`].
    WriteCheckpoints,
}

/// Records of the leader, and its offsets.
#[derive(Debug, Clone, Copy)]
pub struct Fetched<'a> {
    /// Batches. The last one may be cut off.
    pub records: &'a [u8],
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// The leader's answer to a fetch.
#[derive(Debug, Clone, Copy)]
pub enum LeaderAnswer<'a> {
    Records(Fetched<'a>),
    /// The logs diverge. The leader has this epoch, up to this end.
    Diverging(EpochEnd),
    /// The offsets that were asked for.
    Offsets(LeaderOffsets),
    /// An error, or no answer at all.
    Failed(ErrorCode),
}

/// Takes a [`Loss`] before its records are removed. If the node ends in between, the same loss is recorded again when the
/// records are removed after all.
pub type RecordLoss<'a> = &'a mut dyn FnMut(&Loss);

/// What a [`Loss`] has beside the name of its partition.
#[derive(Debug, Clone, Copy)]
struct Lost {
    from: Offset,
    to: Offset,
    end: Offset,
    removed_epoch: Option<LeaderEpoch>,
    leader: NodeId,
    leader_epoch: LeaderEpoch,
    reason: LossReason,
}

/// Why an answer could not be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FollowFailure {
    #[error("cannot append what the leader sent: {0}")]
    Append(#[from] AppendError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl FollowFailure {
    fn is_offline(&self) -> bool {
        let (Self::Storage(error) | Self::Append(AppendError::Storage(error))) = self else {
            return false;
        };
        matches!(error, StorageError::Offline { .. })
    }
}

impl<F: Files, H: Host> Partition<F, H> {
    /// The next step; `None` if this node does not follow, or waits after an error.
    pub(crate) fn next_step(&self, now: Now) -> Option<Next> {
        let tells_flushes = self.settings().durability == Durability::Fsync;
        let state = self.lock();
        let (following, log) = (state.following?, state.log.as_ref()?);
        let step = following.next(now.monotonic)?;
        if step == Step::Stop {
            return None;
        }
        if step == Step::WriteCheckpoints {
            return Some(Next::WriteCheckpoints);
        }
        Some(Next::Fetch(NextFetch {
            leader: following.leader,
            fetch: FollowerFetch {
                leader_epoch: following.leader_epoch,
                offset: log.log_end_offset(),
                last_fetched_epoch: log.latest_epoch(),
                log_start: log.log_start_offset(),
                flushed: tells_flushes.then(|| log.flushed_offset()),
                has_room: true,
            },
            wants_offsets: step == Step::FindLeaderOffsets,
        }))
    }

    /// After there was no next step: when to ask again. `None` if that is of no use before the role changes.
    pub fn next_try(&self, now: MonotonicTime) -> Option<MonotonicTime> {
        let backoff = self.settings().fetch_backoff;
        let state = self.lock();
        let (following, _) = (state.following?, state.log.as_ref()?);
        match following.next(now) {
            None => following.waits_until(),
            Some(Step::Stop) => None,
            // Its checkpoints could not be written.
            Some(_) => Some(now.after(backoff)),
        }
    }

    /// Whether this follower's replica is throttled. What it fetches counts for the rate then.
    pub fn is_throttled_as_follower(&self) -> bool {
        self.is_among(&self.settings().follower_throttled)
    }

    /// Whether it must keep to the rate: only out of the ISR.
    pub fn must_keep_to_rate(&self) -> bool {
        let is_in_sync = || {
            let state = self.lock();
            state.role.isr.contains(&state.role.node)
        };
        self.is_throttled_as_follower() && !is_in_sync()
    }

    /// The checkpoints of its directory are written after a truncation.
    pub(crate) fn checkpoints_written(&self) {
        if let Some(following) = &mut self.lock().following {
            following.on_progress();
        }
    }

    /// The leader has answered `fetch`, which [`Node::next_fetch`](crate::Node::next_fetch) has returned. Returns the bytes
    /// of the appended batches. Blocks on the disk if the log must be truncated.
    pub fn on_fetched(
        self: &Arc<Self>,
        fetch: &FollowerFetch,
        answer: &LeaderAnswer<'_>,
        now: Now,
        record: RecordLoss<'_>,
    ) -> Result<u64, FollowFailure> {
        let mut record = |lost| record(&self.loss(lost));
        let (outcome, woken, flush) = self.surrounded(now.monotonic, |state, around| {
            let at = (around, now.wall);
            let (outcome, woken) = state.on_fetched(fetch, answer, at, &mut record);
            if matches!(
                answer,
                LeaderAnswer::Diverging(_) | LeaderAnswer::Offsets(_)
            ) && let Some(log) = &state.log
            {
                self.directory
                    .truncated(self.flush_id, log.flushed_offset());
            }
            if let (LeaderAnswer::Records(fetched), Some(log)) = (answer, &state.log) {
                let lag = fetched.high_watermark.0 - log.log_end_offset().0;
                self.traffic.set_follower_lag(lag.max(0));
            }
            (outcome, woken, state.flush_as_follower(around))
        });
        woken.wake();
        if let Some((urgency, end)) = flush {
            self.directory
                .ask_for_flush(self, end, urgency, now.monotonic);
        }
        let bytes = outcome?;
        if bytes > 0 {
            self.directory.reserve.appended(bytes);
        }
        Ok(bytes)
    }

    fn loss(&self, lost: Lost) -> Loss {
        Loss {
            topic: Arc::clone(&self.topic),
            partition: self.id(),
            from: lost.from,
            to: lost.to,
            end: lost.end,
            removed_epoch: lost.removed_epoch,
            leader: lost.leader,
            leader_epoch: lost.leader_epoch,
            reason: lost.reason,
        }
    }
}

/// The state's surroundings, and the time for segments.
type At<'a> = (Surroundings<'a>, Timestamp);

impl<F: Files, H: Host> State<F, H> {
    fn on_fetched(
        &mut self,
        fetch: &FollowerFetch,
        answer: &LeaderAnswer<'_>,
        at: At<'_>,
        record: &mut dyn FnMut(Lost),
    ) -> (Result<u64, FollowFailure>, Woken<H>) {
        let (Some(following), Some(log)) = (&mut self.following, &mut self.log) else {
            return (Ok(0), Woken::nobody());
        };
        let is_of_this_epoch =
            following.leader_epoch == fetch.leader_epoch || is_planted(Bug::EarlierAnswerTaken);
        let is_of_this_end =
            log.log_end_offset() == fetch.offset && log.latest_epoch() == fetch.last_fetched_epoch;
        if !is_of_this_epoch || !is_of_this_end {
            return (Ok(0), Woken::nobody());
        }
        let high_watermark = log.high_watermark();
        let (around, now) = at;
        let whose = (following.leader, following.leader_epoch);
        let is_recovering = self.role.recovering;
        // What the log loses when it ends at `from`, if that is more than it may lose in silence.
        let lost_from = |from: Offset| {
            let is_shorter = from < high_watermark || (is_recovering && from < fetch.offset);
            is_shorter.then_some(Lost {
                from,
                to: high_watermark.max(from),
                end: fetch.offset,
                removed_epoch: fetch.last_fetched_epoch,
                leader: whose.0,
                leader_epoch: whose.1,
                reason: match answer {
                    LeaderAnswer::Offsets(_) => LossReason::LeaderEndsBefore,
                    _ => LossReason::Diverged,
                },
            })
        };
        let reset = reset(log, answer);
        let expected = match reset {
            Some(Reset::TruncateTo(to)) => lost_from(to),
            _ => None,
        };
        if let Some(lost) = expected {
            record(lost);
        }
        let taken = match (reset, answer) {
            (Some(reset), _) => carry_out(reset, log, following, now),
            (None, LeaderAnswer::Records(fetched)) => {
                take(log, following, fetched, (fetch.leader_epoch, now))
            }
            (None, _) => Ok(0),
        };
        // A batch that holds the offset is removed as a whole.
        let end = log.log_end_offset();
        if let Some(lost) = lost_from(end)
            && expected.is_none_or(|expected| end < expected.from)
        {
            record(lost);
        }
        if let Err(failure) = &taken {
            if failure.is_offline() {
                following.on_failure();
            } else {
                let code = ErrorCode::UnknownServerError;
                following.on_error(code, around.now, around.settings.fetch_backoff);
            }
        }
        if let LeaderAnswer::Failed(code) = answer {
            following.on_error(*code, around.now, around.settings.fetch_backoff);
        }
        let moved = log.high_watermark();
        let woken = if moved == high_watermark {
            Woken::nobody()
        } else {
            self.reached(moved)
        };
        (taken, woken)
    }

    /// The flush that a follower needs. Under `fsync` its leader waits for it.
    fn flush_as_follower(&self, around: Surroundings<'_>) -> Option<(Urgency, Offset)> {
        let log = self.log.as_ref()?;
        let end = log.log_end_offset();
        let unflushed = end.0 - log.flushed_offset().0;
        let needed = match around.settings.durability {
            Durability::Fsync => 1,
            Durability::PageCache => around.settings.flush_messages,
        };
        (unflushed >= needed).then_some((Urgency::Now, end))
    }
}

/// What the leader's answer makes of the log, if it brings no records.
fn reset<F: Files>(log: &PartitionLog<F>, answer: &LeaderAnswer<'_>) -> Option<Reset> {
    match answer {
        LeaderAnswer::Diverging(diverging) => {
            let own = log.end_of_epoch(diverging.epoch);
            let own = own.map(|own| EpochEnd {
                epoch: own.epoch,
                end: own.end,
            });
            let (start, high_watermark) = (log.log_start_offset(), log.high_watermark());
            let to = truncation(*diverging, own, start, high_watermark).to;
            Some(Reset::TruncateTo(to))
        }
        LeaderAnswer::Offsets(leader) => Some(leader.reset(log.log_end_offset())),
        LeaderAnswer::Records(_) | LeaderAnswer::Failed(_) => None,
    }
}

/// Appends nothing: returns 0 bytes.
fn carry_out<F: Files>(
    reset: Reset,
    log: &mut PartitionLog<F>,
    following: &mut Following,
    now: Timestamp,
) -> Result<u64, FollowFailure> {
    match reset {
        Reset::TruncateTo(to) => truncate(log, following, to, now)?,
        Reset::RestartAt(start) => {
            log.truncate_fully(start, now)?;
            following.on_progress();
        }
        Reset::Keep => following.on_progress(),
    }
    Ok(0)
}

/// Takes in records and offsets of the leader; returns the bytes of the appended batches.
fn take<F: Files>(
    log: &mut PartitionLog<F>,
    following: &mut Following,
    fetched: &Fetched<'_>,
    (leader_epoch, now): (LeaderEpoch, Timestamp),
) -> Result<u64, FollowFailure> {
    let bytes = append(log, fetched, leader_epoch, now)?;
    follow_offsets(log, fetched)?;
    following.on_progress();
    Ok(bytes)
}

fn truncate<F: Files>(
    log: &mut PartitionLog<F>,
    following: &mut Following,
    to: Offset,
    now: Timestamp,
) -> Result<(), StorageError> {
    let start = log.log_start_offset();
    let recovery_point = log.recovery_point_on_disk();
    log.truncate_to(to, now)?;
    let end = log.log_end_offset();
    if end < recovery_point || end < start {
        following.on_shortened();
    } else {
        following.on_progress();
    }
    Ok(())
}

/// Appends batches of the leader; returns their bytes.
fn append<F: Files>(
    log: &mut PartitionLog<F>,
    fetched: &Fetched<'_>,
    leader_epoch: LeaderEpoch,
    now: Timestamp,
) -> Result<u64, FollowFailure> {
    let appended = log.append_as_follower(fetched.records, leader_epoch, now);
    let end = log.log_end_offset();
    let appended = match appended {
        // The leader's log begins inside of its first batch, and so does this empty log. It takes the whole batch.
        Err(AppendError::UnexpectedOffset { offset, .. })
            if end == log.log_start_offset() && offset < end =>
        {
            log.truncate_fully(offset, now)?;
            log.append_as_follower(fetched.records, leader_epoch, now)
        }
        appended => appended,
    };
    Ok(appended?.map_or(0, |appended| appended.bytes))
}

/// Takes over the high watermark and the log start offset of the leader, as far as the log goes. The high watermark of
/// a new leader may be lower than the one known here.
fn follow_offsets<F: Files>(
    log: &mut PartitionLog<F>,
    fetched: &Fetched<'_>,
) -> Result<(), StorageError> {
    let range = log.log_start_offset()..=log.log_end_offset();
    let high_watermark = fetched.high_watermark.clamp(*range.start(), *range.end());
    if high_watermark != log.high_watermark() {
        log.set_high_watermark(high_watermark)?;
    }
    log.advance_log_start(fetched.log_start.min(high_watermark))
}
