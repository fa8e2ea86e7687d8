//! A log directory of a node: its files, its group commit, the reserve of its disk, and whether it is stalled.

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
use crate::urgency::Urgency;

/// One of `log.dirs`.
#[derive(Debug)]
pub struct Directory<F: Files, H: Host> {
    /// Its id, once `meta.properties` has been read or written.
    pub id: OnceLock<Uuid>,
    pub log: Arc<LogDirectory<F>>,
    pub reserve: DiskReserve<F>,
    pub stalls: Stalls,
    /// How the driver of its flushes is woken.
    pub flusher: H::Flusher,
    /// Locked while a checkpoint file is collected and written: of two concurrent writers the one with older offsets
    /// could win.
    checkpoints: Mutex<CheckpointFiles>,
    flushes: Mutex<Flushes<F, H>>,
}

/// The checkpoint files of a directory.
#[derive(Debug, Default)]
pub struct CheckpointFiles {
    /// Whether the directory is closed, so that nobody may write them any more.
    pub are_closed: bool,
}

#[derive(Debug)]
pub(crate) struct Flushes<F: Files, H: Host> {
    pub(crate) commit: GroupCommit,
    /// The partitions that the next pass flushes.
    pub(crate) dirty: BTreeMap<LogId, Arc<Partition<F, H>>>,
    enrolled: u64,
}

impl<F: Files, H: Host> Directory<F, H> {
    /// A directory whose partitions are flushed at most `max_delay` after an append.
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

    /// Whether it is online and not stalled.
    pub fn answers(&self, now: MonotonicTime) -> bool {
        self.log.failure().is_none() && !self.stalls.is_stalled(now)
    }

    /// The lock of the checkpoint files; `None` once the directory is closed.
    pub fn checkpoint_files(&self) -> Option<MutexGuard<'_, CheckpointFiles>> {
        let files = self.checkpoints.lock();
        let files = files.unwrap_or_else(PoisonError::into_inner);
        (!files.are_closed).then_some(files)
    }

    pub(crate) fn flushes(&self) -> MutexGuard<'_, Flushes<F, H>> {
        // Held only to add and remove entries.
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a log that is flushed up to `flushed`.
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

    /// A log was truncated, and is flushed up to `flushed`.
    pub(crate) fn truncated(&self, id: LogId, flushed: Offset) {
        let mut queue = self.flushes();
        queue.dirty.remove(&id);
        queue.commit.remove(id);
        queue.commit.add(id, flushed);
    }

    /// Adds `partition`, whose log ends at `end`, to the next pass.
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
        // A partition that was removed is not dirty, and must not be added: nothing would remove it again.
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

    /// The directory has failed: answers all who wait, in the partitions of `pass` and in all dirty ones.
    pub(crate) fn fail(&self, pass: &[Arc<Partition<F, H>>], error: &StorageError) {
        let later = {
            let mut queue = self.flushes();
            queue.commit.fail();
            std::mem::take(&mut queue.dirty)
        };
        let reason = Unavailable::Storage(error.clone());
        for partition in pass.iter().chain(later.values()) {
            partition.fail_waiting(reason.clone());
        }
    }
}

/// The directories without duplicates.
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
