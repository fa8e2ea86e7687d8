//! A partition's leader and its followers: their fetches, changes of the ISR, and the answers of the controller.
//!
//! A fetch is checked and planned, then counted: the high watermark moves as far as the follower's progress lets it. A
//! change of the ISR leaves as data. The driver sends it to the controller, and brings back the [`Answer`].

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_log::files::Files;
use ottla_log::{FirstBatch, PartitionLog};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::time::MonotonicTime;
use ottla_replication::{
    Answer, FetchRefusal, FollowerFetch, IsrChange, Leader, Progress, Replica,
};

use super::state::{State, Surroundings, Woken};
use super::{AnsweredBy, Bound, Decide, Offsets, Partition, Planned, ReadAt};
use crate::Host;
use crate::reader::Reader;
use crate::refusals::{Unavailable, Unreadable};
use crate::topic_settings::Durability;

/// A follower's fetch, as its leader gets it.
#[derive(Debug, Clone, Copy)]
pub struct FollowerRead {
    pub from: Replica,
    pub fetch: FollowerFetch,
    /// Whether the request has the leader epoch. Old versions do not.
    pub has_leader_epoch: bool,
    /// Upper bound of the bytes.
    pub max_bytes: usize,
    /// Whether the first batch may be larger than that.
    pub first_batch: FirstBatch,
    /// Whether the fetch has been counted already: it has waited, and what it tells of the follower may be out of date.
    pub is_counted: bool,
}

/// A planned read of a follower.
#[derive(Debug)]
pub struct FollowerPlan<F: Files> {
    pub planned: Planned<F>,
    /// The change of the ISR that the fetch has caused, to be sent to the controller.
    pub isr_change: Option<IsrChange>,
}

impl<F: Files, H: Host> Partition<F, H> {
    /// Plans a read of a follower up to the end of the log, and counts what it has. It may wait for the disk.
    pub fn plan_for_follower(
        &self,
        read: &FollowerRead,
        now: MonotonicTime,
    ) -> Result<FollowerPlan<F>, Unreadable> {
        self.plan_for_follower_by(PartitionLog::read, read, now)
    }

    /// The same without waiting for the disk; the plan names what it misses.
    pub fn plan_cached_for_follower(
        &self,
        read: &FollowerRead,
        now: MonotonicTime,
    ) -> Result<FollowerPlan<F>, Unreadable> {
        self.plan_for_follower_by(PartitionLog::read_cached, read, now)
    }

    fn plan_for_follower_by(
        &self,
        decide: Decide<F>,
        read: &FollowerRead,
        now: MonotonicTime,
    ) -> Result<FollowerPlan<F>, Unreadable> {
        let planned = self.surrounded(now, |state, around| {
            state.plan_for_follower(decide, read, around)
        });
        let (planned, woken) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                self.note_unreadable(&error, now);
                return Err(error);
            }
        };
        woken.wake();
        Ok(planned)
    }

    /// Whether this leader's replica is throttled. What it sends counts for the rate then.
    pub fn is_throttled_as_leader(&self) -> bool {
        self.is_among(&self.settings().leader_throttled)
    }

    /// Whether it must keep to the rate for `follower`. Only followers out of the ISR wait for it, so that a throttle makes
    /// none leave the ISR.
    pub fn is_throttled_for(&self, follower: NodeId) -> bool {
        self.is_throttled_as_leader() && !self.lock().role.isr.contains(&follower)
    }

    /// The follower from which a consumer at `offset` should read instead of this node, if it is one of `near`: a member of
    /// the ISR whose log has the offset.
    pub fn read_replica(&self, near: &BTreeSet<NodeId>, offset: Offset) -> Option<NodeId> {
        if near.is_empty() {
            return None;
        }
        let mut state = self.lock();
        state.count_settled();
        let starts = &state.follower_starts;
        let has_start = |id: &NodeId| starts.get(id).is_some_and(|start| *start <= offset);
        let leader = state.leader.as_ref()?;
        leader.read_replica(offset, |id| near.contains(&id) && has_start(&id))
    }

    /// Wakes `follower` at the next append, or, while this node follows, at the end of the next flush. It finds the change
    /// under `place`. Returns the offsets now, while this node leads.
    pub fn watch_end(&self, follower: &Arc<Reader<H::Consumer>>, place: usize) -> Option<Offsets> {
        let mut state = self.lock();
        state.add_follower(follower, place);
        state.offsets_as_leader()
    }

    /// A change of the ISR without the members that have not caught up for `replica.lag.time.max.ms`, if there are any.
    /// It is to be called twice in that time.
    pub fn shrink_isr(&self, now: MonotonicTime) -> Option<IsrChange> {
        self.surrounded(now, |state, around| {
            state.as_leader(around, Leader::on_tick)
        })?
    }

    /// The controller has answered `change`. After [`Answer::Unknown`] the driver sends the change again, as long as
    /// [`Partition::pending_isr_change`] has it.
    pub fn isr_answered(&self, change: &IsrChange, answer: Answer, now: MonotonicTime) {
        let woken = self.surrounded(now, |state, around| {
            state.isr_answered(change, answer, around)
        });
        woken.wake();
    }

    /// The lowest log start offset of the replicas on live brokers. Followers tell theirs with their fetches. While it is
    /// below `offset`, `reader` is woken at the next change.
    pub fn low_watermark(
        &self,
        offset: Offset,
        reader: &Arc<Reader<H::Consumer>>,
    ) -> Result<Offset, Unavailable> {
        let brokers = self.brokers.get();
        let mut state = self.lock();
        let low_watermark = state.low_watermark(&brokers)?;
        if low_watermark < offset {
            state.add_reader(reader, 0);
        }
        Ok(low_watermark)
    }

    /// Whether this node leads and its high watermark has not reached the start of its leader epoch yet. Records before
    /// that may be committed: an earlier leader may have told consumers a higher high watermark.
    pub fn is_behind_its_epoch(&self) -> bool {
        let state = self.lock();
        let leader = state.leader.as_ref();
        leader.is_some_and(|leader| leader.high_watermark() < leader.epoch_start())
    }

    /// The change of the ISR that the controller has not answered yet.
    pub fn pending_isr_change(&self) -> Option<IsrChange> {
        self.lock().leader.as_ref()?.pending().cloned()
    }
}

