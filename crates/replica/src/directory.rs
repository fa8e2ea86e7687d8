//! A log directory of a node: its files, its group commit, the reserve of its disk, and whether the disk answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ottla_log::files::Files;
use ottla_log::group_commit::{GroupCommit, LogId};
use ottla_log::{LogDirectory, StorageError};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::time::MonotonicTime;

use crate::Host;
use crate::disk_reserve::DiskReserve;
use crate::partition::Partition;
use crate::refusals::Unavailable;
use crate::stalls::Stalls;

/// One of `log.dirs`.
#[derive(Debug)]
pub struct Directory<F: Files, H: Host> {
    /// Its id, once `meta.properties` has been read or written.
    pub id: OnceLock<Uuid>,
    /// Its files.
    pub log: Arc<LogDirectory<F>>,
    /// What is kept free in it.
    pub reserve: DiskReserve<F>,
    /// Whether its disk answers.
    pub stalls: Stalls,
    /// How the driver of its flushes is woken.
    pub flusher: H::Flusher,
    /// Held while a checkpoint file is put together and written: of two at once the older might win.
    checkpoints: Mutex<CheckpointFiles>,
    flushes: Mutex<Flushes<F, H>>,
}

/// The checkpoint files of a directory.
#[derive(Debug, Default)]
pub struct CheckpointFiles {
    /// Whether they were written for the last time.
    pub are_closed: bool,
}

#[derive(Debug)]
pub(crate) struct Flushes<F: Files, H: Host> {
    pub(crate) commit: GroupCommit,
    /// The partitions that the next pass may take along.
    pub(crate) dirty: BTreeMap<LogId, Arc<Partition<F, H>>>,
    enrolled: u64,
}

/// When appended records are to be on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it: by a pass that is due now.
    Now,
    /// By the next pass, at the latest after `ottla.flush.max.delay.ms`.
    Later,
}

impl<F: Files, H: Host> Directory<F, H> {
    /// A directory whose partitions are flushed at the latest `max_delay` after an append.
    pub fn new(
        log: Arc<LogDirectory<F>>,
        disk_reserve: Option<u64>,
        max_delay: Duration,
        flusher: H::Flusher,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: OnceLock::new(),
            reserve: DiskReserve::new(Arc::clone(&log), disk_reserve),
            log,
            stalls: Stalls::default(),
            flusher,
            checkpoints: Mutex::default(),
            flushes: Mutex::new(Flushes {
                commit: GroupCommit::new(max_delay),
                dirty: BTreeMap::new(),
                enrolled: 0,
            }),
        })
    }

    /// Whether it has not failed, and its disk answers.
    pub fn answers(&self, now: MonotonicTime) -> bool {
        self.log.failure().is_none() && !self.stalls.is_stalled(now)
    }

    /// The right to write the checkpoint files; none once the directory is closed.
    pub fn checkpoint_files(&self) -> Option<MutexGuard<'_, CheckpointFiles>> {
        let files = self.checkpoints.lock();
        let files = files.unwrap_or_else(PoisonError::into_inner);
        (!files.are_closed).then_some(files)
    }

    pub(crate) fn flushes(&self) -> MutexGuard<'_, Flushes<F, H>> {
        // Held for noting and taking only.
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a log that is durable up to `flushed`.
    pub(crate) fn enrol(&self, flushed: Offset) -> LogId {
        let mut queue = self.flushes();
        queue.enrolled += 1;
        let id = LogId(queue.enrolled);
        queue.commit.add(id, flushed);
        id
    }

    /// Removes a log.
    pub(crate) fn leave(&self, id: LogId) {
        let mut queue = self.flushes();
        queue.commit.remove(id);
        queue.dirty.remove(&id);
    }

    /// A log was truncated, and is durable up to `flushed`.
    pub(crate) fn renew(&self, id: LogId, flushed: Offset) {
        let mut queue = self.flushes();
        queue.dirty.remove(&id);
        queue.commit.remove(id);
        queue.commit.add(id, flushed);
    }

    /// Has a pass flush `partition`, which ends at `end`.
    pub(crate) fn ask_for_flush(
        &self,
        partition: &Arc<Partition<F, H>>,
        end: Offset,
        urgency: Urgency,
        now: MonotonicTime,
    ) {
        let mut queue = self.flushes();
        let before = queue.commit.next_due();
        let id = partition.flush_id();
        let is_dirty = match urgency {
            Urgency::Now => queue.commit.flush_now(id, end, now),
            Urgency::Later => queue.commit.flush_later(id, end, now),
        };
        // A partition that is gone must not be held here: nothing would take it out again.
        if is_dirty {
            let dirty = queue.dirty.entry(id);
            dirty.or_insert_with(|| Arc::clone(partition));
        }
        let due = queue.commit.next_due();
        drop(queue);
        if due.is_some() && (before.is_none() || due < before) {
            H::pass_is_due(&self.flusher);
        }
    }

    /// Nothing will be flushed any more: those that wait in `pass`, and in any partition that was to be flushed, are told.
    pub(crate) fn fail(&self, pass: &[Arc<Partition<F, H>>], error: &StorageError) {
        let later = {
            let mut queue = self.flushes();
            queue.commit.fail();
            std::mem::take(&mut queue.dirty)
        };
        let reason = Unavailable::Storage(error.clone());
        for partition in pass.iter().chain(later.values()) {
            partition.fail_waiting(&reason);
        }
    }
}

/// The same directories, each once.
pub fn distinct<'a, F: Files, H: Host>(
    directories: impl Iterator<Item = &'a Arc<Directory<F, H>>>,
) -> Vec<Arc<Directory<F, H>>> {
    let mut distinct: Vec<Arc<Directory<F, H>>> = Vec::new();
    for directory in directories {
        if !distinct.iter().any(|known| Arc::ptr_eq(known, directory)) {
            distinct.push(Arc::clone(directory));
        }
    }
    distinct
}
