//! One pass of a log directory's group commit: few syncs for all partitions that wait for one.
//!
//! [`Directory::begin_pass`] begins a flush of each dirty log under its partition's lock. [`FlushPass::sync`] syncs
//! them without a lock. [`FlushPass::end`] moves the high watermarks, which answers waiting producers. Invariants:
//!
//! - A directory has one pass at a time.
//! - A producer is answered only after the sync of a flush that began after its append.
//! - A failed sync is never retried. It fails all producers and readers that wait in the directory.

use std::sync::Arc;

use ottla_log::files::Files;
use ottla_log::group_commit::LogId;
use ottla_log::{Flush, StorageError, run_together};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;

use crate::Host;
use crate::directory::Directory;
use crate::partition::Partition;
use crate::urgency::Urgency;

/// A running pass.
#[derive(Debug)]
#[must_use = "a pass that has begun must be ended"]
pub struct FlushPass<F: Files, H: Host> {
    directory: Arc<Directory<F, H>>,
    /// The partitions with something to sync, in the order of `flushes`.
    partitions: Vec<Arc<Partition<F, H>>>,
    flushes: Vec<Flush<F>>,
    /// The partitions with nothing to sync.
    clean: Vec<Arc<Partition<F, H>>>,
    /// The partitions whose flush could not begin for lack of file descriptors or space.
    postponed: Vec<Arc<Partition<F, H>>>,
    /// The outcome of the syncs, or the error that prevented them; `None` before.
    ran: Option<Result<(), StorageError>>,
}

impl<F: Files, H: Host> Directory<F, H> {
    /// When the next pass is due; `None` while one runs or no log is dirty.
    pub fn next_pass(&self) -> Option<MonotonicTime> {
        self.flushes().commit.next_due()
    }

    /// Begins a pass over all dirty logs, if one is due.
    pub fn begin_pass(self: &Arc<Self>, now: MonotonicTime) -> Option<FlushPass<F, H>> {
        let due: Vec<_> = {
            let mut flushes = self.flushes();
            let logs = flushes.commit.begin_pass(now)?;
            // An append from here on asks for another pass: it may come too late for this one.
            logs.iter()
                .filter_map(|log| flushes.dirty.remove(log))
                .collect()
        };
        let mut pass = FlushPass {
            directory: Arc::clone(self),
            partitions: Vec::with_capacity(due.len()),
            flushes: Vec::with_capacity(due.len()),
            clean: Vec::new(),
            postponed: Vec::new(),
            ran: None,
        };
        let count = due.len();
        for partition in due {
            match partition.begin_flush(count) {
                Ok(Some(flush)) => {
                    pass.flushes.push(flush);
                    pass.partitions.push(partition);
                }
                Ok(None) => pass.clean.push(partition),
                Err(error @ StorageError::Offline { .. }) => {
                    pass.clean.push(partition);
                    pass.ran = pass.ran.or(Some(Err(error)));
                }
                Err(_) => pass.postponed.push(partition),
            }
        }
        Some(pass)
    }
}

impl<F: Files, H: Host> FlushPass<F, H> {
    /// Whether its syncs have run.
    pub fn has_run(&self) -> bool {
        self.ran.is_some()
    }

    /// Runs the flushes. Blocks on the disk.
    pub fn sync(&mut self) {
        if self.ran.is_none() {
            self.ran = Some(run_together(&self.flushes));
        }
    }

    /// Moves the high watermarks to what is flushed. On an error the directory is offline, and all who wait in it were
    /// answered.
    pub fn end(&mut self, now: MonotonicTime) -> Result<(), StorageError> {
        self.sync();
        let ended = self.settle_all(now);
        if let Err(error) = &ended {
            self.fail(error);
        }
        ended
    }

    /// Ends a pass after its directory has failed: answers all who wait in it.
    pub fn fail(&self, error: &StorageError) {
        let parts = [&self.partitions, &self.clean, &self.postponed];
        let all: Vec<_> = parts.into_iter().flatten().cloned().collect();
        self.directory.fail(&all, error);
    }

    fn settle_all(&mut self, now: MonotonicTime) -> Result<(), StorageError> {
        let ran = self.ran.take().unwrap_or(Ok(()));
        let mut durable = Vec::with_capacity(self.partitions.len());
        for partition in &self.postponed {
            self.directory
                .ask_for_flush(partition, Offset(0), Urgency::Later, now);
        }
        for (partition, flush) in self.partitions.iter().zip(&self.flushes) {
            if ran.is_ok() {
                self.settle(partition, Some(flush), &mut durable, now)?;
            } else {
                partition.abandon_flush(flush);
                let end = flush.end().offset;
                self.directory
                    .ask_for_flush(partition, end, Urgency::Later, now);
            }
        }
        match ran {
            // A lack of file descriptors is temporary: the next pass tries again.
            Err(StorageError::TooManyOpenFiles { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        for partition in &self.clean {
            self.settle(partition, None, &mut durable, now)?;
        }
        self.directory.flushes().commit.end_pass(&durable);
        Ok(())
    }

    /// Moves the high watermark of a flushed partition. If that needs a file that cannot be opened now, the next pass
    /// tries again, and other partitions are not affected.
    fn settle(
        &self,
        partition: &Arc<Partition<F, H>>,
        flush: Option<&Flush<F>>,
        durable: &mut Vec<(LogId, Offset)>,
        now: MonotonicTime,
    ) -> Result<(), StorageError> {
        match partition.complete_flush(flush, now) {
            Ok(()) => durable.extend(partition.flushed()),
            Err(error @ StorageError::Offline { .. }) => return Err(error),
            Err(error) => {
                let (topic, index) = (&*partition.topic, partition.index.0);
                tracing::warn!(topic, partition = index, %error, "cannot move a high watermark; the next flush tries again");
                self.directory
                    .ask_for_flush(partition, Offset(0), Urgency::Later, now);
            }
        }
        Ok(())
    }
}
