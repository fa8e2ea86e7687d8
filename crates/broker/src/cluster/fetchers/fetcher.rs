//! Replicates the partitions of this node from one other broker: one fetch after the other, over a session (KIP-227).
//!
//! What a partition asks for next, and what it does with the answer, is decided by `ottla_replica`. This file speaks with
//! the leader. A fetch does not wait for the flush of what the one before has brought. While a fetch waits for records, a
//! flush that ends is told over a second connection, because the leader acknowledges no record before it hears of it.
//! A waiting fetch is given up when there are further partitions to fetch.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_client::{ClientError, Connection, Options};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex};
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_protocol::messages::{ErrorCode, FetchResponseData};
use ottla_protocol::time::MonotonicTime;
use ottla_replica::PartitionId;
use ottla_replica::partition::{Fetched, LeaderAnswer};
use ottla_replication::follower::EpochEnd;
use ottla_replication::{FollowerFetch, LeaderOffsets, Replica};
use tokio::sync::watch;

use super::agenda::{self, Agenda, Partitions};
use super::requests::{self, EARLIEST, LATEST, list_offsets, offset_of};
use super::session::Session;
use crate::cluster::lost_leaders::LostLeaders;
use crate::config::ReplicationConfig;
use crate::internal_topics::is_internal;
use crate::process::clock::Clock;
use crate::replicas::partition::{Partition, reader};
use crate::replicas::{Found, Replicas};

/// The wait after a failed connection. It doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// Failures in a row after which the address of a leader is doubted: more than two seconds. The controller would have fenced
/// a dead one by then.
const UNREACHABLE_AFTER: u32 = 6;
/// How long a leader may take to accept a connection, and to tell its versions. Then another attempt begins.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// How long packets to a leader may stay unconfirmed: the path is cut, or the leader's machine has vanished.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(2);
/// The time between two waiting fetches that are given up for further partitions.
const BETWEEN_CUTS: Duration = Duration::from_millis(100);

/// How soon to look again at a partition whose disk is below the reserve.
const WITHOUT_SPACE: Duration = Duration::from_secs(1);

/// How soon to look again at a partition that must keep to `follower.replication.throttled.rate`.
const THROTTLED: Duration = Duration::from_millis(250);

/// A partition, and what it asks for.
type Asking = (Arc<Partition>, FollowerFetch);

/// The broker to fetch from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub leader: NodeId,
    /// `host:port`.
    pub address: String,
    /// The epoch of its registration: another one for each start of its process.
    pub epoch: i64,
}

/// Fetches what this node follows at one leader.
#[derive(Debug)]
pub struct Fetcher {
    source: Source,
    own: Replica,
    config: ReplicationConfig,
    replicas: Arc<Replicas>,
    lost_leaders: Arc<LostLeaders>,
    clock: Clock,
    options: Options,
    fetching: Option<Connection>,
    /// Tells what is flushed while `fetching` waits.
    telling: Option<Connection>,
    agenda: Agenda,
    session: Session,
    /// What the replicas without room tell that are in the ISR.
    leaving: BTreeMap<PartitionId, FollowerFetch>,
    /// Failures in a row; the first is logged.
    failures: u32,
    /// When a waiting fetch may be given up again.
    may_cut_at: MonotonicTime,
    /// Whether the partition that was looked at last lacked space.
    is_short: bool,
}

impl Fetcher {
    /// A fetcher of the node `own`, whose partitions are `replicas`.
    pub fn new(
        source: Source,
        own: Replica,
        config: &ReplicationConfig,
        replicas: Arc<Replicas>,
        lost_leaders: Arc<LostLeaders>,
    ) -> Self {
        Self {
            lost_leaders,
            options: Options {
                client_id: format!("ottla-follower-{}", own.node),
                connect_timeout: config.socket_timeout.min(CONNECTED_WITHIN),
                request_timeout: config.socket_timeout,
                unconfirmed_for: Some(UNCONFIRMED_FOR),
                ..Options::default()
            },
            source,
            own,
            config: config.clone(),
            clock: replicas.clock(),
            replicas,
            fetching: None,
            telling: None,
            agenda: Agenda::default(),
            session: Session::default(),
            leaving: BTreeMap::new(),
            failures: 0,
            may_cut_at: MonotonicTime::default(),
            is_short: false,
        }
    }

