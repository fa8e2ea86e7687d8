//! Follows the metadata log of the controllers over the network: one fetch after the other, from the leader of the quorum.
//!
//! What is applied, and what to fetch next, is decided by [`ottla_quorum::Observer`]; where the leader is, by
//! [`LeaderSearch`]. This file speaks with the controller. It asks again after failures that pass, and ends with those that
//! do not: a foreign cluster, and a log that this release cannot follow.

mod requests;

use std::time::Duration;

use ottla_client::{ClientError, Connection, Options};
use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_protocol::messages::fetch_snapshot_response::PartitionSnapshot;
use ottla_protocol::messages::{ErrorCode, FetchResponseData, FetchSnapshotResponseData};
use ottla_quorum::{
    Contradiction, FollowerEnd, LeaderSearch, ObserveError, Observer, SnapshotId, Wanted,
};
use tokio::sync::watch;

use self::requests::fetch;
pub use self::requests::fetch_snapshot;
use super::remote_controller::{ActiveController, Seen};

/// How long a controller may hold a fetch that has no news.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// How long to wait after a failure. Kafka's `controller.quorum.retry.backoff.ms` is 20 ms.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a controller may take to answer (`controller.quorum.request.timeout.ms`).
const TIMEOUT: Duration = Duration::from_secs(2);

/// Who follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    /// The id of its metadata log directory.
    pub directory: Uuid,
    pub cluster_id: String,
}

/// Why the metadata cannot be followed any more.
#[derive(Debug, thiserror::Error)]
pub enum CannotFollow {
    /// The controllers belong to another cluster.
    #[error(
        "the controller at {address} is not of cluster {cluster_id}; check controller.quorum.bootstrap.servers, or the cluster.id in meta.properties"
    )]
    ForeignCluster { address: String, cluster_id: String },
    /// The log cannot be applied.
    #[error(transparent)]
    Log(#[from] ObserveError),
}

/// Why one request brought nothing. The next one may.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Call(#[from] ClientError),
    #[error("the controller answered {0:?}")]
    Refused(ErrorCode),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error("the controller's answer does not name the metadata partition")]
    Malformed,
    #[error(transparent)]
    Final(CannotFollow),
}

/// A follower of the metadata log.
#[derive(Debug)]
pub struct MetadataObserver {
    identity: Identity,
    observer: Observer,
    search: LeaderSearch,
    connection: Option<Connection>,
    options: Options,
    /// Failures in a row; the first is logged.
    failures: u32,
    /// Told of where the leader is, and how far it has committed.
    seen: watch::Sender<Seen>,
}

impl MetadataObserver {
    /// A follower that knows nothing yet. `bootstrap` are the addresses of controllers, as `host:port`.
    pub fn new(identity: Identity, bootstrap: Vec<String>) -> Self {
        Self {
            options: Options {
                client_id: format!("ottla-observer-{}", identity.node),
                connect_timeout: TIMEOUT,
                request_timeout: TIMEOUT,
                ..Options::default()
            },
            identity,
            observer: Observer::default(),
            search: LeaderSearch::new(bootstrap),
            connection: None,
            failures: 0,
            seen: watch::Sender::default(),
        }
    }

