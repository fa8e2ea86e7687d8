//! The metadata log of several controllers: drives [`RaftNode`] on the controller's thread, and performs its effects.
//!
//! The thread touches no disk but that of the metadata log. While it was not run, time does not count: a controller that was
//! stopped for a while looks at the messages that have arrived before it misses its leader.

use std::sync::Arc;
use std::time::Duration;

use ottla_controller::{Quorum, QuorumEvent};
use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, MetadataImage, MetadataVersion, ottla_configs, versions};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::MonotonicTime;
use ottla_quorum::{
    LogView, NodeError, NotProposed, QuorumNews, QuorumStatus, RaftNode, SnapshotId,
    SnapshotSchedule,
};
use tokio::sync::{mpsc, watch};

use super::controller::DrivenQuorum;
use super::quorum_peers::QuorumPeers;
use super::snapshot_fetch::{Announced, SnapshotFetch};
use super::threads::Thread;
use crate::cluster::quorum_inbox::{Arrived, QuorumInbox};
use crate::process::clock::Clock;
use crate::process::random::random_number;

/// A quorum without a leader is reported after so long.
const WITHOUT_LEADER: Duration = Duration::from_secs(5);
const WARN_AGAIN: Duration = Duration::from_mins(1);

/// How the thread drives the node.
#[derive(Debug, Clone)]
pub struct Pace {
    pub clock: Clock,
    /// Between two ticks of the node.
    pub tick: Duration,
    /// `metadata.log.max.snapshot.interval.ms`.
    pub snapshot_interval: Option<Duration>,
}

/// The metadata log as the controller's thread follows and writes it.
pub struct RaftQuorum {
    node: RaftNode<Disk>,
    pace: Pace,
    next_tick: MonotonicTime,
    /// When to say that there is no leader.
    warn_at: MonotonicTime,
    /// What the leader of a new cluster writes first.
    first: Vec<MetadataRecord>,
    inbox: Arc<QuorumInbox>,
    received: mpsc::Receiver<Arrived>,
    /// What was received and not looked at yet.
    arrived: Vec<Arrived>,
    peers: QuorumPeers,
    fetch: SnapshotFetch,
    is_writing_snapshot: bool,
    snapshots: SnapshotSchedule,
    status: watch::Sender<QuorumStatus>,
    view: watch::Sender<LogView<Disk>>,
    events: Vec<QuorumEvent>,
}

/// Why the log has ended, or a proposal was refused.
#[derive(Debug, thiserror::Error)]
pub enum RaftFailure {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Proposal(#[from] NotProposed),
}

/// What a node needs around it.
pub struct Surroundings {
    pub pace: Pace,
    /// What the leader of a new cluster writes first.
    pub first: Vec<MetadataRecord>,
    pub inbox: Arc<QuorumInbox>,
    pub received: mpsc::Receiver<Arrived>,
    pub fetch: SnapshotFetch,
    /// The name of the controllers' listener.
    pub listener: String,
}

impl RaftQuorum {
    /// Goes on with an opened node.
    pub fn new(node: RaftNode<Disk>, around: Surroundings) -> Self {
        let Surroundings {
            pace,
            first,
            inbox,
            received,
            fetch,
            listener,
        } = around;
        let now = pace.clock.now();
        Self {
            next_tick: now.monotonic.after(pace.tick),
            warn_at: now.monotonic.after(WITHOUT_LEADER),
            snapshots: SnapshotSchedule::new(pace.snapshot_interval, now.wall),
            first,
            received,
            arrived: Vec::new(),
            peers: QuorumPeers::new(Arc::clone(&inbox), listener),
            inbox,
            fetch,
            is_writing_snapshot: false,
            status: watch::Sender::new(node.status()),
            view: watch::Sender::new(node.view()),
            events: Vec::new(),
            node,
            pace,
        }
    }

    /// Follows who leads the log, and how far it has come.
    pub fn follow_status(&self) -> watch::Receiver<QuorumStatus> {
        self.status.subscribe()
    }

    /// Follows what other nodes may read of the metadata log.
    pub fn follow_view(&self) -> watch::Receiver<LogView<Disk>> {
        self.view.subscribe()
    }

    fn on_arrived(&mut self, arrived: Arrived) -> Result<(), NodeError> {
        match arrived {
            Arrived::Message(bytes) => {
                if let Err(problem) = self.node.on_message(bytes) {
                    tracing::warn!(%problem, "a message of another controller was dropped");
                }
            }
            Arrived::ProcessEnded(node) => self.node.on_process_ended(node),
            Arrived::SnapshotFetched(id) => self.node.on_snapshot_fetched(id)?,
            Arrived::SnapshotWritten(written) => {
                self.is_writing_snapshot = false;
                match written {
                    Ok(written) => self.node.adopt_snapshot(written)?,
                    Err(error) => {
                        tracing::warn!(%error, "cannot write a snapshot of the metadata");
                    }
                }
            }
        }
        Ok(())
    }

    /// Has the node make durable what has changed, and performs what it wants.
    fn perform(&mut self) -> Result<(), NodeError> {
        let effects = self.node.ready(self.pace.clock.now().wall)?;
        for envelope in &effects.messages {
            self.peers.send(envelope);
        }
        let has_news = !effects.news.is_empty();
        for news in effects.news {
            self.hear(news);
        }
        if has_news {
            self.publish();
        }
        Ok(())
    }

    fn publish(&mut self) {
        let status = self.node.status();
        self.view
            .send_modify(|view| *view = self.node.view_after(view));
        self.status.send_replace(status);
    }

