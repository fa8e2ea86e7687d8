//! Replicates the partitions of this node from one other broker: one fetch after the other, over a session (KIP-227).
//!
//! What a partition asks for next, and what it does with the answer, is decided by `ottla_replica`. This file speaks with
//! the leader. A fetch does not wait for the flush of what the one before has brought. While a fetch waits for records, a
//! flush that ends is told over a second connection, because the leader acknowledges no record before it hears of it.

mod requests;
mod session;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_client::{ClientError, Connection, Options};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex};
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_protocol::messages::{ErrorCode, FetchResponseData};
use ottla_replica::PartitionId;
use ottla_replica::partition::{Fetched, LeaderAnswer, NextFetch};
use ottla_replication::follower::EpochEnd;
use ottla_replication::{FollowerFetch, LeaderOffsets, Replica};

use self::requests::{EARLIEST, LATEST, fetch_as_follower, list_offsets, offset_of};
use self::session::Session;
use crate::cluster::losses;
use crate::process::clock::Clock;
use crate::replicas::Replicas;
use crate::replicas::partition::{Partition, reader};

/// How long a leader may hold a fetch that has no news (`replica.fetch.wait.max.ms`).
const MAX_WAIT: Duration = Duration::from_millis(500);
/// How long a leader may take to answer (`replica.socket.timeout.ms`).
const TIMEOUT: Duration = Duration::from_secs(30);
/// How soon to look again while no partition has anything to fetch.
const PAUSE: Duration = Duration::from_millis(10);

/// The partitions of a fetch, with what each has asked for.
type Wanted = BTreeMap<PartitionId, (Arc<Partition>, NextFetch)>;

/// The broker to fetch from.
#[derive(Debug, Clone)]
pub struct Source {
    pub leader: NodeId,
    /// `host:port`.
    pub address: String,
}

/// Fetches what this node follows at one leader.
#[derive(Debug)]
pub struct Fetcher {
    source: Source,
    replicas: Arc<Replicas>,
    own: Replica,
    clock: Clock,
    max_wait: Duration,
    options: Options,
    fetching: Option<Connection>,
    /// Tells what is flushed while `fetching` waits.
    telling: Option<Connection>,
    session: Session,
    /// Failures in a row; the first is logged.
    failures: u32,
}

impl Fetcher {
    /// A fetcher of the node `own`, whose partitions are `replicas`.
    pub fn new(source: Source, own: Replica, replicas: Arc<Replicas>, clock: Clock) -> Self {
        Self {
            options: Options {
                client_id: format!("ottla-follower-{}", own.node),
                connect_timeout: TIMEOUT,
                request_timeout: TIMEOUT,
                ..Options::default()
            },
            source,
            replicas,
            own,
            clock,
            max_wait: MAX_WAIT,
            fetching: None,
            telling: None,
            session: Session::default(),
            failures: 0,
        }
    }

    /// Lets the leader hold a fetch for `max_wait` instead.
    #[must_use]
    pub fn waiting(self, max_wait: Duration) -> Self {
        Self { max_wait, ..self }
    }

    /// Replicates until it is dropped.
    pub async fn run(mut self) {
        loop {
            let wanted = self.wanted();
            if wanted.is_empty() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            match self.fetch(&wanted).await {
                Ok(()) => self.failures = 0,
                Err(error) => self.after(&error, &wanted),
            }
        }
    }

    /// What the partitions that follow this leader ask for.
    fn wanted(&self) -> Wanted {
        let now = self.clock.now();
        let node = self.replicas.node();
        let next = |partition: Arc<Partition>| {
            let next = node.next_fetch(&partition, now)?;
            (next.leader == self.source.leader).then(|| (partition.id(), (partition, next)))
        };
        let work = || self.replicas.all().into_iter().filter_map(next).collect();
        self.replicas.disk_work().run(work)
    }

    fn after(&mut self, error: &ClientError, wanted: &Wanted) {
        let Source { leader, address } = &self.source;
        if self.failures == 0 {
            tracing::warn!(leader = leader.0, address, %error, "cannot fetch from a leader; trying again");
        }
        self.failures = self.failures.saturating_add(1);
        self.fetching = None;
        self.telling = None;
        self.session = Session::default();
        for (partition, next) in wanted.values() {
            let failed = LeaderAnswer::Failed(ErrorCode::NetworkException);
            self.take(partition, &next.fetch, &failed);
        }
    }

