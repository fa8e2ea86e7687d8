//! One partition on this node: its log behind a short lock, its role, and the producers and consumers that wait.
//!
//! The lock is held for work in memory and in the page cache, never during a sync. Producers are answered and consumers
//! woken after it is released. A partition whose log was taken out stays without one: if its topic is created again,
//! the node makes a new partition. Invariants:
//!
//! - the high watermark moves as `ottla_replication` decides; of this node's log, only flushed records count under
//!   `fsync`, and all records under `page-cache`;
//! - a producer is answered once, when the high watermark has reached the end of its records;
//! - after its directory has failed, a partition answers all who wait, and lets nobody wait any more.

mod following;
mod leading;
mod settled;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use ottla_log::files::Files;
use ottla_log::group_commit::LogId;
use ottla_log::{
    Appended, Batch, Bound, FirstBatch, Flush, Origin, PartitionLog, ReadError, ReadPlan,
    ReadRequest, StorageError,
};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
pub use ottla_replication::Role;

pub(crate) use self::following::Next;
pub use self::following::{Fetched, FollowFailure, LeaderAnswer, NextFetch, RecordLoss};
pub use self::leading::{FollowerPlan, FollowerRead};
pub use self::settled::Known;
use self::settled::changed;
use self::state::{State, Surroundings, offsets_of};
use crate::Host;
use crate::damage::DamageNotes;
use crate::directory::Directory;
use crate::live_brokers::LiveBrokers;
use crate::logs::WhoseLog;
use crate::reader::Reader;
use crate::refusals::{Refused, Unavailable, Unreadable};
use crate::throttled::ThrottledReplicas;
use crate::topic_settings::TopicSettings;
use crate::traffic::Traffic;
use crate::urgency::Urgency;

/// How a read is planned: [`PartitionLog::read`] or [`PartitionLog::read_cached`].
type Decide<F> = fn(&PartitionLog<F>, &ReadRequest) -> Result<ReadPlan<F>, ReadError>;

/// What identifies a partition: its topic's id, and its index.
pub type PartitionId = (Uuid, PartitionIndex);

/// A partition of this node.
#[derive(Debug)]
pub struct Partition<F: Files, H: Host> {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's index.
    pub index: PartitionIndex,
    pub traffic: Traffic,
    pub(crate) damage: DamageNotes,
    /// Has a lock of its own, so that reading the settings never waits for the disk.
    settings: Mutex<Arc<TopicSettings>>,
    brokers: Arc<LiveBrokers>,
    state: Mutex<State<F, H>>,
    /// Held by the cleaner during a pass; a deletion or close waits for it.
    pub cleaning: Mutex<()>,
    /// The id of its log in the group commit of its directory.
    flush_id: LogId,
    directory: Arc<Directory<F, H>>,
}

/// Which replicas must have records before their producer is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredAcks {
    /// All replicas in the ISR, at least `min.insync.replicas` (acks=all). A flush is due at once.
    All,
    /// The leader alone (acks=1 and 0).
    Leader,
}

/// The batches of one request.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// One or more batches, validated.
    pub batches: &'a [Batch<'a>],
    /// What its producer waits for.
    pub acks: RequiredAcks,
}

/// A partition's offsets, read under one lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// The first offset that may be read.
    pub log_start: Offset,
    /// The offset below which transactions are decided.
    pub last_stable: Offset,
    /// The offset below which consumers read.
    pub high_watermark: Offset,
    /// The offset of the next record.
    pub log_end: Offset,
}

/// A planned read.
#[derive(Debug)]
pub struct Planned<F: Files> {
    /// The bytes to read.
    pub plan: ReadPlan<F>,
    /// The partition's offsets.
    pub offsets: Offsets,
    /// The leader epoch and offset where a follower's log diverges from this one, if it does.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Bytes that the reader could also read after a flush; zero while the directory is stalled.
    pub unflushed: u64,
    /// The follower that the reader should read from instead, see [`Partition::read_replica`].
    pub read_replica: Option<NodeId>,
}

/// Which replica may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    Leader,
    /// A follower too, up to the high watermark that it knows (KIP-392).
    AnyReplica,
}

