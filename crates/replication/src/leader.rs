//! A partition's leader: the progress of its followers, changes of its ISR, and its high watermark.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::time::MonotonicTime;

use crate::Role;

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
}

/// What the leader must know of its own log and settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderLog {
    pub progress: Progress,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
}

/// The offsets at which a leader begins its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The end of its log, which is the first offset of its epoch.
    pub offset: Offset,
    pub high_watermark: Offset,
}

/// A change of the ISR to propose to the controller (AlterPartition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChange {
    /// The new ISR, in the order of the replicas.
    pub isr: Vec<NodeId>,
    /// The partition epoch on which the change is based.
    pub partition_epoch: i32,
}

/// The controller's answer to a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is committed. The new state arrives as a [`Role`].
    Committed,
    /// It is refused. Another change may be proposed.
    Refused,
    /// The outcome is unknown. The change stays pending until the metadata, or another answer, tells.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Follower {
    progress: Option<Progress>,
    /// When it last had all records of the leader.
    caught_up_at: Option<MonotonicTime>,
    fetched_at: Option<MonotonicTime>,
    /// The end of the leader's log at its last fetch.
    leader_end_at_fetch: Offset,
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
    /// `replica.lag.time.max.ms`.
    max_lag: Duration,
}

impl Leader {
    /// A new leader. The members of the ISR count as caught up now, so each has `max_lag` to fetch.
    pub fn new(role: Role, start: EpochStart, max_lag: Duration, now: MonotonicTime) -> Self {
        let mut leader = Self {
            role,
            epoch_start: start.offset,
            high_watermark: start.high_watermark,
            followers: BTreeMap::new(),
            pending: None,
            max_lag,
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
            });
        }
    }

    pub fn role(&self) -> &Role {
        &self.role
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
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
        self.role = role;
        self.make_followers(now);
    }

    /// The controller has answered the pending change.
    pub fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Refused => self.pending = None,
            Answer::Committed | Answer::Unknown => {}
        }
    }

    /// A follower fetches from the end of its log. If it has caught up, returns a change of the ISR with it.
    pub fn on_fetch(
        &mut self,
        follower: NodeId,
        progress: Progress,
        log: LeaderLog,
        now: MonotonicTime,
    ) -> Option<IsrChange> {
        let state = self.followers.get_mut(&follower)?;
        let leader_end = log.progress.end;
        if progress.end >= leader_end {
            state.caught_up_at = state.caught_up_at.max(Some(now));
        } else if progress.end >= state.leader_end_at_fetch {
            // It has all records that the leader had at its previous fetch.
            state.caught_up_at = state.caught_up_at.max(state.fetched_at);
        }
        state.progress = Some(progress);
        state.fetched_at = Some(now);
        state.leader_end_at_fetch = leader_end;
        let joins = self.pending.is_none()
            && !self.role.isr.contains(&follower)
            && progress.counted >= self.high_watermark
            && progress.end >= self.epoch_start;
        joins.then(|| self.propose(|isr| _ = isr.insert(follower)))
    }

    /// If members of the ISR have not caught up for longer than the maximal lag, returns a change of the ISR without
    /// them.
    pub fn on_tick(&mut self, log: LeaderLog, now: MonotonicTime) -> Option<IsrChange> {
        if self.pending.is_some() {
            return None;
        }
        let mut lagging = self.role.isr.clone();
        lagging.retain(|id| self.is_lagging(*id, log.progress.end, now));
        if lagging.is_empty() {
            return None;
        }
        Some(self.propose(|isr| isr.retain(|id| !lagging.contains(id))))
    }

    fn is_lagging(&self, id: NodeId, leader_end: Offset, now: MonotonicTime) -> bool {
        let Some(follower) = self.followers.get(&id) else {
            return false;
        };
        let is_behind = follower.progress.map(|progress| progress.end) != Some(leader_end);
        is_behind && !self.is_recently_caught_up(follower, now)
    }

    fn is_recently_caught_up(&self, follower: &Follower, now: MonotonicTime) -> bool {
        let at = follower.caught_up_at;
        at.is_some_and(|at| now <= at.after(self.max_lag))
    }

    fn propose(&mut self, change: impl FnOnce(&mut BTreeSet<NodeId>)) -> IsrChange {
        let mut isr: BTreeSet<NodeId> = self.role.isr.iter().copied().collect();
        change(&mut isr);
        let replicas = self.role.replicas.iter().copied();
        let change = IsrChange {
            isr: replicas.filter(|id| isr.contains(id)).collect(),
            partition_epoch: self.role.partition_epoch,
        };
        self.pending = Some(change.clone());
        change
    }

    /// Whether acks=all must be refused, because the ISR is smaller than the effective min ISR.
    pub fn has_too_few_in_sync(&self, min_insync_replicas: usize) -> bool {
        self.role.isr.len() < self.role.effective_min_isr(min_insync_replicas)
    }

    /// The new high watermark, if it may advance. The owner moves it in the log and then calls [`Leader::advanced`].
    pub fn next_high_watermark(&self, log: LeaderLog, now: MonotonicTime) -> Option<Offset> {
        if self.has_too_few_in_sync(log.min_insync_replicas) {
            return None;
        }
        let mut target = log.progress.counted;
        for (id, follower) in &self.followers {
            let counted = follower
                .progress
                .map_or(Offset(0), |progress| progress.counted);
            if counted < target && self.is_waited_for(*id, follower, now) {
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
    /// recently and will join.
    fn is_waited_for(&self, id: NodeId, follower: &Follower, now: MonotonicTime) -> bool {
        let joins = |change: &IsrChange| change.isr.contains(&id);
        self.role.isr.contains(&id)
            || self.pending.as_ref().is_some_and(joins)
            || (follower.progress.is_some() && self.is_recently_caught_up(follower, now))
    }
}
