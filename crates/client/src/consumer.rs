//! Reads topics as a member of a group: membership and fetching together.
//!
//! Records count as read when the next poll begins, or at `close`. Only offsets of read records are committed, so a crash
//! may repeat records but never skips one. Heartbeats are sent while polling and during [`GroupConsumer::keep_alive`]. A
//! caller that does neither within the session timeout loses its partitions.
//!
//! The consumer waits for a coordinator that cannot be reached as long as for a leader ([`FetchOptions::patience`]). A
//! partition that was added after the consumer began is read from its beginning, whatever `out_of_range` is: all its records
//! are newer than the consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant, Interval, MissedTickBehavior};

use crate::backoff::{Backoff, pause_after};
use crate::error::ErrorCode;
use crate::fetcher::Known;
use crate::notice::{Notice, Source};
use crate::{
    ClientError, Cluster, FetchOptions, FetchedRecords, Fetcher, GroupMember, GroupOptions,
    Heartbeat, OffsetSpec, OutOfRange, Position, Result, StartAt, TopicPartition,
};

/// How long leaving the group may take if the commit before it has used all of `retry_for`.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

/// How a group consumer behaves.
#[derive(Debug, Clone)]
pub struct GroupConsumerOptions {
    /// The group and its topics.
    pub group: GroupOptions,
    /// How it fetches. `out_of_range` also decides where a partition without a committed offset begins.
    pub fetch: FetchOptions,
    /// How often offsets are committed; `None` means never.
    pub commit_every: Option<Duration>,
}

