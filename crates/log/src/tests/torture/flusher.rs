//! A pass of group commit in three steps (taken, synced, noted), as `broker/src/replicas/flusher.rs` makes it, so that
//! anything may happen in between.

use super::node::{Directory, Node, Opened, Waiter};
use crate::files::simulated::Simulated;
use crate::group_commit::LogId;
use crate::{Flush, StorageError, run_together};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;

/// A pass that has begun.
#[derive(Debug)]
pub(super) struct Pass {
    flushes: Vec<(LogId, Flush<Simulated>)>,
    durable: Vec<(LogId, Offset)>,
    ran: Option<Result<(), StorageError>>,
}

impl Pass {
    /// Whether its syncs have run.
    pub(super) fn has_run(&self) -> bool {
        self.ran.is_some()
    }
}

/// What the end of a pass came to.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Those who are answered well.
    pub(super) answered: Vec<Waiter>,
    pub(super) failure: Option<StorageError>,
}

impl Node {
    /// Takes what is due in a directory, if anything is.
    pub(super) fn begin_pass(
        &mut self,
        directory: usize,
        now: MonotonicTime,
    ) -> Result<bool, StorageError> {
        let Directory { commit, .. } = &mut self.directories[directory];
        let Some(due) = commit.begin_pass(now) else {
            return Ok(false);
        };
        let mut pass = Pass {
            flushes: Vec::new(),
            durable: Vec::new(),
            ran: None,
        };
        let mut outcome = Ok(true);
        for opened in self
            .logs
            .values_mut()
            .filter(|opened| due.contains(&opened.id))
        {
            match opened.log.begin_flush() {
                Ok(Some(flush)) => pass.flushes.push((opened.id, flush)),
                Ok(None) => pass.durable.push((opened.id, opened.log.flushed_offset())),
                Err(error @ StorageError::Offline { .. }) => {
                    let _ = commit.fail();
                    return Err(error);
                }
                Err(error) => {
                    commit.on_append(opened.id, opened.log.log_end_offset(), now);
                    outcome = Err(error);
                }
            }
        }
        self.directories[directory].pass = Some(pass);
        outcome
    }

    /// Syncs what the pass of a directory took.
    pub(super) fn run_pass(&mut self, directory: usize) {
        if let Some(pass) = &mut self.directories[directory].pass {
            // A pass has its flushes for itself until it ends.
            let (ids, flushes): (Vec<_>, Vec<_>) =
                std::mem::take(&mut pass.flushes).into_iter().unzip();
            pass.ran = Some(run_together(&flushes));
            pass.flushes = ids.into_iter().zip(flushes).collect();
        }
    }

    /// Takes note of how the pass of a directory went.
    pub(super) fn end_pass(&mut self, directory: usize, now: MonotonicTime) -> Ended {
        let Some(mut pass) = self.directories[directory].pass.take() else {
            return Ended::default();
        };
        let commit = &mut self.directories[directory].commit;
        let ran = pass.ran.take().unwrap_or(Ok(()));
        for (id, flush) in &pass.flushes {
            let of = |opened: &&mut Opened| opened.id == *id;
            let Some(opened) = self.logs.values_mut().find(of) else {
                continue;
            };
            if ran.is_err() {
                opened.log.abandon_flush(flush);
                commit.on_append(*id, flush.end().offset, now);
                continue;
            }
            opened.log.complete_flush(flush);
            let flushed = opened.log.flushed_offset();
            pass.durable.push((*id, flushed));
            let moved = if flush.end().offset == flushed {
                opened.log.set_high_watermark_to(flush.end())
            } else {
                opened.log.set_high_watermark(flushed)
            };
            if let Err(StorageError::TooManyOpenFiles { .. }) = moved {
                // The high watermark moves with the next flush.
                continue;
            }
            if let Err(error) = moved {
                let _ = commit.fail();
                return Ended {
                    answered: Vec::new(),
                    failure: Some(error),
                };
            }
        }
        match ran {
            Err(error) if !matches!(error, StorageError::TooManyOpenFiles { .. }) => {
                let _ = commit.fail();
                Ended {
                    answered: Vec::new(),
                    failure: Some(error),
                }
            }
            ran => Ended {
                answered: commit.end_pass(&pass.durable, now),
                failure: ran.err(),
            },
        }
    }
}
