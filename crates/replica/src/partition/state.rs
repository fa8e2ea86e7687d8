//! The state behind a partition's lock: its log, its role, and the waiting producers and consumers.
//!
//! Methods return producers to answer and consumers to wake as [`Woken`]. [`Partition`](super::Partition) does that
//! after it has released the lock.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_log::files::Files;
use ottla_log::{
    Appended, Batch, Bound, Flush, LeaderAppend, Origin, PartitionLog, ReadError, ReadRequest,
    StorageError,
};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::time::{MonotonicTime, Timestamp};
use ottla_replication::{EpochStart, Leader, LeaderLog, Progress, Role, follower};

use super::{Append, Decide, Offsets, Planned, ReadAt, RequiredAcks};
use crate::Host;
use crate::acks::Acks;
use crate::reader::Reader;
use crate::refusals::{Refused, Unavailable, Unreadable};
use crate::topic_settings::{Durability, TopicSettings};
use crate::urgency::Urgency;

/// How long a follower may lag before it leaves the ISR: Kafka's default of `replica.lag.time.max.ms`.
const REPLICA_LAG_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct State<F: Files, H: Host> {
    /// `None` once the partition is gone.
    pub(super) log: Option<PartitionLog<F>>,
    pub(super) role: Role,
    /// `Some` while this node leads.
    leader: Option<Leader>,
    pub(super) acks: Acks<H::Producer>,
    /// Consumers that wait for a change.
    readers: Vec<Weak<Reader<H::Consumer>>>,
}

/// Producers to answer and consumers to wake after the lock is released.
#[derive(Debug)]
#[must_use = "someone waits"]
pub(super) struct Woken<H: Host> {
    producers: Vec<H::Producer>,
    readers: Vec<Weak<Reader<H::Consumer>>>,
}

