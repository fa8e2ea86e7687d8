//! What stands behind a partition's lock: its log, who leads it, and who waits for it.
//!
//! Invariants: the high watermark is what is flushed, or under `page-cache` the end of the log; whoever it has reached
//! is handed out to be woken, once. The lock is taken and released by [`Partition`](super::Partition).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use ottla_log::files::disk::Disk;
use ottla_log::{
    Appended, Batch, Bound, Flush, LeaderAppend, Origin, PartitionLog, ReadError, ReadRequest,
    StorageError,
};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::time::Now;
use tokio::sync::oneshot;

use super::reader::Reader;
use super::{Offsets, Planned, ReadAt, Refused, Role, Unavailable, Unreadable, Urgency};
use crate::replicas::settings::{Durability, TopicSettings};

#[derive(Debug)]
pub(super) struct Held {
    /// Nothing once the partition is gone.
    pub(super) log: Option<PartitionLog<Disk>>,
    pub(super) role: Role,
    /// Producers that wait until the high watermark has reached an offset.
    pub(super) waiting: BTreeMap<(Offset, u64), oneshot::Sender<Result<(), Unavailable>>>,
    pub(super) next_waiting: u64,
    /// Consumers that wait for anything new.
    pub(super) readers: Vec<Weak<Reader>>,
}

/// Those to be woken once the lock is released.
#[derive(Debug, Default)]
#[must_use = "someone waits to be woken"]
pub(super) struct Woken {
    producers: Vec<oneshot::Sender<Result<(), Unavailable>>>,
    readers: Vec<Weak<Reader>>,
}

impl Woken {
    pub(super) fn wake(self) {
        for producer in self.producers {
            // Whoever does not wait any more timed out or went away.
            let _ = producer.send(Ok(()));
        }
        for reader in self.readers.iter().filter_map(Weak::upgrade) {
            reader.wake();
        }
    }
}

impl Held {
    pub(super) fn check_leader(
        &self,
        current_epoch: Option<LeaderEpoch>,
    ) -> Result<(), Unavailable> {
        let current = self.role.leader_epoch;
        match current_epoch {
            Some(epoch) if epoch < current => return Err(Unavailable::FencedEpoch { current }),
            Some(epoch) if epoch > current => return Err(Unavailable::UnknownEpoch { current }),
            _ => {}
        }
        if self.role.is_leader {
            Ok(())
        } else {
            Err(Unavailable::NotLeader)
        }
    }