impl<F: Files, H: Host> State<F, H> {
    fn plan_for_follower(
        &mut self,
        decide: Decide<F>,
        read: &FollowerRead,
        around: Surroundings<'_>,
    ) -> Result<(FollowerPlan<F>, Woken<H>), Unreadable> {
        let current_epoch = read.has_leader_epoch.then_some(read.fetch.leader_epoch);
        self.check_leader(current_epoch)?;
        if !self.role.replicas.contains(&read.from.node) {
            return Err(refused(FetchRefusal::NotAReplica, read).into());
        }
        let planned = self.plan(
            decide,
            &ReadAt {
                offset: read.fetch.offset,
                max_bytes: read.max_bytes,
                first_batch: read.first_batch,
                bound: Bound::LogEnd,
                answered_by: AnsweredBy::Leader,
                current_epoch,
                last_fetched_epoch: read.fetch.last_fetched_epoch,
            },
        )?;
        let mut plan = FollowerPlan {
            planned,
            isr_change: None,
        };
        if plan.planned.diverging.is_some() || read.is_counted {
            // If it diverges it has records that this log does not have: its end says nothing.
            return Ok((plan, Woken::nobody()));
        }
        let end = read.fetch.offset;
        let progress = match (around.settings.durability, read.fetch.flushed) {
            (Durability::Fsync, Some(flushed)) => Progress::flushed_to(flushed, end),
            _ => Progress::to_end(end),
        };
        let counted = self.as_leader(around, |leader, at| {
            if read.fetch.has_room {
                leader.on_fetch(read.from, progress, at)
            } else {
                leader.on_no_room(read.from, at)
            }
        });
        plan.isr_change = counted
            .transpose()
            .map_err(|refusal| refused(refusal, read))?
            .flatten();
        // If the high watermark cannot move for lack of file descriptors, the next fetch moves it.
        let woken = self.advance_high_watermark(around);
        let woken = woken.unwrap_or_else(|_| Woken::nobody());
        let start = self.follower_starts_at(read.from.node, read.fetch.log_start);
        Ok((plan, woken.and(start)))
    }

    fn isr_answered(
        &mut self,
        change: &IsrChange,
        answer: Answer,
        around: Surroundings<'_>,
    ) -> Woken<H> {
        if let Some(leader) = &mut self.leader {
            leader.on_answer(change, answer, around.now);
            self.role.clone_from(leader.role());
        }
        let woken = self.advance_high_watermark(around);
        woken.unwrap_or_else(|_| Woken::nobody())
    }
}

fn refused(refusal: FetchRefusal, read: &FollowerRead) -> Unavailable {
    match refusal {
        FetchRefusal::StaleBroker => Unavailable::StaleBroker,
        FetchRefusal::NotAReplica if read.has_leader_epoch => Unavailable::NotAReplica,
        FetchRefusal::NotAReplica => Unavailable::NotLeader,
    }
}
