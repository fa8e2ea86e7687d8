//! The state behind a partition's lock: its log, its role, and the waiting producers and consumers.
//!
//! Methods return producers to answer and consumers to wake as [`Woken`]. [`Partition`](super::Partition) does that
//! after it has released the lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use ottla_log::files::Files;
use ottla_log::{
    Appended, Batch, Bound, Flush, LeaderAppend, Origin, PartitionLog, ReadError, ReadRequest,
    StorageError,
};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::planted::{Bug, is_planted};
use ottla_protocol::time::{MonotonicTime, Timestamp};
use ottla_replication::{
    Brokers, EpochStart, Following, Leader, Progress, Role, Situation, follower,
};

use super::{AnsweredBy, Append, Decide, Offsets, Planned, ReadAt, RequiredAcks};
use crate::Host;
use crate::acks::Acks;
use crate::reader::Reader;
use crate::refusals::{Refused, Unavailable, Unreadable};
use crate::topic_settings::{Durability, TopicSettings};
use crate::urgency::Urgency;

#[derive(Debug)]
pub(super) struct State<F: Files, H: Host> {
    /// `None` once the partition is gone.
    pub(super) log: Option<PartitionLog<F>>,
    pub(super) role: Role,
    /// `Some` while this node leads.
    pub(super) leader: Option<Leader>,
    /// While this node leads: the log start offsets that followers have told.
    pub(super) follower_starts: BTreeMap<NodeId, Offset>,
    /// `Some` while this node follows a leader.
    pub(super) following: Option<Following>,
    pub(super) acks: Acks<H::Producer>,
    /// Consumers that wait for a change.
    readers: Readers<H>,
    /// Followers that wait for records: an append wakes them, flushed or not.
    followers: Readers<H>,
    /// See [`super::settled`].
    pub(super) settled: BTreeMap<NodeId, Arc<Reader<H::Consumer>>>,
}

type Readers<H> = Vec<Watch<<H as Host>::Consumer>>;

/// A reader, and the place under which it watches this partition.
#[derive(Debug)]
struct Watch<C> {
    reader: Weak<Reader<C>>,
    place: usize,
}

/// What the state needs to know to decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) settings: &'a TopicSettings,
    pub(super) brokers: &'a Brokers,
    pub(super) now: MonotonicTime,
}

/// Producers to answer and consumers to wake after the lock is released.
#[derive(Debug)]
#[must_use = "someone waits"]
pub(super) struct Woken<H: Host> {
    producers: Vec<H::Producer>,
    outcome: Result<(), Unavailable>,
    readers: Readers<H>,
}

impl<H: Host> Woken<H> {
    pub(super) fn nobody() -> Self {
        Self {
            producers: Vec::new(),
            outcome: Ok(()),
            readers: Vec::new(),
        }
    }

    /// Also the consumers of `other`.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.readers.extend(other.readers);
        self
    }

    /// Answers the producers, and wakes the consumers, which read again.
    pub(super) fn wake(self) {
        for producer in self.producers {
            H::answer(producer, self.outcome.clone());
        }
        for watch in &self.readers {
            if let Some(reader) = watch.reader.upgrade() {
                reader.note(watch.place);
                H::wake(reader.consumer());
            }
        }
    }
}

impl<F: Files, H: Host> State<F, H> {
    /// The state of an open log, without a role.
    pub(super) fn new(log: Option<PartitionLog<F>>) -> Self {
        Self {
            log,
            role: Role::unknown(),
            leader: None,
            follower_starts: BTreeMap::new(),
            following: None,
            acks: Acks::default(),
            readers: Vec::new(),
            followers: Vec::new(),
            settled: BTreeMap::new(),
        }
    }

