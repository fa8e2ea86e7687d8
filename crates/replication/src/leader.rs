//! A partition's leader: the progress of its followers, changes of its ISR, and its high watermark.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::planted::{Bug, is_planted};
use ottla_protocol::time::MonotonicTime;

use crate::brokers::Brokers;
use crate::isr::{Answer, Committed, IsrChange, IsrMember};
use crate::{FetchRefusal, Role};

/// The progress of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// The end of the log.
    pub end: Offset,
    /// How far its records count for the high watermark: to the end, or, under `fsync`, as far as the replica is known
    /// to have flushed.
    pub counted: Offset,
}

impl Progress {
    /// The progress of a replica that counts to the end of its log: under `page-cache`, or a follower that does not
    /// report its flushes, as Apache Kafka's do not.
    pub fn to_end(end: Offset) -> Self {
        Self { end, counted: end }
    }

    /// The progress of a replica that counts as far as it has flushed.
    pub fn flushed_to(flushed: Offset, end: Offset) -> Self {
        let counted = flushed.min(end);
        Self { end, counted }
    }
}

/// What a leader must know to decide, beside its own state.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The progress of its own log.
    pub progress: Progress,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `replica.lag.time.max.ms`.
    pub max_lag: Duration,
    pub brokers: &'a Brokers,
    pub now: MonotonicTime,
}

/// The offsets at which a leader begins its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The end of its log, which is the first offset of its epoch.
    pub offset: Offset,
    pub high_watermark: Offset,
}

/// A node that fetches as a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    pub node: NodeId,
    /// The epoch of its registration; `None` before version 15 of Fetch.
    pub broker_epoch: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Follower {
    progress: Option<Progress>,
    /// When it last had all records of the leader.
    caught_up_at: Option<MonotonicTime>,
    fetched_at: Option<MonotonicTime>,
    /// The end of the leader's log at its last fetch.
    leader_end_at_fetch: Offset,
    /// The epoch of its registration at its last fetch.
    broker_epoch: Option<i64>,
}

impl Follower {
    /// The progress that a fetch with `told` shows. A fetch and the report of a flush that came after it may arrive in
    /// either order. As long as the process runs, what is flushed stays so: of two with the same end the larger counts.
    fn known_progress(&self, told: Progress, broker_epoch: Option<i64>) -> Progress {
        match self.progress {
            Some(known) if known.end == told.end && self.broker_epoch == broker_epoch => {
                known.max(told)
            }
            _ => told,
        }
    }
}

/// The state of a leader, for one leader epoch. Invariants:
///
/// - the high watermark never goes back;
/// - it is at most the counted offset of each member of the maximal ISR (the ISR, and followers that are about to join
///   it);
/// - it does not move while the ISR is smaller than the effective min ISR;
/// - at most one change of the ISR is pending at the controller.
#[derive(Debug, Clone)]
pub struct Leader {
    role: Role,
    epoch_start: Offset,
    high_watermark: Offset,
    followers: BTreeMap<NodeId, Follower>,
    pending: Option<IsrChange>,
}

impl Leader {
    /// A new leader. The members of the ISR count as caught up now, so each has the maximal lag to fetch.
    pub fn new(role: Role, start: EpochStart, now: MonotonicTime) -> Self {
        let mut leader = Self {
            role,
            epoch_start: start.offset,
            high_watermark: start.high_watermark,
            followers: BTreeMap::new(),
            pending: None,
        };
        leader.make_followers(now);
        leader
    }

    fn make_followers(&mut self, now: MonotonicTime) {
        let Role {
            node,
            replicas,
            isr,
            ..
        } = &self.role;
        self.followers.retain(|id, _| replicas.contains(id));
        for id in replicas.iter().filter(|id| *id != node) {
            self.followers.entry(*id).or_insert_with(|| Follower {
                progress: None,
                caught_up_at: isr.contains(id).then_some(now),
                fetched_at: None,
                leader_end_at_fetch: Offset(0),
                broker_epoch: None,
            });
        }
    }