    fn hear(&mut self, news: QuorumNews) {
        match news {
            QuorumNews::Committed { end, records, .. } => {
                self.events.push(QuorumEvent::Committed { end, records });
            }
            QuorumNews::Restored { id, image } => {
                tracing::info!(snapshot = %id.file_name(), "the metadata goes on after a snapshot of the leader");
                let end = id.end_offset;
                self.events.push(QuorumEvent::Restored { end, image });
            }
            QuorumNews::LeadershipGained { epoch, .. } => {
                tracing::info!(%epoch, "this controller is active");
                self.events.push(QuorumEvent::LeadershipGained);
            }
            QuorumNews::LeadershipLost { epoch } => {
                tracing::info!(%epoch, "this controller is not active any more");
                self.events.push(QuorumEvent::LeadershipLost);
            }
            QuorumNews::Leader {
                epoch,
                leader: Some(leader),
            } => tracing::info!(%epoch, controller = leader.0, "a controller leads"),
            QuorumNews::Leader {
                epoch,
                leader: None,
            } => tracing::debug!(%epoch, "no controller leads that this one knows"),
            QuorumNews::SnapshotNeeded { from, id, size } => self.fetch_snapshot(from, id, size),
        }
    }

    /// Says that changes of metadata wait, when there has been no leader for a while.
    fn warn_without_leader(&mut self, now: MonotonicTime) {
        let status = self.status.borrow();
        if status.leader.is_some() {
            self.warn_at = now.after(WITHOUT_LEADER);
        } else if now >= self.warn_at {
            self.warn_at = now.after(WARN_AGAIN);
            let voters: Vec<String> = status
                .voters
                .iter()
                .map(|voter| voter.node_id.to_string())
                .collect();
            tracing::error!(
                epoch = %status.epoch,
                voters = voters.join(","),
                needed = voters.len() / 2 + 1,
                "the metadata quorum has no leader: changes of metadata fail, reads and writes of records go on; start the \
                 controllers that are down, and see that they reach each other"
            );
        }
    }

    fn fetch_snapshot(&mut self, from: NodeId, id: SnapshotId, size: u64) {
        let Some(address) = self.peers.address(from) else {
            return;
        };
        let announced = Announced {
            address,
            epoch: self.node.epoch(),
            id,
            size,
        };
        self.fetch.start(announced, &self.inbox.arrived);
    }

    /// Begins a snapshot when one is due, on a thread of its own.
    fn snapshot(&mut self, loader: &Loader) -> Result<(), NodeError> {
        let now = self.pace.clock.now().wall;
        if self.is_writing_snapshot || !self.snapshots.is_due(self.node.is_snapshot_due(), now) {
            return Ok(());
        }
        let Some(job) = self.node.begin_snapshot(loader, now)? else {
            return Ok(());
        };
        let done = self.inbox.arrived.clone();
        let write = move || {
            // Without a receiver the controller has ended, and needs no snapshot.
            let _ = done.blocking_send(Arrived::SnapshotWritten(job.write()));
        };
        match Thread::start("metadata-snapshot", write) {
            Ok(_) => self.is_writing_snapshot = true,
            Err(error) => {
                tracing::warn!(%error, "cannot start a thread for a snapshot of the metadata");
            }
        }
        Ok(())
    }
}

impl DrivenQuorum for RaftQuorum {
    async fn wait(&mut self) {
        let clock = self.pace.clock;
        tokio::select! {
            biased;
            received = self.received.recv() => self.arrived.extend(received),
            () = clock.sleep_until(Some(self.next_tick)) => {}
        }
    }

    fn close(self) {
        if let Err(error) = self.node.close() {
            tracing::warn!(%error, "cannot close the metadata log; the next start recovers it");
        }
    }
}

impl Quorum for RaftQuorum {
    type Error = RaftFailure;

    fn is_final(error: &RaftFailure) -> bool {
        matches!(error, RaftFailure::Node(_))
    }

    fn next_offset(&self) -> Offset {
        self.node.next_offset()
    }

    fn propose(
        &mut self,
        records: &[MetadataRecord],
        version: MetadataVersion,
    ) -> Result<(), RaftFailure> {
        let epoch = self.node.led_epoch().ok_or(NotProposed::NotLeader)?;
        let now = self.pace.clock.now().wall;
        self.node.propose(epoch, records, version, now)?;
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, RaftFailure> {
        while let Ok(arrived) = self.received.try_recv() {
            self.arrived.push(arrived);
        }
        for arrived in std::mem::take(&mut self.arrived) {
            self.on_arrived(arrived)?;
        }
        let now = self.pace.clock.monotonic();
        if now >= self.next_tick {
            self.node.on_tick(u64::from(random_number().unsigned_abs()));
            self.next_tick = now.after(self.pace.tick);
            self.peers.set_voters(&self.node.all_voters());
            self.warn_without_leader(now);
        }
        self.perform()?;
        Ok(std::mem::take(&mut self.events))
    }

    fn on_applied(&mut self, loader: &Loader) -> Result<(), RaftFailure> {
        self.snapshot(loader)?;
        Ok(())
    }

    /// Those of the cluster if it has none, else what settles the configs that an older leader has left.
    fn first_records(&mut self, image: &MetadataImage) -> Vec<MetadataRecord> {
        if !image.features.contains_key(versions::FEATURE) {
            return self.first.clone();
        }
        let settled = ottla_configs::settle(image).into_iter();
        settled.map(MetadataRecord::from).collect()
    }
}