impl<H: Host> Woken<H> {
    fn nobody() -> Self {
        Self {
            producers: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// Acknowledges the producers, and wakes the consumers.
    pub(super) fn wake(self) {
        self.end(&Ok(()));
    }

    /// Answers the producers with `reason`, and wakes the consumers, which read again and get the error.
    pub(super) fn refuse(self, reason: &Unavailable) {
        self.end(&Err(reason.clone()));
    }

    fn end(self, outcome: &Result<(), Unavailable>) {
        for producer in self.producers {
            H::answer(producer, outcome.clone());
        }
        for reader in self.readers.iter().filter_map(Weak::upgrade) {
            H::wake(reader.consumer());
        }
    }
}

impl<F: Files, H: Host> State<F, H> {
    /// The state of an open log, without a role.
    pub(super) fn new(log: PartitionLog<F>) -> Self {
        Self {
            log: Some(log),
            role: Role::unknown(),
            leader: None,
            acks: Acks::default(),
            readers: Vec::new(),
        }
    }

    pub(super) fn set_role(
        &mut self,
        role: Role,
        settings: &TopicSettings,
        now: MonotonicTime,
    ) -> Result<Woken<H>, StorageError> {
        let leads_on = self.role.is_leader() && self.role.leader_epoch == role.leader_epoch;
        self.role = role.clone();
        match (&mut self.log, &mut self.leader) {
            (Some(log), _) if role.is_leader() && !leads_on => {
                log.begin_epoch(role.leader_epoch);
                log.flush()?;
                let start = EpochStart {
                    offset: log.log_end_offset(),
                    high_watermark: log.high_watermark(),
                };
                self.leader = Some(Leader::new(role, start, REPLICA_LAG_TIME_MAX, now));
            }
            (_, Some(leader)) if role.is_leader() => leader.on_role(role, now),
            _ => self.leader = None,
        }
        self.advance_high_watermark(settings, now)
    }

    /// Removes and returns all who wait.
    pub(super) fn take_waiting(&mut self) -> Woken<H> {
        Woken {
            producers: self.acks.take_all(),
            readers: std::mem::take(&mut self.readers),
        }
    }

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
        if self.role.is_leader() {
            Ok(())
        } else {
            Err(Unavailable::NotLeader)
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

    /// After an append of `bytes` bytes: who is answered and woken, and the flush that is needed.
    pub(super) fn after_append(
        &mut self,
        bytes: u64,
        acks: RequiredAcks,
        settings: &TopicSettings,
        now: MonotonicTime,
    ) -> (Woken<H>, Option<(Urgency, Offset)>) {
        let Some(log) = &self.log else {
            return (Woken::nobody(), None);
        };
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
                (Woken::nobody(), Some((urgency, end)))
            }
            Durability::PageCache if unflushed >= settings.flush_messages => {
                (Woken::nobody(), Some((Urgency::Now, end)))
            }
            Durability::PageCache => {
                let woken = self
                    .advance_high_watermark(settings, now)
                    .unwrap_or_else(|_| Woken::nobody());
                (woken, None)
            }
        }
    }

    /// Whether a waiting reader has enough with these `bytes`. Readers that have given up are removed, because they
    /// would cost a flush at each append.
    fn reader_is_satisfied_by(&mut self, bytes: u64) -> bool {
        let mut is_satisfied = false;
        self.readers.retain(|reader| {
            let reader = reader.upgrade();
            is_satisfied |= reader.as_ref().is_some_and(|reader| reader.gets(bytes));
            reader.is_some()
        });
        is_satisfied
    }

    /// The new high watermark, if this node leads and it may advance.
    fn next_high_watermark(&self, settings: &TopicSettings, now: MonotonicTime) -> Option<Offset> {
        let (log, leader) = (self.log.as_ref()?, self.leader.as_ref()?);
        let (end, flushed) = (log.log_end_offset(), log.flushed_offset());
        let is_page_cache = settings.durability == Durability::PageCache
            && end.0 - flushed.0 < settings.flush_messages;
        let counted = if is_page_cache { end } else { flushed };
        let own = LeaderLog {
            progress: Progress { end, counted },
            min_insync_replicas: settings.min_insync_replicas,
        };
        leader.next_high_watermark(own, now)
    }

    /// Advances the high watermark as far as it may go.
    pub(super) fn advance_high_watermark(
        &mut self,
        settings: &TopicSettings,
        now: MonotonicTime,
    ) -> Result<Woken<H>, StorageError> {
        let next = self.next_high_watermark(settings, now);
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
        settings: &TopicSettings,
        now: MonotonicTime,
    ) -> Result<Woken<H>, StorageError> {
        if let Some(log) = &mut self.log {
            log.complete_flush(flush);
        }
        let end = flush.end();
        match (self.next_high_watermark(settings, now), &mut self.log) {
            (Some(next), Some(log)) if next == end.offset => {
                log.set_high_watermark_to(end)?;
                Ok(self.reached(next))
            }
            _ => self.advance_high_watermark(settings, now),
        }
    }

    /// Removes and returns who waited for the high watermark `offset`.
    fn reached(&mut self, offset: Offset) -> Woken<H> {
        if let Some(leader) = &mut self.leader {
            leader.advanced(offset);
        }
        Woken {
            producers: self.acks.reached(offset),
            readers: std::mem::take(&mut self.readers),
        }
    }

    pub(super) fn plan(
        &mut self,
        decide: Decide<F>,
        read: &ReadAt,
    ) -> Result<Planned<F>, Unreadable> {
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
            // Nothing is read after a divergence, but the answer has the offsets.
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
        match decide(log, &request) {
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

    /// Adds a reader, unless it is there already: a reader that another partition woke returns to all its partitions.
    /// Entries of readers that have given up are removed when the list doubles.
    pub(super) fn add_reader(&mut self, reader: &Arc<Reader<H::Consumer>>) {
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

pub(super) fn offsets_of<F: Files>(log: &PartitionLog<F>) -> Offsets {
    Offsets {
        log_start: log.log_start_offset(),
        last_stable: log.last_stable_offset(),
        high_watermark: log.high_watermark(),
        log_end: log.log_end_offset(),
    }
}

/// Where the log of a reader diverges from this one. Its log ends at `offset`, and its last record has `epoch`.
fn divergence<F: Files>(
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
    use super::{Acks, Reader, Role, State};
    use crate::host::Nobody;
    use ottla_log::files::simulated::Simulated;

    fn state() -> State<Simulated, Nobody> {
        State {
            log: None,
            role: Role::unknown(),
            leader: None,
            acks: Acks::default(),
            readers: Vec::new(),
        }
    }

    #[test]
    fn an_append_is_flushed_for_a_reader_that_lacks_no_more_bytes() {
        let (mut state, reader) = (state(), Reader::new(()));
        assert!(!state.reader_is_satisfied_by(1), "nobody reads");
        state.add_reader(&reader);
        assert!(!state.reader_is_satisfied_by(1), "it lacks nothing yet");
        reader.lacks(100);
        assert!(!state.reader_is_satisfied_by(60));
        assert!(state.reader_is_satisfied_by(40));
        let patient = Reader::new(());
        patient.lacks(100);
        state.add_reader(&patient);
        assert!(state.reader_is_satisfied_by(99), "one has enough");
        assert!(patient.gets(1), "and the other has been given as much");
    }

    #[test]
    fn no_append_is_flushed_for_readers_that_have_gone() {
        let (mut state, reader) = (state(), Reader::new(()));
        reader.lacks(1);
        state.add_reader(&reader);
        drop(reader);
        assert!(!state.reader_is_satisfied_by(1));
        assert_eq!(state.readers.len(), 0);
    }
}