    pub(super) fn append(
        &mut self,
        requests: &[&[Batch<'_>]],
        (origin, urgency): (Origin, Urgency),
        (settings, now): (&TopicSettings, Now),
    ) -> Vec<Result<Appended, Refused>> {
        let refuse = |refused: Refused| requests.iter().map(|_| Err(refused.clone())).collect();
        if let Err(unavailable) = self.check_leader(None) {
            return refuse(unavailable.into());
        }
        let needed = settings.min_insync_replicas.min(self.role.replicas);
        if urgency == Urgency::Now && self.role.in_sync < needed {
            return refuse(Refused::TooFewInSync {
                in_sync: self.role.in_sync,
                needed,
            });
        }
        let Some(log) = &mut self.log else {
            return refuse(Unavailable::Gone.into());
        };
        let append = LeaderAppend {
            origin,
            leader_epoch: self.role.leader_epoch,
            now: now.wall,
        };
        log.append_as_leader(requests, append)
            .into_iter()
            .map(|outcome| outcome.map_err(Refused::from))
            .collect()
    }

    /// Who is to be woken after an append of so many bytes with this urgency, and how soon a flush is needed.
    pub(super) fn after_append(
        &mut self,
        (bytes, urgency): (u64, Urgency),
        settings: &TopicSettings,
    ) -> (Woken, Option<(Urgency, Offset)>) {
        let Some(log) = &self.log else {
            return (Woken::default(), None);
        };
        let end = log.log_end_offset();
        let unflushed = end.0 - log.flushed_offset().0;
        if unflushed == 0 {
            return (Woken::default(), None);
        }
        match settings.durability {
            Durability::Fsync => {
                let is_urgent = urgency == Urgency::Now || self.reader_is_satisfied_by(bytes);
                let urgency = if is_urgent {
                    Urgency::Now
                } else {
                    Urgency::Later
                };
                (Woken::default(), Some((urgency, end)))
            }
            Durability::PageCache if unflushed >= settings.flush_messages => {
                (Woken::default(), Some((Urgency::Now, end)))
            }
            Durability::PageCache => {
                let woken = self.advance_high_watermark(settings).unwrap_or_default();
                (woken, None)
            }
        }
    }

    /// Whether a reader that waits here has enough with so many bytes more. Those that have gone are let go of: who
    /// reads no more must not cost a flush for each append.
    fn reader_is_satisfied_by(&mut self, bytes: u64) -> bool {
        let mut is_satisfied = false;
        self.readers.retain(|reader| {
            let reader = reader.upgrade();
            is_satisfied |= reader.as_ref().is_some_and(|reader| reader.gets(bytes));
            reader.is_some()
        });
        is_satisfied
    }

    /// Moves the high watermark to where it may be.
    pub(super) fn advance_high_watermark(
        &mut self,
        settings: &TopicSettings,
    ) -> Result<Woken, StorageError> {
        let Some(log) = &mut self.log else {
            return Ok(Woken::default());
        };
        let is_page_cache = settings.durability == Durability::PageCache
            && log.log_end_offset().0 - log.flushed_offset().0 < settings.flush_messages;
        let target = if is_page_cache {
            log.log_end_offset()
        } else {
            log.flushed_offset()
        };
        if !self.role.is_leader || target <= log.high_watermark() {
            return Ok(Woken::default());
        }
        log.set_high_watermark(target)?;
        Ok(self.reached(target))
    }

    /// The same after a flush, whose end is the place where the high watermark belongs.
    pub(super) fn advance_to_flushed(
        &mut self,
        flush: &Flush<Disk>,
        settings: &TopicSettings,
    ) -> Result<Woken, StorageError> {
        let Some(log) = &mut self.log else {
            return Ok(Woken::default());
        };
        log.complete_flush(flush);
        let target = flush.end();
        if target.offset != log.flushed_offset() || !self.role.is_leader {
            return self.advance_high_watermark(settings);
        }
        if target.offset <= log.high_watermark() {
            return Ok(Woken::default());
        }
        log.set_high_watermark_to(target)?;
        Ok(self.reached(target.offset))
    }

    /// Those who waited for the high watermark to reach `offset`.
    fn reached(&mut self, offset: Offset) -> Woken {
        let beyond = self.waiting.split_off(&(offset.plus(1), 0));
        let reached = std::mem::replace(&mut self.waiting, beyond);
        Woken {
            producers: reached.into_values().collect(),
            readers: std::mem::take(&mut self.readers),
        }
    }

    pub(super) fn plan(&mut self, read: &ReadAt) -> Result<Planned, Unreadable> {
        self.check_leader(read.current_epoch)?;
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
        let request = match diverging {
            // Nothing is read, but the offsets are told.
            Some(_) => ReadRequest {
                offset: log.log_end_offset(),
                ..request
            },
            None => request,
        };
        let unflushed = if request.bound == Bound::LogEnd || request.offset >= log.log_end_offset()
        {
            0
        } else {
            log.bytes_beyond_high_watermark()
        };
        match log.read(&request) {
            Ok(plan) => Ok(Planned {
                plan,
                offsets: offsets_of(log),
                diverging,
                unflushed,
            }),
            Err(ReadError::OutOfRange { .. }) => Err(Unreadable::OutOfRange),
            Err(ReadError::Storage(error)) => Err(error.into()),
        }
    }

    /// A reader that watches already is not added again: one that another partition woke comes back here too.
    /// Readers that gave up leave their entry behind; they are swept out as the list doubles.
    pub(super) fn add_reader(&mut self, reader: &Arc<Reader>) {
        let reader = Arc::downgrade(reader);
        if self.readers.iter().any(|known| known.ptr_eq(&reader)) {
            return;
        }
        if self.readers.len() == self.readers.capacity() {
            self.readers.retain(|reader| reader.strong_count() > 0);
        }
        self.readers.push(reader);
    }
}

pub(super) fn offsets_of(log: &PartitionLog<Disk>) -> Offsets {
    Offsets {
        log_start: log.log_start_offset(),
        last_stable: log.last_stable_offset(),
        high_watermark: log.high_watermark(),
        log_end: log.log_end_offset(),
    }
}

/// Where a reader that has records up to `offset`, the last of them of `epoch`, holds something else than this log.
fn divergence(
    log: &PartitionLog<Disk>,
    epoch: LeaderEpoch,
    offset: Offset,
) -> Result<Option<(LeaderEpoch, Offset)>, Unreadable> {
    let end = log.end_of_epoch(epoch).ok_or(Unreadable::OutOfRange)?;
    let diverges = end.epoch < epoch || end.end < offset;
    Ok(diverges.then_some((end.epoch, end.end)))
}

#[cfg(test)]
mod tests {
    use super::{Held, Reader, Role};
    use ottla_protocol::ids::LeaderEpoch;
    use std::collections::BTreeMap;

    fn held() -> Held {
        let role = Role {
            is_leader: true,
            leader_epoch: LeaderEpoch(0),
            replicas: 1,
            in_sync: 1,
        };
        Held {
            log: None,
            role,
            waiting: BTreeMap::new(),
            next_waiting: 0,
            readers: Vec::new(),
        }
    }

    #[test]
    fn an_append_is_flushed_for_a_reader_that_lacks_no_more_bytes() {
        let (mut held, reader) = (held(), Reader::new());
        assert!(!held.reader_is_satisfied_by(1), "nobody reads");
        held.add_reader(&reader);
        assert!(!held.reader_is_satisfied_by(1), "it lacks nothing yet");
        reader.lacks(100);
        assert!(!held.reader_is_satisfied_by(60));
        assert!(held.reader_is_satisfied_by(40));
        let patient = Reader::new();
        patient.lacks(100);
        held.add_reader(&patient);
        assert!(held.reader_is_satisfied_by(99), "one has enough");
        assert!(patient.gets(1), "and the other has been given as much");
    }

    #[test]
    fn no_append_is_flushed_for_readers_that_have_gone() {
        let (mut held, reader) = (held(), Reader::new());
        reader.lacks(1);
        held.add_reader(&reader);
        drop(reader);
        assert!(!held.reader_is_satisfied_by(1));
        assert_eq!(held.readers.len(), 0);
    }
}