    pub fn role(&self) -> &Role {
        &self.role
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The first offset of its epoch. Up to the time when the high watermark reaches it, records of earlier epochs may be
    /// committed above the high watermark.
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// The follower that a consumer should read from at `offset`: a member of the ISR that has the offset, and that
    /// `is_candidate` accepts. The one with most records is taken, and among those the one that caught up last.
    pub fn read_replica(
        &self,
        offset: Offset,
        is_candidate: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let able = self.followers.iter().filter_map(|(id, follower)| {
            let end = follower.progress?.end;
            let is_able = end >= offset && self.role.isr.contains(id) && is_candidate(*id);
            is_able.then_some((end, follower.caught_up_at, *id))
        });
        able.max().map(|(_, _, id)| id)
    }

    /// The pending change of the ISR.
    pub fn pending(&self) -> Option<&IsrChange> {
        self.pending.as_ref()
    }

    /// The metadata has a new ISR or new replicas, under the same leader epoch.
    pub fn on_role(&mut self, role: Role, now: MonotonicTime) {
        assert_eq!(
            role.leader_epoch, self.role.leader_epoch,
            "a new leader epoch makes a new leader"
        );
        if role.partition_epoch < self.role.partition_epoch {
            return;
        }
        if role.partition_epoch > self.role.partition_epoch {
            self.pending = None;
        }
        let isr = std::mem::take(&mut self.role.isr);
        self.role = role;
        if is_planted(Bug::StaleIsrKept) {
            self.role.isr = isr;
        }
        self.make_followers(now);
    }

    /// The controller has answered `change`. Nothing happens if it is not pending any more.
    pub fn on_answer(&mut self, change: &IsrChange, answer: Answer, now: MonotonicTime) {
        if self.pending.as_ref() != Some(change) {
            return;
        }
        match answer {
            Answer::Committed(committed) => self.on_committed(committed, now),
            Answer::Refused => self.pending = None,
            Answer::Overtaken | Answer::Unknown => {}
        }
    }

    fn on_committed(&mut self, committed: Committed, now: MonotonicTime) {
        let is_of_this_leader = committed.leader_epoch == self.role.leader_epoch;
        if is_of_this_leader && committed.partition_epoch >= self.role.partition_epoch {
            self.pending = None;
            let role = Role {
                isr: committed.isr,
                recovering: false,
                partition_epoch: committed.partition_epoch,
                ..self.role.clone()
            };
            self.on_role(role, now);
        }
    }

    /// What is known of a follower that fetches.
    fn fetching(
        &mut self,
        from: Replica,
        at: &Situation<'_>,
    ) -> Result<&mut Follower, FetchRefusal> {
        if at.brokers.is_stale(from.node, from.broker_epoch) {
            return Err(FetchRefusal::StaleBroker);
        }
        let state = self.followers.get_mut(&from.node);
        state.ok_or(FetchRefusal::NotAReplica)
    }

    /// A follower fetches from the end of its log. If it has caught up, returns a change of the ISR with it.
    pub fn on_fetch(
        &mut self,
        from: Replica,
        progress: Progress,
        at: &Situation<'_>,
    ) -> Result<Option<IsrChange>, FetchRefusal> {
        let state = self.fetching(from, at)?;
        let progress = state.known_progress(progress, from.broker_epoch);
        let leader_end = at.progress.end;
        if progress.end >= leader_end {
            state.caught_up_at = state.caught_up_at.max(Some(at.now));
        } else if progress.end >= state.leader_end_at_fetch {
            // It has all records that the leader had at its previous fetch.
            state.caught_up_at = state.caught_up_at.max(state.fetched_at);
        }
        state.progress = Some(progress);
        state.fetched_at = Some(at.now);
        state.leader_end_at_fetch = leader_end.max(state.leader_end_at_fetch);
        state.broker_epoch = from.broker_epoch;
        let joins = self.pending.is_none()
            && !self.role.isr.contains(&from.node)
            && progress.counted >= self.high_watermark.max(self.epoch_start)
            && at.brokers.may_join_isr(from.node, from.broker_epoch);
        Ok(joins.then(|| self.propose(|isr| _ = isr.insert(from.node), at.brokers)))
    }

    /// Whether `from` is in sync and known to have all records up to `end`. While the high watermark is there too, further
    /// fetches from there change nothing but the times of the follower.
    pub fn has_all(&self, from: Replica, end: Offset, brokers: &Brokers) -> bool {
        let is_known = |follower: &Follower| {
            let progress = follower.progress;
            progress.is_some_and(|progress| progress.end == end && progress.counted == end)
                && follower.broker_epoch == from.broker_epoch
        };
        self.role.isr.contains(&from.node)
            && !brokers.is_stale(from.node, from.broker_epoch)
            && self.followers.get(&from.node).is_some_and(is_known)
    }

    /// A settled follower has fetched up to `last`, and nothing had changed until then.
    pub fn on_settled_fetches(&mut self, node: NodeId, last: MonotonicTime) {
        if let Some(follower) = self.followers.get_mut(&node) {
            follower.caught_up_at = follower.caught_up_at.max(Some(last));
            follower.fetched_at = follower.fetched_at.max(Some(last));
        }
    }

    /// A follower has no room for records: it leaves the ISR now, and not after the maximal lag.
    pub fn on_no_room(
        &mut self,
        from: Replica,
        at: &Situation<'_>,
    ) -> Result<Option<IsrChange>, FetchRefusal> {
        let state = self.fetching(from, at)?;
        state.caught_up_at = None;
        let leaves = self.pending.is_none() && self.role.isr.contains(&from.node);
        Ok(leaves.then(|| self.propose(|isr| _ = isr.remove(&from.node), at.brokers)))
    }

    /// If members of the ISR have not caught up for longer than the maximal lag, returns a change of the ISR without
    /// them.
    pub fn on_tick(&mut self, at: &Situation<'_>) -> Option<IsrChange> {
        if self.pending.is_some() {
            return None;
        }
        let mut lagging = self.role.isr.clone();
        lagging.retain(|id| self.is_lagging(*id, at));
        if lagging.is_empty() {
            return None;
        }
        Some(self.propose(|isr| isr.retain(|id| !lagging.contains(id)), at.brokers))
    }

    fn is_lagging(&self, id: NodeId, at: &Situation<'_>) -> bool {
        let Some(follower) = self.followers.get(&id) else {
            return false;
        };
        let is_behind = follower.progress.map(|progress| progress.end) != Some(at.progress.end);
        is_behind && !is_recently_caught_up(follower, at)
    }

    fn propose(
        &mut self,
        change: impl FnOnce(&mut BTreeSet<NodeId>),
        brokers: &Brokers,
    ) -> IsrChange {
        let mut isr: BTreeSet<NodeId> = self.role.isr.iter().copied().collect();
        change(&mut isr);
        let replicas = self.role.replicas.iter().copied();
        let isr = replicas.filter(|id| isr.contains(id)).map(|node| {
            let follower = self.followers.get(&node);
            let broker_epoch = match follower {
                Some(follower) => follower.broker_epoch,
                None => brokers.alive_epoch(node),
            };
            IsrMember { node, broker_epoch }
        });
        let change = IsrChange {
            isr: isr.collect(),
            leader_epoch: self.role.leader_epoch,
            partition_epoch: self.role.partition_epoch,
        };
        self.pending = Some(change.clone());
        change
    }

    /// Whether acks=all must be refused, because the ISR is smaller than the effective min ISR.
    pub fn has_too_few_in_sync(&self, min_insync_replicas: usize) -> bool {
        self.role.isr.len() < self.role.effective_min_isr(min_insync_replicas)
    }

    /// Whether records that are committed must be reported as written by too few replicas: the maximal ISR has become
    /// smaller than the effective min ISR since their append.
    pub fn has_too_few_after_append(&self, min_insync_replicas: usize) -> bool {
        let isr = &self.role.isr;
        let joining = self.pending.iter().flat_map(|change| &change.isr);
        let joining = joining.filter(|member| !isr.contains(&member.node));
        isr.len() + joining.count() < self.role.effective_min_isr(min_insync_replicas)
    }

    /// The new high watermark, if it may advance. The owner moves it in the log and then calls [`Leader::advanced`].
    pub fn next_high_watermark(&self, at: &Situation<'_>) -> Option<Offset> {
        if self.has_too_few_in_sync(at.min_insync_replicas)
            && !is_planted(Bug::HighWatermarkBelowMinIsr)
        {
            return None;
        }
        let mut target = at.progress.counted;
        for (id, follower) in &self.followers {
            let counted = follower.progress.map_or(Offset(0), |progress| {
                if is_planted(Bug::UnflushedFollowerCounts) {
                    progress.end
                } else {
                    progress.counted
                }
            });
            if counted < target && self.is_waited_for(*id, follower, at) {
                target = counted;
            }
        }
        (target > self.high_watermark).then_some(target)
    }

    /// The owner has moved the high watermark.
    pub fn advanced(&mut self, high_watermark: Offset) {
        assert!(
            high_watermark >= self.high_watermark,
            "a high watermark does not go back"
        );
        self.high_watermark = high_watermark;
    }

    /// Whether the high watermark waits for a follower: it is in the ISR or in the pending one, or it has caught up
    /// recently and may join.
    fn is_waited_for(&self, id: NodeId, follower: &Follower, at: &Situation<'_>) -> bool {
        let joins = |change: &IsrChange| change.contains(id);
        self.role.isr.contains(&id)
            || self.pending.as_ref().is_some_and(joins)
            || (follower.progress.is_some()
                && is_recently_caught_up(follower, at)
                && at.brokers.may_join_isr(id, follower.broker_epoch))
    }
}

fn is_recently_caught_up(follower: &Follower, at: &Situation<'_>) -> bool {
    let caught_up_at = follower.caught_up_at;
    caught_up_at.is_some_and(|caught_up_at| at.now <= caught_up_at.after(at.max_lag))
}

#[cfg(test)]
mod tests {
    use super::{EpochStart, Leader, NodeId, Offset, Progress, Replica, Role, Situation};
    use crate::Brokers;
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    #[test]
    fn consumers_read_from_the_follower_in_sync_that_has_most() {
        let all = [1, 2, 3, 4, 5].map(NodeId);
        let role = Role {
            node: NodeId(1),
            leader: Some(NodeId(1)),
            replicas: all.to_vec(),
            isr: all[..4].to_vec(),
            ..Role::unknown()
        };
        let start = EpochStart {
            offset: Offset(0),
            high_watermark: Offset(0),
        };
        let mut leader = Leader::new(role, start, MonotonicTime::default());
        let brokers = Brokers::default();
        for (node, end) in [(2, 7), (3, 9), (4, 9), (5, 10)] {
            let from = Replica {
                node: NodeId(node),
                broker_epoch: None,
            };
            let at = Situation {
                progress: Progress::to_end(Offset(10)),
                min_insync_replicas: 1,
                max_lag: Duration::from_secs(1),
                brokers: &brokers,
                now: MonotonicTime::default(),
            };
            let progress = Progress::to_end(Offset(end));
            assert_eq!(leader.on_fetch(from, progress, &at), Ok(None));
        }
        let at = |offset, near: &[i32]| {
            let read_replica = leader.read_replica(Offset(offset), |id| near.contains(&id.0));
            read_replica.map(|id| id.0)
        };
        assert_eq!(at(7, &[2, 3]), Some(3));
        assert_eq!(at(7, &[2]), Some(2));
        assert_eq!(at(8, &[2]), None, "it does not have the offset");
        assert_eq!(at(0, &[5]), None, "it is not in sync");
        assert_eq!(at(10, &[2, 3, 4, 5]), None);
    }

    #[test]
    fn a_follower_without_room_leaves_the_isr_without_a_wait() {
        let all = [1, 2, 3].map(NodeId);
        let role = Role {
            node: NodeId(1),
            leader: Some(NodeId(1)),
            replicas: all.to_vec(),
            isr: all.to_vec(),
            ..Role::unknown()
        };
        let start = EpochStart {
            offset: Offset(0),
            high_watermark: Offset(0),
        };
        let mut leader = Leader::new(role, start, MonotonicTime::default());
        let at = Situation {
            progress: Progress::to_end(Offset(0)),
            min_insync_replicas: 1,
            max_lag: Duration::from_secs(1),
            brokers: &Brokers::default(),
            now: MonotonicTime::default(),
        };
        let from = |node| Replica {
            node: NodeId(node),
            broker_epoch: None,
        };
        let change = leader.on_no_room(from(3), &at).unwrap().unwrap();
        let isr = change.isr.iter().map(|member| member.node.0);
        assert_eq!(isr.collect::<Vec<_>>(), [1, 2]);
        assert_eq!(leader.on_no_room(from(2), &at), Ok(None), "one at a time");
        assert!(leader.on_no_room(from(4), &at).is_err());
    }
}