/// A read request.
#[derive(Debug, Clone, Copy)]
pub struct ReadAt {
    pub offset: Offset,
    /// Upper bound of the bytes.
    pub max_bytes: usize,
    /// Whether the first batch may be larger than that.
    pub first_batch: FirstBatch,
    /// The offset up to which the reader may read.
    pub bound: Bound,
    pub answered_by: AnsweredBy,
    /// The leader epoch that the reader knows (KIP-320).
    pub current_epoch: Option<LeaderEpoch>,
    /// The epoch of the last record that it has.
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

/// Another thread holds the partition's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl<F: Files, H: Host> Partition<F, H> {
    /// A partition over an open log.
    pub fn new(of: WhoseLog, log: PartitionLog<F>, directory: &Arc<Directory<F, H>>) -> Arc<Self> {
        let flush_id = directory.enrol(log.flushed_offset());
        Arc::new(Self {
            topic: of.topic,
            topic_id: of.topic_id,
            index: of.index,
            traffic: Traffic::default(),
            damage: DamageNotes::default(),
            settings: Mutex::new(of.settings),
            brokers: of.brokers,
            state: Mutex::new(State::new(Some(log))),
            cleaning: Mutex::default(),
            flush_id,
            directory: Arc::clone(directory),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<F, H>> {
        // After a panic under the lock the state is still used: the broken invariant concerns one request.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn settings(&self) -> Arc<TopicSettings> {
        let settings = self.settings.lock();
        Arc::clone(&settings.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether `throttled` names the replica of this node. Mostly it names none, and the state is not looked at.
    fn is_among(&self, throttled: &ThrottledReplicas) -> bool {
        *throttled != ThrottledReplicas::None && throttled.has(self.index, self.lock().role.node)
    }

    /// Runs `change` on the state, under its lock, and then wakes who must look again. Offsets and role change only here.
    fn change<T>(&self, change: impl FnOnce(&mut State<F, H>) -> T) -> T {
        let (changed, woken) = changed(self.lock(), change);
        woken.wake();
        changed
    }

    /// The same with what it needs to know to decide.
    fn surrounded<T>(
        &self,
        now: MonotonicTime,
        change: impl FnOnce(&mut State<F, H>, Surroundings<'_>) -> T,
    ) -> T {
        let (settings, brokers) = (self.settings(), self.brokers.get());
        let around = Surroundings {
            settings: &settings,
            brokers: &brokers,
            now,
        };
        self.change(|state| change(state, around))
    }

    /// What identifies it.
    pub fn id(&self) -> PartitionId {
        (self.topic_id, self.index)
    }

    pub(crate) fn flush_id(&self) -> LogId {
        self.flush_id
    }

    /// The log directory it lies in.
    pub fn directory(&self) -> &Arc<Directory<F, H>> {
        &self.directory
    }

    /// What the metadata says of it.
    pub fn role(&self) -> Role {
        self.lock().role.clone()
    }

    /// The first offset of the leader epoch that this node leads.
    pub fn epoch_start(&self) -> Option<Offset> {
        let state = self.lock();
        state
            .leader
            .as_ref()
            .map(ottla_replication::Leader::epoch_start)
    }

    /// Appends `requests` in order, in one write as far as they fit; returns their outcomes in the same order.
    ///
    /// With [`RequiredAcks::All`] a flush is due at once; the caller then calls [`Partition::replicated`] before it
    /// acknowledges them.
    pub fn append(
        self: &Arc<Self>,
        requests: &[Append<'_>],
        origin: Origin,
        now: Now,
    ) -> Vec<Result<Appended, Refused>> {
        if origin == Origin::Client
            && let Some(refused) = self.directory.reserve.refusal()
        {
            return requests.iter().map(|_| Err(refused.clone())).collect();
        }
        let needs_all = |request: &Append<'_>| request.acks == RequiredAcks::All;
        let acks = if requests.iter().any(needs_all) {
            RequiredAcks::All
        } else {
            RequiredAcks::Leader
        };
        let (outcomes, woken, flush) = self.surrounded(now.monotonic, |state, around| {
            let outcomes = state.append(requests, origin, around.settings, now.wall);
            let appended = outcomes.iter().flatten();
            let bytes = appended.map(|appended| appended.bytes).sum();
            let (woken, flush) = state.after_append(bytes, acks, around);
            self.directory.reserve.appended(bytes);
            (outcomes, woken, flush)
        });
        woken.wake();
        if let Some((urgency, end)) = flush {
            self.directory
                .ask_for_flush(self, end, urgency, now.monotonic);
        }
        outcomes
    }

    /// Whether the high watermark has reached `offset`, so that records before it may be acknowledged. If not, the
    /// producer made by `waits` is answered when it has, or when it cannot any more.
    pub fn replicated(&self, offset: Offset, waits: impl FnOnce() -> H::Producer) -> bool {
        let min_insync_replicas = self.settings().min_insync_replicas;
        let mut state = self.lock();
        match state.is_replicated(offset, min_insync_replicas) {
            Ok(true) => return true,
            Ok(false) => state.acks.wait(offset, waits()),
            Err(unavailable) => {
                drop(state);
                H::answer(waits(), Err(unavailable));
            }
        }
        false
    }

    /// Plans a read. It may wait for the disk.
    pub fn plan(&self, read: &ReadAt, now: MonotonicTime) -> Result<Planned<F>, Unreadable> {
        self.plan_by(PartitionLog::read, read, now)
    }

    /// The same without waiting for the disk; the plan names what it misses.
    pub fn plan_cached(&self, read: &ReadAt, now: MonotonicTime) -> Result<Planned<F>, Unreadable> {
        self.plan_by(PartitionLog::read_cached, read, now)
    }

    fn plan_by(
        &self,
        decide: Decide<F>,
        read: &ReadAt,
        now: MonotonicTime,
    ) -> Result<Planned<F>, Unreadable> {
        let planned = self.lock().plan(decide, read);
        if let Err(error) = &planned {
            self.note_unreadable(error, now);
        }
        let is_vain = || !self.settings().counts_flushed() || self.directory.stalls.is_stalled(now);
        planned.map(|planned| match planned.unflushed {
            1.. if is_vain() => Planned {
                unflushed: 0,
                ..planned
            },
            _ => planned,
        })
    }

    /// Records the damage that a read has met.
    fn note_unreadable(&self, error: &Unreadable, now: MonotonicTime) {
        if let Unreadable::Unavailable(Unavailable::Storage(error)) = error {
            self.with_log(|log| self.on_unreadable(log, error, now));
        }
    }

    /// As [`Partition::plan`], for this node's own use and any role; `None` once the partition is gone.
    pub fn plan_own(
        &self,
        request: &ReadRequest,
        now: MonotonicTime,
    ) -> Option<Result<ReadPlan<F>, ReadError>> {
        self.with_log(|log| {
            let planned = log.read(request);
            if let Err(ReadError::Storage(error)) = &planned {
                self.on_unreadable(log, error, now);
            }
            planned
        })
    }

    /// Wakes `reader` at the next change, which it finds under `place`. Returns the offsets now, while this node leads.
    pub fn watch(&self, reader: &Arc<Reader<H::Consumer>>, place: usize) -> Option<Offsets> {
        let mut state = self.lock();
        state.add_reader(reader, place);
        state.offsets_as_leader()
    }

    /// Asks for a flush, if records above the high watermark could be read after it.
    pub fn make_readable(self: &Arc<Self>, now: MonotonicTime) {
        if self.settings().counts_flushed() {
            let needs_it = |log: &PartitionLog<F>| {
                let end = log.log_end_offset();
                log.high_watermark() < end && log.flushed_offset() < end
            };
            self.flush_if(needs_it, now);
        }
    }

    /// Whether records before `offset` are readable, or only other replicas hold them back. If not, `reader` is woken at the
    /// next change.
    pub fn is_readable_to(
        &self,
        offset: Offset,
        reader: &Arc<Reader<H::Consumer>>,
    ) -> Result<bool, Unavailable> {
        let settings = self.settings();
        let mut state = self.lock();
        state.check_leader(None)?;
        let own = state.own_progress(&settings);
        let log = state.log.as_ref().ok_or(Unavailable::Gone)?;
        if log.high_watermark() >= offset || own.is_some_and(|own| own.counted >= offset) {
            return Ok(true);
        }
        log.directory().ensure_online()?;
        state.add_reader(reader, 0);
        Ok(false)
    }

    /// The partition's offsets.
    pub fn offsets(&self) -> Result<Offsets, Unavailable> {
        let state = self.lock();
        state.log.as_ref().map(offsets_of).ok_or(Unavailable::Gone)
    }

    /// Runs `ask` on the log, if this node leads and the caller knows its leader epoch.
    pub fn with_leader_log<T>(
        &self,
        current_epoch: Option<LeaderEpoch>,
        ask: impl FnOnce(&mut PartitionLog<F>) -> T,
    ) -> Result<T, Unavailable> {
        self.change(|state| {
            state.check_leader(current_epoch)?;
            state.log.as_mut().map(ask).ok_or(Unavailable::Gone)
        })
    }

    /// Runs `ask` on the log, in any role; `None` once the partition is gone.
    pub fn with_log<T>(&self, ask: impl FnOnce(&mut PartitionLog<F>) -> T) -> Option<T> {
        self.change(|state| state.log.as_mut().map(ask))
    }

    /// As [`Partition::with_log`], but does not wait for the lock.
    pub fn try_with_log<T>(
        &self,
        ask: impl FnOnce(&mut PartitionLog<F>) -> T,
    ) -> Result<Option<T>, Busy> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Busy),
        };
        let (asked, woken) = changed(state, |state| state.log.as_mut().map(ask));
        woken.wake();
        Ok(asked)
    }

    /// Removes the records from `offset` on, where the leader's log diverges. Waiting producers are answered
    /// NOT_LEADER. Returns whether anything was removed; `None` once the partition is gone.
    pub fn truncate_to(
        &self,
        offset: Offset,
        now: Timestamp,
    ) -> Option<Result<bool, StorageError>> {
        let truncated = self.with_log(|log| {
            let truncated = log.truncate_to(offset, now);
            self.directory
                .truncated(self.flush_id, log.flushed_offset());
            truncated
        });
        self.fail_waiting(Unavailable::NotLeader);
        truncated
    }

    /// Syncs the log's indexes up to the flushed offset and moves its recovery point, so that a start after a crash
    /// reads less. Blocks on the disk.
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        let begun = self.with_log(PartitionLog::begin_checkpoint);
        let Some(checkpoint) = begun.transpose()?.flatten() else {
            return Ok(());
        };
        // Without the lock.
        let ran = checkpoint.run();
        self.end_checkpoint(&checkpoint, &ran);
        ran
    }

    /// Records the outcome of a checkpoint.
    pub fn end_checkpoint(&self, checkpoint: &Flush<F>, ran: &Result<(), StorageError>) {
        self.with_log(|log| match ran {
            Ok(()) => _ = log.complete_checkpoint(checkpoint),
            Err(_) => log.abandon_checkpoint(),
        });
    }

    pub fn set_settings(&self, settings: Arc<TopicSettings>) {
        self.with_log(|log| log.set_config(settings.log.clone()));
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Changes its role. A new leader begins its epoch in the log, and the high watermark moves as far as the new role
    /// allows. Blocks on the disk.
    pub fn set_role(&self, role: Role, now: MonotonicTime) -> Result<(), StorageError> {
        let woken = self.surrounded(now, |state, around| state.set_role(role, around))?;
        woken.wake();
        Ok(())
    }

    /// Begins a flush that is one of `logs` flushes synced together.
    pub(crate) fn begin_flush(&self, logs: usize) -> Result<Option<Flush<F>>, StorageError> {
        let begun = self.with_log(|log| log.begin_flush_among(logs));
        begun.unwrap_or(Ok(None))
    }

    /// Records that `flush` has run, or that there was nothing to flush, and moves the high watermark.
    pub(crate) fn complete_flush(
        &self,
        flush: Option<&Flush<F>>,
        now: MonotonicTime,
    ) -> Result<(), StorageError> {
        let woken = self.surrounded(now, |state, around| match flush {
            Some(flush) => state.advance_to_flushed(flush, around),
            None => state.advance_high_watermark(around),
        })?;
        woken.wake();
        Ok(())
    }

    /// Records that `flush` could not run, so that another covers the same records.
    pub(crate) fn abandon_flush(&self, flush: &Flush<F>) {
        self.with_log(|log| log.abandon_flush(flush));
    }

    /// Asks for a flush if there are unflushed records.
    pub fn flush_if_dirty(self: &Arc<Self>, now: MonotonicTime) {
        self.flush_if(|log| log.flushed_offset() < log.log_end_offset(), now);
    }

    fn flush_if(
        self: &Arc<Self>,
        needs_it: impl FnOnce(&PartitionLog<F>) -> bool,
        now: MonotonicTime,
    ) {
        let end = {
            let state = self.lock();
            let needing = state.log.as_ref().filter(|log| needs_it(log));
            needing.map(PartitionLog::log_end_offset)
        };
        if let Some(end) = end {
            self.directory.ask_for_flush(self, end, Urgency::Now, now);
        }
    }

    /// Answers all who wait with `reason`.
    pub(crate) fn fail_waiting(&self, reason: Unavailable) {
        let woken = self.lock().take_waiting(reason);
        woken.wake();
    }

    /// Takes the log out. From now on the partition is gone, and all who wait are answered.
    pub fn take_log(&self) -> Option<PartitionLog<F>> {
        let log = self.lock().log.take();
        self.directory.leave(self.flush_id);
        self.fail_waiting(Unavailable::Gone);
        log
    }

    /// The flushed offset of the log; `None` once the partition is gone.
    pub(crate) fn flushed(&self) -> Option<(LogId, Offset)> {
        let state = self.lock();
        let log = state.log.as_ref();
        log.map(|log| (self.flush_id, log.flushed_offset()))
    }
}
