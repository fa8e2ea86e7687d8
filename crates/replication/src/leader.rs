//! A partition's leader: the progress of its followers, its in-sync replicas, and the high watermark that follows from
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::time::MonotonicTime;

use crate::Role;

/// How far a replica's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// The end of the log.
    pub end: Offset,
    /// How far the records count: to the end, or where an acknowledgement waits for stable storage, as far as the replica
    /// is known to have flushed.
    pub counted: Offset,
}

impl Progress {
    /// A replica that counts up to the end of its log: under `page-cache`, or a follower that does not tell what it has
    /// flushed, as Apache Kafka's.
    pub fn to_end(end: Offset) -> Self {
        Self { end, counted: end }
    }
}

/// The leader's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderLog {
    /// How far it goes.
    pub progress: Progress,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
}

/// Where a leader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The end of its log, and so the first offset of its epoch.
    pub offset: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
}

/// A change of the ISR, to be proposed to the controller (AlterPartition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChange {
    /// The new ISR, in the order of the replicas.
    pub isr: Vec<NodeId>,
    /// The state that it is decided on.
    pub partition_epoch: i32,
}

/// How the controller answered a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is committed. What it led to arrives as a [`Role`].
    Committed,
    /// It is refused, and nothing has changed; another may be proposed.
    Refused,
    /// Nobody knows what became of it: it stays pending until the metadata or another answer says.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Follower {
    progress: Option<Progress>,
    /// When it last had all that the leader had.
    caught_up_at: Option<MonotonicTime>,
    fetched_at: Option<MonotonicTime>,
    /// The end of the leader's log at its last fetch.
    leader_end_at_fetch: Offset,
}

/// The state of a leader, for one leader epoch. Invariants:
///
/// - the high watermark never goes back;
/// - it is at most what each member of the maximal ISR counts (the ISR, and those that are about to join it);
/// - it does not move while the ISR is smaller than the effective min ISR;
/// - at most one change of the ISR is on its way to the controller.
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
    /// A node that becomes leader. The members of the ISR count as caught up: they get the whole of `max_lag` to fetch.
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

    /// What the metadata says.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The offset below which records are replicated.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The change of the ISR that is on its way.
    pub fn pending(&self) -> Option<&IsrChange> {
        self.pending.as_ref()
    }

    /// The metadata has changed the partition, under the same leader epoch: a change of the ISR or of the replicas.
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

    /// The controller has answered the change that was on its way.
    pub fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Refused => self.pending = None,
            Answer::Committed | Answer::Unknown => {}
        }
    }

    /// A follower fetches from the end of its log. Returns a change of the ISR to propose, where it has caught up.
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
            // It has all that there was at its fetch before this one.
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

    /// Looks for members of the ISR that have not caught up for longer than the maximal lag. Returns a change of the ISR to
    /// propose, without them.
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

    /// Whether acks=all is refused: fewer replicas are in sync than it needs.
    pub fn has_too_few_in_sync(&self, min_insync_replicas: usize) -> bool {
        self.role.isr.len() < self.role.effective_min_isr(min_insync_replicas)
    }

    /// How far the high watermark may go, if that is further than it is. The owner moves it in the log, and then calls
    /// [`Leader::advanced`].
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

    /// The high watermark is here now.
    pub fn advanced(&mut self, high_watermark: Offset) {
        assert!(
            high_watermark >= self.high_watermark,
            "a high watermark does not go back"
        );
        self.high_watermark = high_watermark;
    }

    /// Whether the high watermark waits for a follower: it is in the ISR or in the one that is on its way, or has caught up
    /// in time, so that it will join.
    fn is_waited_for(&self, id: NodeId, follower: &Follower, now: MonotonicTime) -> bool {
        let joins = |change: &IsrChange| change.isr.contains(&id);
        self.role.isr.contains(&id)
            || self.pending.as_ref().is_some_and(joins)
            || (follower.progress.is_some() && self.is_recently_caught_up(follower, now))
    }
}