    /// Replicates what is assigned, until it is dropped or the sender of `assigned` is.
    pub async fn run(mut self, mut assigned: watch::Receiver<Arc<Partitions>>) {
        let mut late = self.replicas.follow_late_changes();
        loop {
            let partitions = Arc::clone(&assigned.borrow_and_update());
            for id in self.agenda.assign(&partitions) {
                self.session.forget(id);
            }
            let (clock, may_cut_at) = (self.clock, self.may_cut_at);
            tokio::select! {
                biased;
                () = self.round() => {}
                extended = extended(&mut assigned, &partitions) => {
                    if !extended {
                        return;
                    }
                    clock.sleep_until(Some(may_cut_at)).await;
                    self.may_cut_at = clock.monotonic().after(BETWEEN_CUTS);
                    self.disconnect();
                }
                Ok(()) = late.changed() => {
                    self.agenda.add_all();
                    self.disconnect();
                }
            }
        }
    }

    /// One fetch, or a wait until there is something to fetch.
    async fn round(&mut self) {
        let lost = self.look();
        if lost.is_empty() && self.session.is_empty() && self.leaving.is_empty() {
            self.clock.sleep_until(self.agenda.next_try()).await;
            return;
        }
        match self.fetch(lost).await {
            Ok(()) => {
                self.failures = 0;
                self.lost_leaders.on_reached(self.source.leader);
            }
            Err(error) => {
                let wait = self.failed(&error);
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Gives up the connections. The next request names all partitions, because a leader ends what it cannot answer.
    fn disconnect(&mut self) {
        self.fetching = None;
        self.telling = None;
        self.session.restart();
    }

    fn failed(&mut self, error: &ClientError) -> Duration {
        let Source {
            leader, address, ..
        } = &self.source;
        if self.failures == 0 {
            self.lost_leaders.on_lost(*leader, self.clock.monotonic());
            tracing::warn!(leader = leader.0, address, %error, "cannot fetch from a leader; trying again");
        }
        let is_unreachable = matches!(
            error,
            ClientError::Connect { .. } | ClientError::Resolve { .. }
        );
        if self.failures == UNREACHABLE_AFTER && is_unreachable {
            tracing::warn!(leader = leader.0, address, %error, "a leader cannot be reached although the controller hears from it: check \
                that its advertised.listeners has an address that this broker reaches");
        }
        self.disconnect();
        let backoff = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        backoff.min(LONGEST_BACKOFF)
    }

    /// Asks the partitions that are due what they fetch next. Returns those that ask for the offsets of the leader's log
    /// instead.
    fn look(&mut self) -> Vec<Asking> {
        let now = self.clock.now();
        let unflushed: Vec<PartitionId> = self.session.unflushed().map(|(id, _)| id).collect();
        for id in unflushed {
            self.agenda.add(id);
        }
        let due = self.agenda.take(now.monotonic);
        let replicas = Arc::clone(&self.replicas);
        let look = || {
            let lost = due.into_iter().filter_map(|id| self.look_at(id));
            lost.collect()
        };
        replicas.disk_work().run(look)
    }

    fn look_at(&mut self, id: PartitionId) -> Option<Asking> {
        let now = self.clock.now();
        if let Found::Here(partition) = self.replicas.by_id(id.0, id.1) {
            if self.lacks_space(&partition) {
                self.agenda.pause(id, now.monotonic.after(WITHOUT_SPACE));
                self.session.forget(id);
                self.ask_to_leave(&partition);
                return None;
            }
            if partition.must_keep_to_rate()
                && self.replicas.quotas().follower.is_exceeded(now.monotonic)
            {
                self.agenda.pause(id, now.monotonic.after(THROTTLED));
                self.session.forget(id);
                return None;
            }
            match self.replicas.node().next_fetch(&partition, now) {
                Some(next) if next.leader != self.source.leader => {}
                Some(next) if next.wants_offsets => {
                    self.session.forget(id);
                    return Some((partition, next.fetch));
                }
                Some(next) => {
                    self.session.want(id, next.fetch);
                    return None;
                }
                None => {
                    if let Some(time) = partition.next_try(now.monotonic) {
                        self.agenda.pause(id, time);
                    }
                }
            }
        }
        self.session.forget(id);
        None
    }

    /// A replica of the ISR without room asks its leader to take it out.
    fn ask_to_leave(&mut self, partition: &Arc<Partition>) {
        if !partition.role().isr.contains(&self.own.node) {
            return;
        }
        let next = self.replicas.node().next_fetch(partition, self.clock.now());
        if let Some(next) = next.filter(|next| next.leader == self.source.leader) {
            let fetch = FollowerFetch {
                has_room: false,
                ..next.fetch
            };
            self.leaving.insert(partition.id(), fetch);
        }
    }

    /// Whether the records of a partition must not be fetched, because its disk is below the reserve. Its leader takes this
    /// replica out of the ISR when it is told. Internal topics may use the reserve.
    fn lacks_space(&mut self, partition: &Partition) -> bool {
        if is_internal(&partition.topic) {
            return false;
        }
        let reserve = &partition.directory().reserve;
        let is_short = reserve.is_short();
        if is_short && !self.is_short {
            tracing::error!(
                log_dir = %reserve.path().display(),
                leader = self.source.leader.0,
                "below ottla.disk.reserve: nothing is fetched from the leader, and replicas here leave the in-sync replicas"
            );
        }
        self.is_short = is_short;
        is_short
    }

    async fn fetch(&mut self, lost: Vec<Asking>) -> Result<(), ClientError> {
        // Those that the leader does not take out are looked at again.
        let leaving = std::mem::take(&mut self.leaving);
        self.tell_beside(&leaving).await?;
        if lost.is_empty() && self.session.is_empty() {
            return Ok(());
        }
        let connection = match self.fetching.take() {
            Some(connection) if !connection.is_broken() => connection,
            _ => Connection::open(&self.source.address, &self.options).await?,
        };
        for (partition, fetch) in lost {
            // It is asked again if this is given up meanwhile.
            self.agenda.add(partition.id());
            let answer = self.find_offsets(&connection, &partition, &fetch).await?;
            self.take(&partition, &fetch, &answer);
        }
        let wait = self.longest_wait();
        let request = requests::fetch(&self.config, self.own, &self.session.request(), wait);
        let response = self.ask(&connection, &request).await?;
        if self.session.answered(&response) {
            self.take_all(&response);
        }
        self.fetching = Some(connection);
        Ok(())
    }

    /// How long the leader may hold a fetch: at most until a paused partition is due.
    fn longest_wait(&self) -> Duration {
        let now = self.clock.monotonic();
        let next_try = self.agenda.next_try();
        let pause = next_try.map_or(Duration::MAX, |time| time.0.saturating_sub(now.0));
        let wait = self.config.fetch_wait.min(pause);
        wait.max(Duration::from_millis(1))
    }

    /// Waits for the answer to a fetch. Meanwhile it tells the leader what is flushed.
    async fn ask(
        &mut self,
        connection: &Connection,
        request: &requests::FetchAsFollower,
    ) -> Result<FetchResponseData, ClientError> {
        let mut untold = self.untold();
        let mut due: BTreeSet<usize> = untold.keys().copied().collect();
        let mut answer = pin!(connection.call(request));
        let flushed = reader();
        loop {
            for place in &due {
                if let Some((partition, _)) = untold.get(place) {
                    partition.watch_end(&flushed, *place);
                }
            }
            self.tell(&mut untold, &due).await?;
            tokio::select! {
                answered = &mut answer => return answered,
                () = flushed.consumer().notified(), if !untold.is_empty() => {}
            }
            due = flushed.take_changed();
        }
    }

    /// The partitions whose leader does not know yet that all their records are flushed, each under a number.
    fn untold(&self) -> BTreeMap<usize, Asking> {
        let unflushed = self.session.unflushed();
        let here = unflushed.filter_map(|(id, fetch)| match self.replicas.by_id(id.0, id.1) {
            Found::Here(partition) => Some((partition, fetch)),
            _ => None,
        });
        here.enumerate().collect()
    }

    /// Tells how far the partitions `due` have flushed since they fetched. Those that have flushed all are removed.
    async fn tell(
        &mut self,
        untold: &mut BTreeMap<usize, Asking>,
        due: &BTreeSet<usize>,
    ) -> Result<(), ClientError> {
        let mut news = BTreeMap::new();
        for place in due {
            let Some((partition, fetch)) = untold.get_mut(place) else {
                continue;
            };
            let flushed = partition.with_log(|log| log.flushed_offset());
            let flushed = flushed.map(|flushed| flushed.min(fetch.offset));
            if flushed > fetch.flushed {
                fetch.flushed = flushed;
                news.insert(partition.id(), *fetch);
            }
            if fetch.flushed >= Some(fetch.offset) {
                untold.remove(place);
            }
        }
        self.tell_beside(&news).await
    }

    /// Tells the leader about partitions, over the second connection.
    async fn tell_beside(
        &mut self,
        news: &BTreeMap<PartitionId, FollowerFetch>,
    ) -> Result<(), ClientError> {
        if news.is_empty() {
            return Ok(());
        }
        let connection = match self.telling.take() {
            Some(connection) if !connection.is_broken() => connection,
            _ => Connection::open(&self.source.address, &self.options).await?,
        };
        let alone = Session::without(news);
        let request = requests::fetch(&self.config, self.own, &alone, Duration::ZERO);
        // The records that it may bring are fetched anyway.
        connection.call(&request).await?;
        self.telling = Some(connection);
        Ok(())
    }

    async fn find_offsets(
        &self,
        connection: &Connection,
        partition: &Partition,
        fetch: &FollowerFetch,
    ) -> Result<LeaderAnswer<'static>, ClientError> {
        let mut found = [Offset(0); 2];
        for (place, timestamp) in found.iter_mut().zip([EARLIEST, LATEST]) {
            let request = list_offsets((self.own, partition), fetch.leader_epoch, timestamp);
            match offset_of(&connection.call(&request).await?) {
                Ok(offset) => *place = offset,
                Err(code) => return Ok(LeaderAnswer::Failed(code)),
            }
        }
        let [start, end] = found;
        Ok(LeaderAnswer::Offsets(LeaderOffsets { start, end }))
    }

    fn take_all(&mut self, response: &FetchResponseData) {
        let replicas = Arc::clone(&self.replicas);
        replicas.disk_work().run(|| {
            for topic in &response.responses {
                for data in &topic.partitions {
                    let id = (topic.topic_id, PartitionIndex(data.partition_index));
                    if let Some(fetch) = self.session.wanted(id)
                        && let Found::Here(partition) = self.replicas.by_id(id.0, id.1)
                    {
                        self.take(&partition, &fetch, &answer_of(data));
                        self.agenda.add(id);
                    }
                }
            }
        });
    }

    /// Hands an answer to its partition, and reports what it must not hide.
    fn take(&self, partition: &Arc<Partition>, fetch: &FollowerFetch, answer: &LeaderAnswer<'_>) {
        let now = self.clock.now();
        let losses = self.replicas.losses();
        let work = || partition.on_fetched(fetch, answer, now, &mut |loss| losses.removed(loss));
        if let LeaderAnswer::Records(fetched) = answer
            && partition.is_throttled_as_follower()
        {
            let bytes = fetched.records.len() as u64;
            self.replicas.quotas().follower.record(bytes, now.monotonic);
        }
        if let Err(error) = self.replicas.disk_work().run(work) {
            let (topic, partition) = (&*partition.topic, partition.index.0);
            tracing::warn!(topic, partition, %error, "cannot replicate a partition; trying again");
        }
    }
}

/// Completes with `true` once there are partitions beside those of `known`, or with `false` once nobody assigns any more.
async fn extended(
    assigned: &mut watch::Receiver<Arc<Partitions>>,
    known: &Arc<Partitions>,
) -> bool {
    loop {
        if assigned.changed().await.is_err() {
            return false;
        }
        if agenda::is_extended(known, &assigned.borrow_and_update()) {
            return true;
        }
    }
}

fn answer_of(data: &PartitionData) -> LeaderAnswer<'_> {
    let code = ErrorCode::from(data.error_code);
    if code != ErrorCode::None {
        return LeaderAnswer::Failed(code);
    }
    let diverging = &data.diverging_epoch;
    if diverging.epoch >= 0 && diverging.end_offset >= 0 {
        return LeaderAnswer::Diverging(EpochEnd {
            epoch: LeaderEpoch(diverging.epoch),
            end: Offset(diverging.end_offset),
        });
    }
    LeaderAnswer::Records(Fetched {
        records: data.records.as_deref().unwrap_or_default(),
        high_watermark: Offset(data.high_watermark),
        log_start: Offset(data.log_start_offset),
    })
}
