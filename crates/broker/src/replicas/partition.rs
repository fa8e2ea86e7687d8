//! One partition on this node: its log behind a short lock, who leads it, and who waits for it.
//!
//! The lock is held for memory and page cache work, never across an await or a sync. Under `fsync` the high
//! watermark is what is flushed, under `page-cache` the end of the log; whoever waits for it is woken after the lock
//! is released. A partition that is gone answers so forever: the registry makes a new one if the topic comes back.

mod held;
pub mod reader;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

use ottla_log::files::disk::Disk;
use ottla_log::group_commit::LogId;
use ottla_log::{
    Appended, Batch, Bound, FirstBatch, Flush, Origin, PartitionLog, ReadError, ReadPlan,
    ReadRequest, StorageError,
};
use ottla_protocol::ids::{LeaderEpoch, Offset, PartitionIndex, Uuid};
use ottla_protocol::time::Now;
use tokio::sync::oneshot;

use self::held::{Held, offsets_of};
use self::reader::Reader;
use super::damage::DamageNotes;
use super::directories::Directory;
pub use super::refusals::{Refused, Unavailable, Unreadable};
use super::settings::TopicSettings;
use super::traffic::Traffic;
use crate::clock::Clock;

/// How often, and at which intervals, somebody tries who may go away without an answer.
const TRIES: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// What tells a partition from all others: its topic's id, and its index.
pub type PartitionId = (Uuid, PartitionIndex);

/// A partition of this node.
#[derive(Debug)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's index.
    pub index: PartitionIndex,
    /// What has gone in and out.
    pub traffic: Traffic,
    /// What is damaged in its log.
    pub(super) damage: DamageNotes,
    clock: Clock,
    /// Held for taking a copy: whoever asks what it obeys does not wait for its disk.
    settings: Mutex<Arc<TopicSettings>>,
    held: Mutex<Held>,
    /// Held by the cleaner during a pass: the files stay while it is.
    pub(super) cleaning: Mutex<()>,
    /// The number by which the flusher of its directory knows its log; another directory's may have the same.
    pub(super) flush_id: LogId,
    directory: Arc<Directory>,
}

/// What the metadata says of this node and the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Whether this node leads it.
    pub is_leader: bool,
    /// The epoch of its leader.
    pub leader_epoch: LeaderEpoch,
    /// The number of its replicas.
    pub replicas: usize,
    /// The number of its in-sync replicas.
    pub in_sync: usize,
}

/// How soon appended records must be on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it.
    Now,
    /// With the next flush.
    Later,
}

/// A partition's offsets, read together.
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

/// A read, decided but not done.
#[derive(Debug)]
pub struct Planned {
    /// The bytes to read.
    pub plan: ReadPlan<Disk>,
    /// The partition's offsets.
    pub offsets: Offsets,
    /// Where the reader's log and this one part ways, if they do.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// The bytes that the reader could have besides, once they are on stable storage; none where the disk does not answer.
    pub unflushed: u64,
}

