//! Reads topics as a member of a group: membership and fetching together.
//!
//! Records count as read when the next poll begins (or at `close`); only such offsets are committed, so a crash
//! between may repeat records but never skips one. Heartbeats are sent while polling: a caller that does
//! not poll within the session timeout loses its partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant, Interval, MissedTickBehavior};

use crate::error::ErrorCode;
use crate::{
    Cluster, FetchOptions, FetchedRecords, Fetcher, GroupMember, GroupOptions, Heartbeat,
    OffsetSpec, OutOfRange, Result, TopicPartition,
};

/// How a group consumer behaves.
#[derive(Debug, Clone)]
pub struct GroupConsumerOptions {
    /// The group and its topics.
    pub group: GroupOptions,
    /// How it fetches; `out_of_range` also says where a partition without a commit begins.
    pub fetch: FetchOptions,
    /// How often offsets are committed; nothing for never.
    pub commit_every: Option<Duration>,
}

/// A consumer in a group.
#[derive(Debug)]
pub struct GroupConsumer {
    cluster: Arc<Cluster>,
    options: GroupConsumerOptions,
    member: GroupMember,
    fetcher: Fetcher,
    is_joined: bool,
    heartbeats: Interval,
    next_commit: Instant,
    committed: BTreeMap<TopicPartition, i64>,
}

impl GroupConsumer {
    /// A consumer; it joins at the first poll.
    pub fn new(cluster: Arc<Cluster>, options: GroupConsumerOptions) -> Self {
        let mut heartbeats = time::interval(options.group.session_timeout / 10);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            member: GroupMember::new(Arc::clone(&cluster), options.group.clone()),
            fetcher: Fetcher::new(Arc::clone(&cluster), options.fetch),
            cluster,
            options,
            is_joined: false,
            heartbeats,
            next_commit: Instant::now(),
            committed: BTreeMap::new(),
        }
    }

    /// The next offset of each partition of this consumer.
    pub fn positions(&self) -> &BTreeMap<TopicPartition, i64> {
        self.fetcher.positions()
    }

    /// Counts a partition as read only up to `offset`, when its caller did not use all that a poll returned.
    pub fn rewind(&mut self, partition: &TopicPartition, offset: i64) {
        self.fetcher.rewind(partition, offset);
    }

    /// The next records that arrive, perhaps none. What the last poll returned counts as read.
    pub async fn poll(&mut self) -> Result<Vec<FetchedRecords>> {
        if !self.is_joined {
            self.join().await?;
        }
        if let Some(every) = self.options.commit_every
            && Instant::now() >= self.next_commit
        {
            self.commit().await?;
            self.next_commit = Instant::now() + every;
        }
        tokio::select! {
            fetched = self.fetcher.poll() => fetched,
            _ = self.heartbeats.tick() => {
                self.beat().await?;
                Ok(Vec::new())
            }
        }
    }

    /// Commits what is read.
    pub async fn commit(&mut self) -> Result<()> {
        let positions = self.fetcher.positions().iter();
        let is_new = |(partition, offset): &(&TopicPartition, &i64)| {
            self.committed.get(*partition) != Some(*offset)
        };
        let moved = positions.filter(is_new);
        let moved: BTreeMap<_, _> = moved
            .map(|(partition, offset)| (partition.clone(), *offset))
            .collect();
        match self.member.commit(&moved).await {
            Ok(()) => {
                self.committed.extend(moved);
                Ok(())
            }
            Err(error) if lost_membership(error.code()) => {
                self.is_joined = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Commits what is read (if it commits at all) and leaves the group.
    pub async fn close(mut self) -> Result<()> {
        if self.options.commit_every.is_some() {
            self.commit().await?;
        }
        self.member.leave().await
    }

    async fn beat(&mut self) -> Result<()> {
        if self.member.heartbeat().await? == Heartbeat::Rejoin {
            if self.options.commit_every.is_some() {
                self.commit().await?;
            }
            self.is_joined = false;
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<()> {
        let assigned: BTreeSet<_> = self.member.join().await?.into_iter().collect();
        let group = &self.options.group.group;
        let mut positions = BTreeMap::new();
        self.committed.clear();
        if !assigned.is_empty() {
            let committed = self.cluster.committed(group, Some(&assigned)).await?;
            for (partition, offset) in committed {
                self.committed.insert(partition.clone(), offset.offset);
                positions.insert(partition, offset.offset);
            }
        }
        let fresh: BTreeSet<_> = assigned
            .into_iter()
            .filter(|of| !positions.contains_key(of))
            .collect();
        for (partition, offset) in self.start_of(&fresh).await? {
            positions.insert(partition, offset);
        }
        self.fetcher.assign(positions);
        self.is_joined = true;
        self.heartbeats.reset();
        Ok(())
    }

    /// Where partitions begin for which the group has no commit.
    async fn start_of(
        &self,
        fresh: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        if fresh.is_empty() {
            return Ok(BTreeMap::new());
        }
        let spec = match self.options.fetch.out_of_range {
            OutOfRange::Earliest => OffsetSpec::Earliest,
            OutOfRange::Latest => OffsetSpec::Latest,
            OutOfRange::Fail => {
                let code = ErrorCode::OffsetNotAvailable.code();
                let what = "the group has no offset committed and none to start from";
                crate::ClientError::check(code, None, what)?;
                OffsetSpec::Latest
            }
        };
        let isolation = self.options.fetch.isolation;
        let found = self.cluster.list_offsets(fresh, spec, isolation).await?;
        Ok(found
            .into_iter()
            .map(|(partition, at)| (partition, at.offset))
            .collect())
    }
}

fn lost_membership(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(
            ErrorCode::RebalanceInProgress
                | ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
        )
    )
}