#[derive(Debug)]
pub struct GroupConsumer {
    cluster: Arc<Cluster>,
    options: GroupConsumerOptions,
    member: GroupMember,
    fetcher: Fetcher,
    is_joined: bool,
    heartbeats: Interval,
    next_commit: Instant,
    committed: BTreeMap<TopicPartition, Position>,
    /// The topics when this consumer began.
    at_start: Option<BTreeMap<String, Known>>,
    /// Failed calls to the coordinator in a row.
    failures: u32,
    refreshes_at_join: u64,
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
            at_start: None,
            failures: 0,
            refreshes_at_join: 0,
        }
    }

    /// The next offset of each partition of this consumer.
    pub fn positions(&self) -> BTreeMap<TopicPartition, Position> {
        self.fetcher.positions()
    }

    /// Whether this consumer reads the partition, even if its next offset is not known yet.
    pub fn reads(&self, partition: &TopicPartition) -> bool {
        self.fetcher.reads(partition)
    }

    /// Whether the consumer is in its group, and knows its partitions.
    pub fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// Moves a partition back to `offset`, for a caller that did not use all records of a poll.
    pub fn rewind(&mut self, partition: &TopicPartition, offset: i64) {
        self.fetcher.rewind(partition, offset);
    }

    /// The notices for the user since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.fetcher.take_notices()
    }

    /// The next records that arrive, perhaps none. The records of the last poll count as read.
    pub async fn poll(&mut self) -> Result<Vec<FetchedRecords>> {
        if !self.is_joined {
            return self.join().await.map(|()| Vec::new());
        }
        if self.options.commit_every.is_some() && Instant::now() >= self.next_commit {
            self.commit_once().await?;
        }
        let may_commit = self.failures == 0 || Instant::now() >= self.next_commit;
        if self.must_assign_again() && may_commit && self.commit_once().await? {
            self.is_joined = false;
            return Ok(Vec::new());
        }
        tokio::select! {
            fetched = self.fetcher.poll() => fetched,
            _ = self.heartbeats.tick() => {
                self.beat().await?;
                Ok(Vec::new())
            }
        }
    }

    /// Sends heartbeats until the future is dropped, while the caller works on its records.
    pub async fn keep_alive(&mut self) {
        loop {
            self.heartbeats.tick().await;
            // A member that is not in the group sends none.
            if self.member.generation() >= 0
                && matches!(self.member.heartbeat().await, Ok(Heartbeat::Rejoin))
            {
                self.is_joined = false;
            }
        }
    }

    /// Commits the offsets of read records.
    pub async fn commit(&mut self) -> Result<()> {
        let mut backoff = Backoff::new(self.cluster.options().retry_for);
        self.commit_within(&mut backoff).await
    }

    async fn commit_within(&mut self, backoff: &mut Backoff) -> Result<()> {
        let moved = self.moved();
        if self.member.generation() < 0 && !moved.is_empty() {
            return Err(ClientError::Refused {
                what: format!("commit of group {}", self.options.group.group),
                code: ErrorCode::UnknownMemberId,
                message: Some("the group went on without this member".to_owned()),
            });
        }
        self.member.commit(&moved, backoff).await?;
        self.committed.extend(moved);
        Ok(())
    }

    /// Commits the offsets of read records, if `commit_every` is set, and leaves the group. Both are tried again after
    /// retriable errors, for `retry_for` together.
    pub async fn close(mut self) -> Result<()> {
        let mut backoff = Backoff::new(self.cluster.options().retry_for);
        let committed = match self.options.commit_every {
            Some(_) => self.commit_before_leaving(&mut backoff).await,
            None => Ok(()),
        };
        let leaving = self.member.leave(&mut backoff);
        if committed
            .as_ref()
            .is_err_and(ClientError::is_retriable_in_group)
        {
            // The time is used up. The member tries to leave once more, and the error of the commit is returned.
            let _ = time::timeout(LAST_ATTEMPT, leaving).await;
        } else {
            leaving.await?;
        }
        committed
    }

    /// The positions that are not committed.
    fn moved(&self) -> BTreeMap<TopicPartition, Position> {
        let mut positions = self.fetcher.positions();
        positions.retain(|partition, position| {
            let committed = self.committed.get(partition);
            committed.map(|committed| committed.offset) != Some(position.offset)
        });
        positions
    }

    /// Commits once, without waiting for a coordinator that cannot be reached. False if the commit must be tried again. The
    /// caller should not rejoin before that, or others read the uncommitted records again.
    async fn commit_once(&mut self) -> Result<bool> {
        let Some(every) = self.options.commit_every else {
            return Ok(true);
        };
        // The group has removed this member. Others may read its partitions, and commit for them.
        if self.member.generation() < 0 {
            return Ok(true);
        }
        self.next_commit = Instant::now() + every;
        let moved = self.moved();
        match self.member.try_commit(&moved).await {
            Ok(()) => {
                self.committed.extend(moved);
                self.coordinator_works();
                Ok(true)
            }
            Err(error) if lost_membership(error.code()) => {
                self.is_joined = false;
                Ok(true)
            }
            Err(error) => {
                self.coordinator_failed(error)?;
                self.next_commit = Instant::now() + pause_after(self.failures);
                Ok(false)
            }
        }
    }

    async fn commit_before_leaving(&mut self, backoff: &mut Backoff) -> Result<()> {
        loop {
            match self.commit_within(backoff).await {
                // No member may commit in this phase of a rebalance. So join the next generation and commit there.
                Err(error) if error.code() == Some(ErrorCode::RebalanceInProgress) => {
                    let assigned: BTreeSet<_> =
                        self.member.join(backoff).await?.into_iter().collect();
                    for partition in self.fetcher.positions().keys() {
                        if !assigned.contains(partition) {
                            self.fetcher.remove(partition);
                        }
                    }
                    if !backoff.wait().await {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
        }
    }

    async fn beat(&mut self) -> Result<()> {
        match self.member.heartbeat().await {
            Ok(Heartbeat::Stable) => self.coordinator_works(),
            Ok(Heartbeat::Rejoin) if self.commit_once().await? => self.is_joined = false,
            // The commit is tried again after the next heartbeat, which gets the same answer.
            Ok(Heartbeat::Rejoin) => self.heartbeats.reset_after(pause_after(self.failures)),
            Err(error) => {
                self.coordinator_failed(error)?;
                self.heartbeats.reset_after(pause_after(self.failures));
            }
        }
        Ok(())
    }

    fn coordinator_works(&mut self) {
        self.failures = 0;
        self.fetcher.outages().works(&Source::Group);
    }

    fn coordinator_failed(&mut self, error: ClientError) -> Result<()> {
        if !error.is_retriable_in_group() {
            return Err(error);
        }
        self.failures += 1;
        self.fetcher.outages().failed(Source::Group, error)
    }

    /// Whether the topics whose partitions this member assigned have another number of partitions now.
    fn must_assign_again(&self) -> bool {
        // The metadata must be newer than the metadata by which the partitions were assigned.
        if self.fetcher.refreshes() == self.refreshes_at_join {
            return false;
        }
        let mut counts = self.member.assigned_counts().iter();
        counts.any(|(topic, assigned)| {
            let known = self.fetcher.known(topic);
            known.map_or(0, |known| known.partitions) != *assigned
        })
    }

    /// Joins the group, and finds the positions. After a retriable error, the next poll tries again.
    async fn join(&mut self) -> Result<()> {
        match self.try_join().await {
            Ok(()) => {
                self.coordinator_works();
                self.is_joined = true;
                self.heartbeats.reset();
            }
            Err(error) => {
                self.coordinator_failed(error)?;
                time::sleep(pause_after(self.failures)).await;
            }
        }
        Ok(())
    }

    async fn remember_topics(&mut self) -> Result<()> {
        if self.at_start.is_some() {
            return Ok(());
        }
        let mut at_start = BTreeMap::new();
        for name in &self.options.group.topics {
            match self.cluster.topic(name).await {
                Ok(topic) => at_start.insert(name.clone(), Known::of(&topic)),
                Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => None,
                Err(error) => return Err(error),
            };
        }
        self.at_start = Some(at_start);
        Ok(())
    }

    async fn try_join(&mut self) -> Result<()> {
        self.remember_topics().await?;
        let assigned: BTreeSet<_> = self.member.try_join().await?.into_iter().collect();
        let group = &self.options.group.group;
        let own = self.fetcher.positions();
        let mut positions = BTreeMap::new();
        let mut committed = BTreeMap::new();
        if !assigned.is_empty() {
            for (partition, offset) in self.cluster.committed(group, Some(&assigned)).await? {
                let position = Position {
                    offset: offset.offset,
                    leader_epoch: offset.leader_epoch,
                };
                // If nobody else has committed meanwhile, this member goes on from its own position.
                let is_ours =
                    self.committed.get(&partition).map(|at| at.offset) == Some(position.offset);
                let read = own.get(&partition).filter(|_| is_ours);
                committed.insert(partition.clone(), position);
                positions.insert(partition, read.copied().unwrap_or(position));
            }
        }
        let fresh = assigned.iter().filter(|of| !positions.contains_key(of));
        let (fresh, later): (BTreeSet<_>, BTreeSet<_>) =
            fresh.cloned().partition(|of| !self.must_wait(of));
        positions.extend(self.start_of(fresh).await?);
        for topic in self
            .member
            .assigned_counts()
            .keys()
            .chain(&self.options.group.topics)
        {
            self.fetcher.know(topic);
        }
        self.committed = committed;
        self.refreshes_at_join = self.fetcher.refreshes();
        self.fetcher.assign_positions(positions);
        for partition in later {
            let is_new = self.is_new(&partition);
            let spec = match self.options.fetch.out_of_range {
                OutOfRange::Latest if !is_new => OffsetSpec::Latest,
                OutOfRange::Latest | OutOfRange::Earliest | OutOfRange::Fail => {
                    OffsetSpec::Earliest
                }
            };
            self.fetcher.add(partition, StartAt::Found(spec));
        }
        Ok(())
    }

    /// Whether the start of a partition is looked up later, because it has no leader now. It must not delay the others.
    fn must_wait(&self, partition: &TopicPartition) -> bool {
        let metadata = self.cluster.metadata();
        let found = metadata.partition(partition);
        let is_leaderless = found.is_some_and(|found| found.leader.is_none());
        is_leaderless && self.options.fetch.out_of_range != OutOfRange::Fail
    }

    /// The first positions of partitions without a committed offset.
    async fn start_of(
        &self,
        fresh: BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Position>> {
        let (new, old): (BTreeSet<_>, BTreeSet<_>) = fresh
            .into_iter()
            .partition(|partition| self.is_new(partition));
        let mut starts = self.offsets(&new, OffsetSpec::Earliest).await?;
        let spec = match self.options.fetch.out_of_range {
            OutOfRange::Earliest => OffsetSpec::Earliest,
            OutOfRange::Latest => OffsetSpec::Latest,
            OutOfRange::Fail if old.is_empty() => return Ok(starts),
            OutOfRange::Fail => {
                let what = "the group has no offset committed and none to start from";
                return Err(ClientError::refused(what, ErrorCode::OffsetNotAvailable));
            }
        };
        starts.extend(self.offsets(&old, spec).await?);
        Ok(starts)
    }

    async fn offsets(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, Position>> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let isolation = self.options.fetch.isolation;
        let found = self
            .cluster
            .list_offsets(partitions, spec, isolation)
            .await?;
        Ok(found
            .into_iter()
            .map(|(partition, at)| (partition, Position::at(at.offset)))
            .collect())
    }

    /// Whether the partition did not exist when this consumer began.
    fn is_new(&self, partition: &TopicPartition) -> bool {
        let at_start = self.at_start.as_ref();
        let Some(before) = at_start.and_then(|topics| topics.get(&partition.topic)) else {
            return true;
        };
        let metadata = self.cluster.metadata();
        let now = metadata.topics.get(&partition.topic);
        let is_recreated = now.is_some_and(|now| now.id != before.id);
        let index = usize::try_from(partition.partition).unwrap_or(0);
        is_recreated || index >= before.partitions
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