    /// Follows where the active controller is, the leader of the metadata log, and how far it has committed.
    pub fn follow_active(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// The committed metadata, and the offset up to which it is applied.
    pub fn image(&self) -> (&MetadataImage, Offset) {
        (self.observer.image(), self.observer.applied())
    }

    /// Whether all is applied that was committed when the leader was asked last. A log without records is not caught up
    /// with: its leader has not begun.
    pub fn is_caught_up(&self) -> bool {
        let end = self.observer.high_watermark();
        end > Offset(0) && self.observer.applied() >= end && self.failures == 0
    }

    /// Waits for more of the log, and applies it. Some records change nothing in the metadata. Goes on through failures
    /// that pass.
    pub async fn next(&mut self) -> Result<Changes, CannotFollow> {
        loop {
            let before = self.observer.applied();
            let asked = self.ask().await;
            self.tell_active();
            match asked {
                Ok(changes) => {
                    self.failures = 0;
                    if self.observer.applied() > before {
                        return Ok(changes.unwrap_or_default());
                    }
                }
                Err(Failed::Final(error)) => return Err(error),
                Err(error) => self.after(&error).await,
            }
        }
    }

    fn tell_active(&self) {
        let active = match self.search.leader_address() {
            Some(address) => ActiveController::At(address.to_owned()),
            None => ActiveController::Unknown,
        };
        let seen = Seen {
            active,
            end: self.observer.high_watermark(),
        };
        self.seen.send_if_modified(|known| {
            let is_new = *known != seen;
            *known = seen;
            is_new
        });
    }

    async fn after(&mut self, error: &Failed) {
        if self.failures == 0 {
            tracing::warn!(controller = self.search.address(), %error, "cannot follow the metadata; trying again");
        }
        self.failures = self.failures.saturating_add(1);
        self.connection = None;
        tokio::time::sleep(PAUSE).await;
    }

    async fn ask(&mut self) -> Result<Option<Changes>, Failed> {
        let connection = match self.connection.take() {
            Some(connection) if connection.address() == self.search.address() => connection,
            _ => self.open().await?,
        };
        let asked = match self.observer.wanted() {
            Wanted::Batches(end) => self.fetch(&connection, end).await,
            Wanted::Snapshot { id, position } => {
                self.fetch_snapshot(&connection, id, position).await
            }
        };
        if asked.is_ok() && !connection.is_broken() {
            self.connection = Some(connection);
        }
        asked
    }

    async fn open(&mut self) -> Result<Connection, Failed> {
        let opened = Connection::open(self.search.address(), &self.options).await;
        opened.map_err(|error| {
            self.search.on_failure();
            error.into()
        })
    }

    async fn fetch(
        &mut self,
        connection: &Connection,
        end: FollowerEnd,
    ) -> Result<Option<Changes>, Failed> {
        let known = (self.search.epoch(), self.observer.high_watermark());
        let request = fetch(&self.identity, end, known, MAX_WAIT);
        let answered = connection.call_within(&request, TIMEOUT + MAX_WAIT).await;
        let answer = answered.inspect_err(|_| self.search.on_failure())?;
        for node in &answer.node_endpoints {
            let id = NodeId(node.node_id);
            self.search.on_endpoint(id, node.host.as_str(), node.port);
        }
        let partition = self.only_partition(connection, answer)?;
        let leader = &partition.current_leader;
        let (leader, epoch) = (NodeId(leader.leader_id), LeaderEpoch(leader.leader_epoch));
        self.on_answer(leader, epoch, partition.error_code)?;
        self.apply(&partition)
            .map_err(|error| Failed::Final(error.into()))
    }

    fn only_partition(
        &self,
        connection: &Connection,
        answer: FetchResponseData,
    ) -> Result<PartitionData, Failed> {
        self.check_cluster(connection, answer.error_code)?;
        let mut topics = answer.responses.into_iter();
        let topic = topics.next().ok_or(Failed::Malformed)?;
        topic.partitions.into_iter().next().ok_or(Failed::Malformed)
    }

    fn apply(&mut self, partition: &PartitionData) -> Result<Option<Changes>, ObserveError> {
        let (snapshot, diverging) = (&partition.snapshot_id, &partition.diverging_epoch);
        if snapshot.end_offset >= 0 {
            self.observer.on_snapshot(SnapshotId {
                end_offset: Offset(snapshot.end_offset),
                epoch: LeaderEpoch(snapshot.epoch),
            });
            return Ok(None);
        }
        if diverging.end_offset >= 0 {
            self.observer.on_diverging(FollowerEnd {
                offset: Offset(diverging.end_offset),
                last_epoch: LeaderEpoch(diverging.epoch),
            })?;
            return Ok(None);
        }
        let records = partition.records.as_deref().unwrap_or_default();
        let high_watermark = Offset(partition.high_watermark);
        self.observer.on_batches(records, high_watermark).map(Some)
    }

    async fn fetch_snapshot(
        &mut self,
        connection: &Connection,
        id: SnapshotId,
        position: u64,
    ) -> Result<Option<Changes>, Failed> {
        let request = fetch_snapshot(&self.identity, id, position, self.search.epoch());
        let answered = connection.call(&request).await;
        let answer = answered.inspect_err(|_| self.search.on_failure())?;
        let piece = self.only_piece(connection, answer)?;
        let leader = &piece.current_leader;
        let (leader, epoch) = (NodeId(leader.leader_id), LeaderEpoch(leader.leader_epoch));
        if piece.error_code == ErrorCode::SnapshotNotFound.code() {
            self.observer.on_snapshot_gone();
        }
        self.on_answer(leader, epoch, piece.error_code)?;
        let place = u64::try_from(piece.position).unwrap_or(u64::MAX);
        let size = u64::try_from(piece.size).unwrap_or(0);
        self.observer
            .on_piece(place, &piece.unaligned_records, size)
            .map_err(|error| Failed::Final(error.into()))
    }

    fn only_piece(
        &self,
        connection: &Connection,
        answer: FetchSnapshotResponseData,
    ) -> Result<PartitionSnapshot, Failed> {
        self.check_cluster(connection, answer.error_code)?;
        let mut topics = answer.topics.into_iter();
        let topic = topics.next().ok_or(Failed::Malformed)?;
        topic.partitions.into_iter().next().ok_or(Failed::Malformed)
    }

    fn check_cluster(&self, connection: &Connection, code: i16) -> Result<(), Failed> {
        if code == ErrorCode::InconsistentClusterId.code() {
            return Err(Failed::Final(CannotFollow::ForeignCluster {
                address: connection.address().to_owned(),
                cluster_id: self.identity.cluster_id.clone(),
            }));
        }
        refused(code)
    }

    /// Takes in who leads.
    fn on_answer(&mut self, leader: NodeId, epoch: LeaderEpoch, code: i16) -> Result<(), Failed> {
        let refused = refused(code);
        self.search.on_answer(leader, epoch, refused.is_err())?;
        refused
    }
}

fn refused(code: i16) -> Result<(), Failed> {
    match ErrorCode::from(code) {
        ErrorCode::None => Ok(()),
        code => Err(Failed::Refused(code)),
    }
}