    /// Takes over a role. One with an earlier partition epoch changes nothing: the answer to a change of the ISR may come
    /// before the metadata.
    pub(super) fn set_role(
        &mut self,
        role: Role,
        around: Surroundings<'_>,
    ) -> Result<Woken<H>, StorageError> {
        if role.partition_epoch < self.role.partition_epoch {
            return Ok(Woken::nobody());
        }
        let led = self.role.is_leader();
        let is_same_epoch = self.role.leader_epoch == role.leader_epoch;
        self.role = role.clone();
        if !role.is_leader() {
            self.leader = None;
            self.follow(&role);
            return Ok(if led {
                self.take_waiting(Unavailable::NotLeader)
            } else {
                Woken::nobody()
            });
        }
        self.following = None;
        match (&mut self.log, &mut self.leader) {
            (_, Some(leader)) if is_same_epoch => leader.on_role(role, around.now),
            (Some(log), _) => {
                log.begin_epoch(role.leader_epoch);
                log.flush()?;
                let start = EpochStart {
                    offset: log.log_end_offset(),
                    high_watermark: log.high_watermark(),
                };
                self.leader = Some(Leader::new(role, start, around.now));
                self.follower_starts.clear();
                self.settled.clear();
            }
            (None, _) => {}
        }
        self.advance_high_watermark(around)
    }

    /// Follows the leader of `role`. In the same leader epoch the follower goes on.
    fn follow(&mut self, role: &Role) {
        let goes_on = self.following.is_some_and(|following| {
            following.leader_epoch == role.leader_epoch && Some(following.leader) == role.leader
        });
        if !goes_on {
            let leader = role.leader;
            self.following = leader.map(|leader| Following::new(leader, role.leader_epoch));
        }
    }

    /// Removes and returns all who wait. Producers are answered with `reason`.
    pub(super) fn take_waiting(&mut self, reason: Unavailable) -> Woken<H> {
        let mut readers = std::mem::take(&mut self.readers);
        readers.append(&mut self.followers);
        Woken {
            producers: self.acks.take_all(),
            outcome: Err(reason),
            readers,
        }
    }

    /// A follower has told its log start offset.
    pub(super) fn follower_starts_at(&mut self, node: NodeId, start: Offset) -> Woken<H> {
        if self.follower_starts.insert(node, start) == Some(start) {
            return Woken::nobody();
        }
        self.take_readers()
    }

    /// The lowest log start offset of the replicas on live brokers; 0 while one has not told its own.
    pub(super) fn low_watermark(&self, brokers: &Brokers) -> Result<Offset, Unavailable> {
        self.check_leader(None)?;
        let log = self.log.as_ref().ok_or(Unavailable::Gone)?;
        let replicas = self.role.replicas.iter();
        let others = replicas.filter(|id| **id != self.role.node);
        let alive = others.filter(|id| brokers.alive_epoch(**id).is_some());
        let starts = alive.map(|id| self.follower_starts.get(id).copied());
        let lowest = starts.map(|start| start.unwrap_or(Offset(0))).min();
        let own = log.log_start_offset();
        Ok(lowest.map_or(own, |lowest| lowest.min(own)))
    }

    /// Removes and returns the consumers that wait.
    pub(super) fn take_readers(&mut self) -> Woken<H> {
        Woken {
            readers: std::mem::take(&mut self.readers),
            ..Woken::nobody()
        }
    }

    /// Removes and returns the followers that wait for records.
    pub(super) fn take_followers(&mut self) -> Woken<H> {
        Woken {
            readers: std::mem::take(&mut self.followers),
            ..Woken::nobody()
        }
    }

    pub(super) fn check_leader(
        &self,
        current_epoch: Option<LeaderEpoch>,
    ) -> Result<(), Unavailable> {
        let current = self.role.leader_epoch;
        let told = current_epoch.filter(|_| !is_planted(Bug::EpochCheckSkipped));
        match told {
            Some(epoch) if epoch < current => return Err(Unavailable::FencedEpoch { current }),
            Some(epoch) if epoch > current => return Err(Unavailable::UnknownEpoch { current }),
            _ => {}
        }
        if self.role.is_leader() {
            Ok(())
        } else {
            Err(Unavailable::NotLeader)
        }
    }

    /// Whether this node may answer a read. A follower needs no leader for that.
    pub(super) fn check_reader(&self, read: &ReadAt) -> Result<(), Unavailable> {
        let is_replica = self.role.replicas.contains(&self.role.node);
        match self.check_leader(read.current_epoch) {
            Err(Unavailable::NotLeader)
                if is_replica && read.answered_by == AnsweredBy::AnyReplica =>
            {
                Ok(())
            }
            checked => checked,
        }
    }

