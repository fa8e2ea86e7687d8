//! One partition of a Fetch request: where it is, and how its read is planned, for a consumer or a follower.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use ottla_log::FirstBatch;
use ottla_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::time::MonotonicTime;
use ottla_replica::partition::{FollowerRead, Known};
use ottla_replication::{FollowerFetch, Replica};

use super::Limits;
use crate::broker::Broker;
use crate::fetch_sessions::{FetchKey, FetchNews, FetchTopicKey, FetchWish};
use crate::replicas::partition::{Offsets, Partition, Planned, ReadAt, Reader, Unreadable};

/// One partition of the request.
pub(super) struct Target {
    pub(super) key: FetchKey,
    pub(super) wish: FetchWish,
    pub(super) found: Result<Arc<Partition>, ErrorCode>,
    /// Whether the progress of the follower that asks has been counted.
    is_counted: AtomicBool,
}

impl Target {
    pub(super) fn new(
        key: FetchKey,
        wish: FetchWish,
        found: Result<Arc<Partition>, ErrorCode>,
    ) -> Self {
        Self {
            key,
            wish,
            found,
            is_counted: AtomicBool::new(false),
        }
    }

    pub(super) fn find(broker: &Broker, key: FetchKey, wish: FetchWish) -> Self {
        let index = PartitionIndex(key.partition);
        let found = match &key.topic {
            FetchTopicKey::Id(id) => broker.replicas.by_id(*id, index),
            FetchTopicKey::Name(name) => broker.replicas.by_name(name.as_str(), index),
        };
        Self::new(key, wish, found.or_code())
    }

    /// A partition that was settled when the request came. That the follower asks is counted already.
    pub(super) fn find_settled(broker: &Broker, key: FetchKey, wish: FetchWish) -> Self {
        let target = Self::find(broker, key, wish);
        target.is_counted.store(true, Ordering::Relaxed);
        target
    }

    /// Whether its partition is settled after an answer with `news`. If so, `reader` notes its next change under `place`.
    pub(super) fn settle(
        &self,
        (reader, place): (&Arc<Reader>, usize),
        news: &FetchNews,
        limits: &Limits,
    ) -> Option<Weak<Partition>> {
        let has_news = news.records_bytes > 0 || news.must_be_told || news.is_error;
        if has_news || !limits.near.is_empty() || !self.wish.has_room {
            return None;
        }
        let partition = self.found.as_ref().ok()?;
        let known = Known {
            read: self.read(limits, 0, FirstBatch::MustFit),
            follower: limits.follower,
            high_watermark: Offset(news.high_watermark),
            log_start: Offset(news.log_start_offset),
        };
        let is_settled = partition.settle(reader, place, &known);
        is_settled.then(|| Arc::downgrade(partition))
    }

    pub(super) fn plan(
        &self,
        limits: &Limits,
        left: usize,
        first_batch: FirstBatch,
        pages: Pages,
    ) -> Result<Planned, ErrorCode> {
        let partition = self.found.as_ref().map_err(|code| *code)?;
        let read_replica = partition.read_replica(&limits.near, Offset(self.wish.offset));
        let now = limits.clock.monotonic();
        // Nothing is read for a consumer that is sent elsewhere, nor for a follower without room or beyond its rate.
        let (left, first_batch) = if read_replica.is_some()
            || !self.wish.has_room
            || is_throttled(partition, limits, now)
        {
            (0, FirstBatch::MustFit)
        } else {
            (left, first_batch)
        };
        let read = self.read(limits, left, first_batch);
        let planned = match (limits.follower, pages) {
            (Some(from), _) => {
                let read = self.read_of_follower(from, &read);
                let planned = plan_for_follower(partition, &read, limits, pages);
                self.is_counted.fetch_or(planned.is_ok(), Ordering::Relaxed);
                planned
            }
            (None, Pages::Awaited) => partition.plan(&read, now),
            (None, Pages::Cached) => partition.plan_cached(&read, now),
        };
        planned
            .map(|planned| Planned {
                read_replica,
                ..planned
            })
            .map_err(|error| error.code())
    }

    fn read(&self, limits: &Limits, left: usize, first_batch: FirstBatch) -> ReadAt {
        let epoch = |epoch: i32| (epoch >= 0).then_some(LeaderEpoch(epoch));
        ReadAt {
            offset: Offset(self.wish.offset),
            max_bytes: usize::try_from(self.wish.max_bytes).unwrap_or(0).min(left),
            first_batch,
            bound: limits.bound,
            answered_by: limits.answered_by,
            current_epoch: epoch(self.wish.current_leader_epoch),
            last_fetched_epoch: epoch(self.wish.last_fetched_epoch),
        }
    }

    fn read_of_follower(&self, from: Replica, read: &ReadAt) -> FollowerRead {
        FollowerRead {
            from,
            fetch: FollowerFetch {
                leader_epoch: read.current_epoch.unwrap_or(LeaderEpoch::NONE),
                offset: read.offset,
                last_fetched_epoch: read.last_fetched_epoch,
                log_start: Offset(self.wish.log_start_offset),
                flushed: self.wish.flushed,
                has_room: self.wish.has_room,
            },
            has_leader_epoch: read.current_epoch.is_some(),
            max_bytes: read.max_bytes,
            first_batch: read.first_batch,
            is_counted: self.is_counted.load(Ordering::Relaxed),
        }
    }

    /// Whether what a follower gets counts for `leader.replication.throttled.rate`.
    pub(super) fn is_throttled(&self, limits: &Limits) -> bool {
        let found = self.found.as_ref();
        limits.follower.is_some() && found.is_ok_and(|found| found.is_throttled_as_leader())
    }

    /// Wakes `reader` when there is more to read, which it finds under `place`. Returns the offsets now, while this node
    /// leads.
    pub(super) fn watch(
        &self,
        reader: &Arc<Reader>,
        place: usize,
        limits: &Limits,
    ) -> Option<Offsets> {
        let partition = self.found.as_ref().ok()?;
        if limits.follower.is_some() {
            partition.watch_end(reader, place)
        } else {
            partition.watch(reader, place)
        }
    }
}

/// Whether a plan waits for pages that are not in the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    Awaited,
    /// The plan names what it misses.
    Cached,
}

/// Whether a follower gets no records now, to keep to `leader.replication.throttled.rate`.
fn is_throttled(partition: &Partition, limits: &Limits, now: MonotonicTime) -> bool {
    limits.follower.is_some_and(|from| {
        partition.is_throttled_for(from.node) && limits.quotas.leader.is_exceeded(now)
    })
}

/// Plans a read of a follower. A change of the ISR that it causes waits for its driver.
fn plan_for_follower(
    partition: &Partition,
    read: &FollowerRead,
    limits: &Limits,
    pages: Pages,
) -> Result<Planned, Unreadable> {
    let now = limits.clock.monotonic();
    let plan = match pages {
        Pages::Awaited => partition.plan_for_follower(read, now),
        Pages::Cached => partition.plan_cached_for_follower(read, now),
    }?;
    if let Some(change) = plan.isr_change {
        if read.fetch.has_room {
            limits.isr_changes.expand(partition.id(), change);
        } else {
            limits.isr_changes.shrink(partition.id(), change);
        }
    }
    Ok(plan.planned)
}