/// What a reader asks.
#[derive(Debug, Clone, Copy)]
pub struct ReadAt {
    /// The first offset.
    pub offset: Offset,
    /// The bytes that are enough.
    pub max_bytes: usize,
    /// Whether one batch may be more.
    pub first_batch: FirstBatch,
    /// How far it may see.
    pub bound: Bound,
    /// The leader epoch that the reader knows.
    pub current_epoch: Option<LeaderEpoch>,
    /// The epoch of the last record that it has.
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

impl Partition {
    /// A partition over an open log.
    pub(super) fn new(
        (topic, topic_id, index): (Arc<str>, Uuid, PartitionIndex),
        log: PartitionLog<Disk>,
        settings: Arc<TopicSettings>,
        (directory, clock): (&Arc<Directory>, Clock),
    ) -> Arc<Self> {
        let flush_id = directory.flusher.enrol(log.flushed_offset());
        let role = Role {
            is_leader: false,
            leader_epoch: LeaderEpoch::NONE,
            replicas: 1,
            in_sync: 1,
        };
        let held = Held {
            log: Some(log),
            role,
            waiting: BTreeMap::new(),
            next_waiting: 0,
            readers: Vec::new(),
        };
        Arc::new(Self {
            topic,
            topic_id,
            index,
            traffic: Traffic::default(),
            damage: DamageNotes::default(),
            clock,
            settings: Mutex::new(settings),
            held: Mutex::new(held),
            cleaning: Mutex::default(),
            flush_id,
            directory: Arc::clone(directory),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic under the lock is a broken invariant of the log; the others go on with what is in memory.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the partition obeys now.
    pub fn settings(&self) -> Arc<TopicSettings> {
        let settings = self.settings.lock();
        Arc::clone(&settings.unwrap_or_else(PoisonError::into_inner))
    }

    /// What tells it from all others.
    pub fn id(&self) -> PartitionId {
        (self.topic_id, self.index)
    }

    /// The log directory it lies in.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// What the metadata says of it.
    pub fn role(&self) -> Role {
        self.lock().role
    }

    /// Appends each of `requests` (one batch or more, checked), in order and in one write where they fit.
    ///
    /// With [`Urgency::Now`] a flush is asked for; [`Partition::replicated`] then says when they may be acknowledged.
    pub fn append(
        self: &Arc<Self>,
        requests: &[&[Batch<'_>]],
        (origin, urgency): (Origin, Urgency),
        now: Now,
    ) -> Vec<Result<Appended, Refused>> {
        if origin == Origin::Client
            && let Some(refused) = self.directory.reserve.refusal()
        {
            return requests.iter().map(|_| Err(refused.clone())).collect();
        }
        let (outcomes, woken, flush) = {
            let settings = self.settings();
            let mut held = self.lock();
            let outcomes = held.append(requests, (origin, urgency), (&settings, now));
            let bytes = outcomes.iter().flatten().map(|appended| appended.bytes);
            let bytes = bytes.sum();
            let (woken, flush) = held.after_append((bytes, urgency), &settings);
            self.directory.reserve.appended(bytes);
            (outcomes, woken, flush)
        };
        woken.wake();
        match flush {
            Some((Urgency::Now, end)) => self.directory.flusher.flush_now(self, end),
            Some((Urgency::Later, end)) => self.directory.flusher.flush_later(self, end),
            None => {}
        }
        outcomes
    }

    /// Completes when all records before `offset` are replicated and, where that is asked for, on stable storage.
    /// `None` when they are already.
    pub fn replicated(&self, offset: Offset) -> Option<oneshot::Receiver<Result<(), Unavailable>>> {
        let mut held = self.lock();
        let reached = held
            .log
            .as_ref()
            .is_some_and(|log| log.high_watermark() >= offset);
        if reached {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        // Once the directory is offline nobody flushes: those who waited then have been told already.
        let online = held.log.as_ref().map_or(Err(Unavailable::Gone), |log| {
            log.directory().ensure_online().map_err(Unavailable::from)
        });
        if online.is_err() {
            let _ = sender.send(online);
        } else {
            let place = (offset, held.next_waiting);
            held.next_waiting += 1;
            held.waiting.insert(place, sender);
        }
        Some(receiver)
    }

    /// Decides what to read.
    pub fn plan(&self, read: &ReadAt) -> Result<Planned, Unreadable> {
        let mut held = self.lock();
        let planned = held.plan(read);
        if let Err(Unreadable::Unavailable(Unavailable::Storage(error))) = &planned
            && let Some(log) = &mut held.log
        {
            self.on_unreadable(log, error, self.clock.monotonic());
        }
        drop(held);
        planned.map(|planned| match planned.unflushed {
            1.. if self.stands_still() => Planned {
                unflushed: 0,
                ..planned
            },
            _ => planned,
        })
    }

    /// The same for this node itself, whoever leads; nothing once the partition is gone.
    pub fn plan_own(&self, request: &ReadRequest) -> Option<Result<ReadPlan<Disk>, ReadError>> {
        self.with_log(|log| {
            let planned = log.read(request);
            if let Err(ReadError::Storage(error)) = &planned {
                self.on_unreadable(log, error, self.clock.monotonic());
            }
            planned
        })
    }

    /// Has `reader` notified of the next change.
    pub fn watch(&self, reader: &Arc<Reader>) {
        self.lock().add_reader(reader);
    }

    /// Asks for the flush without which not all of its records can be read.
    pub fn make_readable(self: &Arc<Self>) {
        self.flush_if(|log| log.high_watermark() < log.log_end_offset());
    }

    /// Whether all before `offset` can be read; if not, `reader` is notified of the next change.
    pub fn is_readable_to(
        &self,
        offset: Offset,
        reader: &Arc<Reader>,
    ) -> Result<bool, Unavailable> {
        let mut held = self.lock();
        held.check_leader(None)?;
        let log = held.log.as_ref().ok_or(Unavailable::Gone)?;
        if log.high_watermark() >= offset {
            return Ok(true);
        }
        log.directory().ensure_online()?;
        held.add_reader(reader);
        Ok(false)
    }

    /// Whether the disk of its directory has not answered for long.
    pub fn stands_still(&self) -> bool {
        self.directory.stands_still(self.clock.monotonic())
    }

    /// The partition's offsets.
    pub fn offsets(&self) -> Result<Offsets, Unavailable> {
        self.lock()
            .log
            .as_ref()
            .map(offsets_of)
            .ok_or(Unavailable::Gone)
    }

    /// Runs `ask` on the log of a leader whose epoch is the caller's.
    pub fn with_leader_log<T>(
        &self,
        current_epoch: Option<LeaderEpoch>,
        ask: impl FnOnce(&mut PartitionLog<Disk>) -> T,
    ) -> Result<T, Unavailable> {
        let mut held = self.lock();
        held.check_leader(current_epoch)?;
        held.log.as_mut().map(ask).ok_or(Unavailable::Gone)
    }

    /// Runs `ask` on the log, whoever leads; nothing once the partition is gone, or while its disk holds up somebody who
    /// has the lock: it is given up then.
    #[expect(
        clippy::disallowed_methods,
        reason = "a mutex cannot be waited for with a limit"
    )]
    pub fn try_with_log<T>(&self, ask: impl FnOnce(&mut PartitionLog<Disk>) -> T) -> Option<T> {
        let is_still = self.directory.stands_still(self.clock.monotonic());
        let tries = if is_still { 1 } else { TRIES };
        for _ in 0..tries {
            match self.held.try_lock() {
                Ok(mut held) => return held.log.as_mut().map(ask),
                Err(TryLockError::Poisoned(held)) => {
                    return held.into_inner().log.as_mut().map(ask);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
            }
        }
        None
    }

    /// Runs `ask` on the log, whoever leads; nothing once the partition is gone.
    pub fn with_log<T>(&self, ask: impl FnOnce(&mut PartitionLog<Disk>) -> T) -> Option<T> {
        self.lock().log.as_mut().map(ask)
    }

    /// Lets it obey other settings.
    pub(super) fn set_settings(self: &Arc<Self>, settings: Arc<TopicSettings>) {
        self.with_log(|log| log.set_config(settings.log.clone()));
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Takes over what the metadata says. A leader begins its epoch in the log; what is flushed is then replicated.
    pub(super) fn set_role(self: &Arc<Self>, role: Role) -> Result<(), StorageError> {
        let settings = self.settings();
        let woken = {
            let mut held = self.lock();
            let begins = role.is_leader
                && (!held.role.is_leader || held.role.leader_epoch != role.leader_epoch);
            held.role = role;
            let Some(log) = &mut held.log else {
                return Ok(());
            };
            if begins {
                log.begin_epoch(role.leader_epoch);
                log.flush()?;
            }
            held.advance_high_watermark(&settings)?
        };
        woken.wake();
        Ok(())
    }

    /// Takes what is to be synced together with as many as `logs` logs, for the flusher.
    pub(super) fn begin_flush(&self, logs: usize) -> Result<Option<Flush<Disk>>, StorageError> {
        let begun = self.with_log(|log| log.begin_flush_among(logs));
        begun.unwrap_or(Ok(None))
    }

    /// Takes note that `flush` has run, or that there was nothing to flush, and moves the high watermark.
    pub(super) fn complete_flush(&self, flush: Option<&Flush<Disk>>) -> Result<(), StorageError> {
        let settings = self.settings();
        let woken = match flush {
            Some(flush) => self.lock().advance_to_flushed(flush, &settings)?,
            None => self.lock().advance_high_watermark(&settings)?,
        };
        woken.wake();
        Ok(())
    }

    /// Takes note that `flush` could not run; another must.
    pub(super) fn abandon_flush(&self, flush: &Flush<Disk>) {
        self.with_log(|log| log.abandon_flush(flush));
    }

    /// Asks for a flush if records wait for one.
    pub(super) fn flush_if_dirty(self: &Arc<Self>) {
        self.flush_if(|log| log.flushed_offset() < log.log_end_offset());
    }

    fn flush_if(self: &Arc<Self>, needs_it: impl FnOnce(&PartitionLog<Disk>) -> bool) {
        let end = {
            let held = self.lock();
            let needing = held.log.as_ref().filter(|log| needs_it(log));
            needing.map(PartitionLog::log_end_offset)
        };
        if let Some(end) = end {
            self.directory.flusher.flush_now(self, end);
        }
    }

    /// Answers all who wait with `reason`: the disk has failed, or the partition goes.
    pub(super) fn fail_waiting(&self, reason: &Unavailable) {
        let (waiting, readers) = {
            let mut held = self.lock();
            (
                std::mem::take(&mut held.waiting),
                std::mem::take(&mut held.readers),
            )
        };
        for producer in waiting.into_values() {
            let _ = producer.send(Err(reason.clone()));
        }
        for reader in readers.iter().filter_map(Weak::upgrade) {
            reader.wake();
        }
    }

    /// Takes the log out: whoever comes next finds the partition gone.
    pub(super) fn take_log(&self) -> Option<PartitionLog<Disk>> {
        let log = self.lock().log.take();
        self.directory.flusher.leave(self.flush_id);
        self.fail_waiting(&Unavailable::Gone);
        log
    }

    /// How far the log is on stable storage; nothing once the partition is gone.
    pub(super) fn flushed(&self) -> Option<(LogId, Offset)> {
        let held = self.lock();
        held.log
            .as_ref()
            .map(|log| (self.flush_id, log.flushed_offset()))
    }
}