    /// Appends `requests`. Those with [`RequiredAcks::All`] are refused while the ISR is smaller than
    /// `min.insync.replicas`.
    pub(super) fn append(
        &mut self,
        requests: &[Append<'_>],
        origin: Origin,
        settings: &TopicSettings,
        now: Timestamp,
    ) -> Vec<Result<Appended, Refused>> {
        let refuse = |unavailable: Unavailable| {
            let refused = Refused::from(unavailable);
            requests.iter().map(|_| Err(refused.clone())).collect()
        };
        if let Err(unavailable) = self.check_leader(None) {
            return refuse(unavailable);
        }
        let Some(log) = &mut self.log else {
            return refuse(Unavailable::Gone);
        };
        let needed = self.role.effective_min_isr(settings.min_insync_replicas);
        let in_sync = self.role.isr.len();
        let too_few = (in_sync < needed).then_some(Refused::TooFewInSync { in_sync, needed });
        let refusal = |request: &Append<'_>| {
            let needs_all = request.acks == RequiredAcks::All;
            too_few.as_ref().filter(|_| needs_all)
        };
        let taken = requests.iter().filter(|request| refusal(request).is_none());
        let batches: Vec<&[Batch<'_>]> = taken.map(|request| request.batches).collect();
        let append = LeaderAppend {
            origin,
            leader_epoch: self.role.leader_epoch,
            now,
        };
        let mut appended = log.append_as_leader(&batches, append).into_iter();
        let outcomes = requests.iter().map(|request| {
            if let Some(refused) = refusal(request) {
                return Err(refused.clone());
            }
            let appended = appended.next().expect("an outcome for each request");
            appended.map_err(Refused::from)
        });
        outcomes.collect()
    }

    /// Whether records before `offset` may be acknowledged now. An error if they can never be: nothing is flushed in an
    /// offline directory, and its waiting producers were already answered.
    pub(super) fn is_replicated(
        &self,
        offset: Offset,
        min_insync_replicas: usize,
    ) -> Result<bool, Unavailable> {
        let log = self.log.as_ref().ok_or(Unavailable::Gone)?;
        self.check_leader(None)?;
        if !Acks::<H::Producer>::may_acknowledge(offset, log.high_watermark()) {
            log.directory().ensure_online()?;
            return Ok(false);
        }
        let leader = self.leader.as_ref();
        if leader.is_some_and(|leader| leader.has_too_few_after_append(min_insync_replicas)) {
            return Err(Unavailable::TooFewAfterAppend);
        }
        Ok(true)
    }

    /// After an append of `bytes` bytes: who is answered and woken, and the flush that is needed.
    pub(super) fn after_append(
        &mut self,
        bytes: u64,
        acks: RequiredAcks,
        around: Surroundings<'_>,
    ) -> (Woken<H>, Option<(Urgency, Offset)>) {
        let Some(log) = &self.log else {
            return (Woken::nobody(), None);
        };
        let settings = around.settings;
        let end = log.log_end_offset();
        let unflushed = end.0 - log.flushed_offset().0;
        if unflushed == 0 {
            return (Woken::nobody(), None);
        }
        match settings.durability {
            Durability::Fsync => {
                let is_urgent = acks == RequiredAcks::All || self.reader_is_satisfied_by(bytes);
                let urgency = if is_urgent {
                    Urgency::Now
                } else {
                    Urgency::Later
                };
                (self.take_followers(), Some((urgency, end)))
            }
            Durability::PageCache if unflushed >= settings.flush_messages => {
                (self.take_followers(), Some((Urgency::Now, end)))
            }
            Durability::PageCache => {
                let woken = self
                    .advance_high_watermark(around)
                    .unwrap_or_else(|_| Woken::nobody());
                let mut followers = self.take_followers();
                followers.readers.extend(woken.readers);
                let woken = Woken {
                    readers: followers.readers,
                    ..woken
                };
                (woken, None)
            }
        }
    }

    /// Whether a waiting reader has enough with these `bytes`. Readers that have given up are removed, because they
    /// would cost a flush at each append.
    fn reader_is_satisfied_by(&mut self, bytes: u64) -> bool {
        let mut is_satisfied = false;
        self.readers.retain(|watch| {
            let reader = watch.reader.upgrade();
            is_satisfied |= reader.as_ref().is_some_and(|reader| {
                // Before the bytes are subtracted: a reader that sets what it lacks in between looks at this partition.
                reader.note(watch.place);
                reader.gets(bytes)
            });
            reader.is_some()
        });
        is_satisfied
    }

    /// How far this node's own log counts for the high watermark.
    pub(super) fn own_progress(&self, settings: &TopicSettings) -> Option<Progress> {
        let log = self.log.as_ref()?;
        let (end, flushed) = (log.log_end_offset(), log.flushed_offset());
        let is_page_cache = settings.durability == Durability::PageCache
            && end.0 - flushed.0 < settings.flush_messages;
        Some(if is_page_cache {
            Progress::to_end(end)
        } else {
            Progress::flushed_to(flushed, end)
        })
    }

    /// Runs `decide` on the leader, if this node leads.
    pub(super) fn as_leader<T>(
        &mut self,
        around: Surroundings<'_>,
        decide: impl FnOnce(&mut Leader, &Situation<'_>) -> T,
    ) -> Option<T> {
        let progress = self.own_progress(around.settings)?;
        let leader = self.leader.as_mut()?;
        let situation = Situation {
            progress,
            min_insync_replicas: around.settings.min_insync_replicas,
            max_lag: around.settings.max_replica_lag,
            brokers: around.brokers,
            now: around.now,
        };
        Some(decide(leader, &situation))
    }

    /// The new high watermark, if this node leads and it may advance.
    fn next_high_watermark(&mut self, around: Surroundings<'_>) -> Option<Offset> {
        self.as_leader(around, |leader, at| leader.next_high_watermark(at))?
    }

    /// Advances the high watermark as far as it may go.
    pub(super) fn advance_high_watermark(
        &mut self,
        around: Surroundings<'_>,
    ) -> Result<Woken<H>, StorageError> {
        let next = self.next_high_watermark(around);
        let (Some(next), Some(log)) = (next, &mut self.log) else {
            return Ok(Woken::nobody());
        };
        log.set_high_watermark(next)?;
        Ok(self.reached(next))
    }

    /// The same after a flush, whose end is usually the new high watermark, with a known position.
    pub(super) fn advance_to_flushed(
        &mut self,
        flush: &Flush<F>,
        around: Surroundings<'_>,
    ) -> Result<Woken<H>, StorageError> {
        if let Some(log) = &mut self.log {
            log.complete_flush(flush);
        }
        if self.following.is_some() {
            // What waits is the task that tells the leader.
            return Ok(self.take_followers());
        }
        let end = flush.end();
        match (self.next_high_watermark(around), &mut self.log) {
            (Some(next), Some(log)) if next == end.offset => {
                log.set_high_watermark_to(end)?;
                Ok(self.reached(next))
            }
            _ => self.advance_high_watermark(around),
        }
    }

    /// Removes and returns who waited for the high watermark `offset`.
    pub(super) fn reached(&mut self, offset: Offset) -> Woken<H> {
        if let Some(leader) = &mut self.leader {
            leader.advanced(offset);
        }
        Woken {
            producers: self.acks.reached(offset),
            readers: std::mem::take(&mut self.readers),
            ..Woken::nobody()
        }
    }

    pub(super) fn plan(
        &mut self,
        decide: Decide<F>,
        read: &ReadAt,
    ) -> Result<Planned<F>, Unreadable> {
        self.check_reader(read)?;
        let log = self.log.as_ref().ok_or(Unavailable::Gone)?;
        let request = ReadRequest {
            offset: read.offset,
            max_bytes: read.max_bytes,
            first_batch: read.first_batch,
            bound: read.bound,
        };
        let diverging = read
            .last_fetched_epoch
            .map(|epoch| divergence(log, epoch, read.offset))
            .transpose()?
            .flatten();
        if read.last_fetched_epoch.is_some() && read.offset < log.log_start_offset() {
            return Err(Unreadable::OutOfRange);
        }
        let request = match diverging {
            // Nothing is read after a divergence, but the answer has the offsets.
            Some(_) => ReadRequest {
                offset: log.log_end_offset(),
                ..request
            },
            None => request,
        };
        let end = log.log_end_offset();
        let is_flushed = log.flushed_offset() >= end;
        // A follower's high watermark waits for the leader, not for a flush here.
        let waits_for_flush = self.leader.is_some() && request.bound != Bound::LogEnd;
        let unflushed = if !waits_for_flush || request.offset >= end || is_flushed {
            0
        } else {
            log.bytes_beyond_high_watermark()
        };
        match decide(log, &request) {
            Ok(plan) => Ok(Planned {
                plan,
                offsets: offsets_of(log),
                diverging,
                unflushed,
                read_replica: None,
            }),
            Err(ReadError::OutOfRange { .. }) => Err(Unreadable::OutOfRange),
            Err(ReadError::Storage(error)) => Err(error.into()),
        }
    }

    pub(super) fn add_reader(&mut self, reader: &Arc<Reader<H::Consumer>>, place: usize) {
        add(&mut self.readers, reader, place);
    }

    pub(super) fn offsets_as_leader(&self) -> Option<Offsets> {
        let log = self.log.as_ref().filter(|_| self.role.is_leader());
        log.map(offsets_of)
    }

    /// Adds a follower that waits for records.
    pub(super) fn add_follower(&mut self, follower: &Arc<Reader<H::Consumer>>, place: usize) {
        add(&mut self.followers, follower, place);
    }
}

/// Adds a reader, or gives it its new place: a reader that another partition woke returns to all its partitions.
/// Entries of readers that have given up are removed when the list doubles.
fn add<C>(readers: &mut Vec<Watch<C>>, reader: &Arc<Reader<C>>, place: usize) {
    let reader = Arc::downgrade(reader);
    let mut known = readers.iter_mut();
    if let Some(known) = known.find(|known| known.reader.ptr_eq(&reader)) {
        known.place = place;
        return;
    }
    if readers.len() == readers.capacity() {
        readers.retain(|watch| watch.reader.strong_count() > 0);
    }
    readers.push(Watch { reader, place });
}

pub(super) fn offsets_of<F: Files>(log: &PartitionLog<F>) -> Offsets {
    Offsets {
        log_start: log.log_start_offset(),
        last_stable: log.last_stable_offset(),
        high_watermark: log.high_watermark(),
        log_end: log.log_end_offset(),
    }
}

/// Where the log of a reader diverges from this one. Its log ends at `offset`, and its last record has `epoch`.
pub(super) fn divergence<F: Files>(
    log: &PartitionLog<F>,
    epoch: LeaderEpoch,
    offset: Offset,
) -> Result<Option<(LeaderEpoch, Offset)>, Unreadable> {
    let of_epoch = log.end_of_epoch(epoch).ok_or(Unreadable::OutOfRange)?;
    let of_epoch = follower::EpochEnd {
        epoch: of_epoch.epoch,
        end: of_epoch.end,
    };
    let diverging = follower::divergence(of_epoch, epoch, offset);
    Ok(diverging.map(|at| (at.epoch, at.end)))
}

#[cfg(test)]
mod tests {
    use super::{Reader, State};
    use crate::host::Nobody;
    use ottla_log::files::simulated::Simulated;

    fn state() -> State<Simulated, Nobody> {
        State::new(None)
    }

    #[test]
    fn an_append_is_flushed_for_a_reader_that_lacks_no_more_bytes() {
        let (mut state, reader) = (state(), Reader::new(()));
        assert!(!state.reader_is_satisfied_by(1), "nobody reads");
        state.add_reader(&reader, 0);
        assert!(!state.reader_is_satisfied_by(1), "it lacks nothing yet");
        reader.lacks(100);
        assert!(!state.reader_is_satisfied_by(60));
        assert!(state.reader_is_satisfied_by(40));
        let patient = Reader::new(());
        patient.lacks(100);
        state.add_reader(&patient, 0);
        assert!(state.reader_is_satisfied_by(99), "one has enough");
        assert!(patient.gets(1), "and the other has been given as much");
    }

    #[test]
    fn no_append_is_flushed_for_readers_that_have_gone() {
        let (mut state, reader) = (state(), Reader::new(()));
        reader.lacks(1);
        state.add_reader(&reader, 0);
        drop(reader);
        assert!(!state.reader_is_satisfied_by(1));
        assert_eq!(state.readers.len(), 0);
    }
}