    async fn fetch(&mut self, wanted: &Wanted) -> Result<(), ClientError> {
        let connection = match self.fetching.take() {
            Some(connection) if !connection.is_broken() => connection,
            _ => Connection::open(&self.source.address, &self.options).await?,
        };
        let (lost, ready): (Wanted, Wanted) = wanted
            .clone()
            .into_iter()
            .partition(|(_, (_, next))| next.wants_offsets);
        for (partition, next) in lost.values() {
            let answer = self
                .find_offsets(&connection, partition, &next.fetch)
                .await?;
            self.take(partition, &next.fetch, &answer);
        }
        let fetches = ready.iter().map(|(id, (_, next))| (*id, next.fetch));
        let request = self.session.request(fetches.collect());
        let request = fetch_as_follower(self.own, &request, self.max_wait);
        let response = self.ask(&connection, &request, &ready).await?;
        if self.session.answered(&response) {
            self.take_all(&response, &ready);
        }
        self.fetching = Some(connection);
        Ok(())
    }

    /// Waits for the answer to a fetch. Meanwhile it tells the leader what is flushed.
    async fn ask(
        &mut self,
        connection: &Connection,
        request: &requests::FetchAsFollower,
        wanted: &Wanted,
    ) -> Result<FetchResponseData, ClientError> {
        let mut untold: BTreeMap<_, _> = wanted
            .iter()
            .filter(|(_, (_, next))| next.fetch.flushed < Some(next.fetch.offset))
            .map(|(id, (partition, next))| (*id, (Arc::clone(partition), next.fetch)))
            .collect();
        let mut answer = pin!(connection.call(request));
        let flushed = reader();
        loop {
            for (partition, _) in untold.values() {
                partition.watch_end(&flushed);
            }
            self.tell(&mut untold).await?;
            tokio::select! {
                answered = &mut answer => return answered,
                () = flushed.consumer().notified(), if !untold.is_empty() => {}
            }
        }
    }

    /// Tells how far partitions have flushed since they fetched. Those that have flushed all are removed.
    async fn tell(
        &mut self,
        untold: &mut BTreeMap<PartitionId, (Arc<Partition>, FollowerFetch)>,
    ) -> Result<(), ClientError> {
        let mut news = BTreeMap::new();
        for (id, (partition, fetch)) in untold.iter_mut() {
            let flushed = partition.with_log(|log| log.flushed_offset());
            let flushed = flushed.map(|flushed| flushed.min(fetch.offset));
            if flushed > fetch.flushed {
                fetch.flushed = flushed;
                news.insert(*id, *fetch);
            }
        }
        untold.retain(|_, (_, fetch)| fetch.flushed < Some(fetch.offset));
        if news.is_empty() {
            return Ok(());
        }
        let connection = match self.telling.take() {
            Some(connection) if !connection.is_broken() => connection,
            _ => Connection::open(&self.source.address, &self.options).await?,
        };
        let request = fetch_as_follower(self.own, &Session::without(&news), Duration::ZERO);
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

    fn take_all(&self, response: &FetchResponseData, wanted: &Wanted) {
        for topic in &response.responses {
            for data in &topic.partitions {
                let id = (topic.topic_id, PartitionIndex(data.partition_index));
                if let Some((partition, next)) = wanted.get(&id) {
                    self.take(partition, &next.fetch, &answer_of(data));
                }
            }
        }
    }

    /// Hands an answer to its partition, and logs what it must not hide.
    fn take(&self, partition: &Arc<Partition>, fetch: &FollowerFetch, answer: &LeaderAnswer<'_>) {
        let now = self.clock.now();
        let work = || partition.on_fetched(fetch, answer, now);
        let (topic, index) = (&*partition.topic, partition.index.0);
        match self.replicas.disk_work().run(work) {
            Ok(followed) => {
                if let Some(loss) = &followed.loss {
                    losses::report(loss);
                }
            }
            Err(error) => {
                tracing::warn!(topic, partition = index, %error, "cannot replicate a partition; trying again");
            }
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
