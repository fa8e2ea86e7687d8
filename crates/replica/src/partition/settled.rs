//! What a fetch session may leave out. A partition is *settled* for a reader that knows all there is: it gets no records,
//! no error, and no offset that it was not told. It is not looked at again until it has changed. Invariants:
//!
//! - whether it is settled is decided under the lock, together with the watch: no change is missed in between;
//! - each change of what a reader can see wakes those who watch (`changed`);
//! - a settled follower is in sync, and the high watermark waits for nothing. Its fetches still count for
//!   `replica.lag.time.max.ms`: before anything that depends on them, the time of its latest request is taken over.

use std::sync::{Arc, MutexGuard};

use ottla_log::Bound;
use ottla_log::files::Files;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_replication::{Brokers, Replica};

use super::state::{State, Woken, divergence, offsets_of};
use super::{Offsets, Partition, ReadAt};
use crate::Host;
use crate::reader::Reader;

/// What a reader asks for, and what it was told.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub read: ReadAt,
    /// The follower that reads; `None` for a consumer.
    pub follower: Option<Replica>,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// What a reader can see of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// `None` once the partition is gone.
    offsets: Option<Offsets>,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
}

/// Runs `change`; returns also who must look again.
pub(super) fn changed<F: Files, H: Host, T>(
    mut state: MutexGuard<'_, State<F, H>>,
    change: impl FnOnce(&mut State<F, H>) -> T,
) -> (T, Woken<H>) {
    let before = state.seen();
    let outcome = change(&mut state);
    (outcome, state.changed_since(before))
}

impl<F: Files, H: Host> Partition<F, H> {
    /// Whether the partition is settled for a reader. If so, its next change wakes `reader`, which finds it under `place`.
    pub fn settle(&self, reader: &Arc<Reader<H::Consumer>>, place: usize, known: &Known) -> bool {
        let brokers = self.brokers.get();
        let mut state = self.lock();
        let is_settled = state.is_settled(known, &brokers);
        match known.follower {
            _ if !is_settled => {}
            None => state.add_reader(reader, place),
            Some(from) => {
                state.settled.insert(from.node, Arc::clone(reader));
                state.add_follower(reader, place);
            }
        }
        is_settled
    }

    /// A session asks for something else than it did, or for nothing more. Its fetches up to now count.
    pub fn unsettle(&self, reader: &Arc<Reader<H::Consumer>>) {
        let mut state = self.lock();
        let settled = state.settled.iter();
        let mut of_reader = settled.filter(|(_, known)| Arc::ptr_eq(known, reader));
        if let Some((&node, _)) = of_reader.next() {
            state.settled.remove(&node);
            if let Some(leader) = &mut state.leader {
                leader.on_settled_fetches(node, reader.asked_at());
            }
        }
    }
}

impl<F: Files, H: Host> State<F, H> {
    fn seen(&self) -> Seen {
        Seen {
            offsets: self.log.as_ref().map(offsets_of),
            leader_epoch: self.role.leader_epoch,
            partition_epoch: self.role.partition_epoch,
        }
    }

    /// Who must look again. An append alone concerns only followers, and a high watermark only consumers.
    fn changed_since(&mut self, before: Seen) -> Woken<H> {
        let now = self.seen();
        if now == before {
            return Woken::nobody();
        }
        self.count_settled();
        self.settled.clear();
        let role = |seen: Seen| (seen.leader_epoch, seen.partition_epoch);
        let end = |seen: Seen| seen.offsets.map(|offsets| offsets.log_end);
        let of_consumers = |seen: Seen| {
            let of = |offsets: Offsets| {
                (
                    offsets.log_start,
                    offsets.last_stable,
                    offsets.high_watermark,
                )
            };
            (seen.offsets.map(of), role(seen))
        };
        let of_followers = |seen: Seen| (seen.offsets.map(|offsets| offsets.log_start), role(seen));
        let mut woken = Woken::nobody();
        if of_consumers(now) != of_consumers(before) {
            woken = woken.and(self.take_readers());
        }
        let is_appended = self.leader.is_some() && end(now) != end(before);
        if is_appended || of_followers(now) != of_followers(before) {
            woken = woken.and(self.take_followers());
        }
        woken
    }

    /// Counts the fetches of the followers for which this partition was settled.
    pub(super) fn count_settled(&mut self) {
        if let Some(leader) = &mut self.leader {
            for (node, reader) in &self.settled {
                leader.on_settled_fetches(*node, reader.asked_at());
            }
        }
    }

    fn is_settled(&self, known: &Known, brokers: &Brokers) -> bool {
        let Known { read, follower, .. } = known;
        let Some(log) = self.log.as_ref() else {
            return false;
        };
        let now = offsets_of(log);
        let end = match read.bound {
            Bound::LastStableOffset => now.last_stable,
            Bound::HighWatermark => now.high_watermark,
            Bound::LogEnd => now.log_end,
        };
        let is_told =
            (now.high_watermark, now.log_start) == (known.high_watermark, known.log_start);
        let is_all_committed = now.high_watermark == now.log_end;
        let diverges = || {
            let epoch = read.last_fetched_epoch;
            epoch.is_some_and(|epoch| !matches!(divergence(log, epoch, read.offset), Ok(None)))
        };
        let is_in_sync = |from: Replica| {
            let leader = self.leader.as_ref();
            leader.is_some_and(|leader| leader.has_all(from, now.log_end, brokers))
        };
        is_told
            && is_all_committed
            && read.offset == end
            && self.check_reader(read).is_ok()
            && log.directory().ensure_online().is_ok()
            && !diverges()
            && follower.is_none_or(is_in_sync)
    }
}
