//! The metadata log: drives [`ControllerLog`] on the controller's thread, and performs what it wants.
//!
//! The thread touches no disk but that of the metadata log. While it was not run, time does not count: a controller that was
//! stopped for a while looks at the messages that have arrived before it misses its leader.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::{Quorum, QuorumEvent};
use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, MetadataImage, MetadataVersion, versions};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::MonotonicTime;
use ottla_quorum::{
    Arrived, ControllerLog, ControllerLogError, LogView, NeededSnapshot, NodeError, QuorumStatus,
    RaftNode, Replicas, SnapshotSchedule,
};
use tokio::sync::{mpsc, watch};

use super::controller::DrivenQuorum;
use super::quorum_peers::QuorumPeers;
use super::snapshot_fetch::{Announced, SnapshotFetch};
use super::threads::Thread;
use crate::cluster::quorum_inbox::QuorumInbox;
use crate::cluster::voter_changes::VoterChanges;
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
    log: ControllerLog<Disk>,
    /// Whether a snapshot must come before records that the log has too early.
    is_mending: bool,
    pace: Pace,
    next_tick: MonotonicTime,
    /// When to say that there is no leader.
    warn_at: MonotonicTime,
    inbox: Arc<QuorumInbox>,
    received: mpsc::Receiver<Arrived>,
    changes: VoterChanges,
    /// What was received and not looked at yet.
    arrived: Vec<Arrived>,
    peers: QuorumPeers,
    fetch: SnapshotFetch,
    status: watch::Sender<QuorumStatus>,
    view: watch::Sender<LogView<Disk>>,
    following: watch::Sender<Replicas>,
}

/// What a node needs around it.
pub struct Surroundings {
    pub pace: Pace,
    /// What the leader of a new cluster writes first.
    pub first: Vec<MetadataRecord>,
    /// Whether the log begins with records that Kafka reads only after a snapshot.
    pub is_mending: bool,
    pub inbox: Arc<QuorumInbox>,
    pub received: mpsc::Receiver<Arrived>,
    pub changes: VoterChanges,
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
            is_mending,
            inbox,
            received,
            changes,
            fetch,
            listener,
        } = around;
        let now = pace.clock.now();
        let snapshots = SnapshotSchedule::new(pace.snapshot_interval, now.wall);
        Self {
            next_tick: now.monotonic.after(pace.tick),
            warn_at: now.monotonic.after(WITHOUT_LEADER),
            is_mending,
            received,
            changes,
            arrived: Vec::new(),
            peers: QuorumPeers::new(Arc::clone(&inbox), listener),
            inbox,
            fetch,
            status: watch::Sender::new(node.status()),
            view: watch::Sender::new(node.view()),
            following: watch::Sender::default(),
            log: ControllerLog::new(node, first, snapshots, now.wall),
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

    /// Follows how far the other controllers are.
    pub fn follow_replicas(&self) -> watch::Receiver<Replicas> {
        self.following.subscribe()
    }

    /// Whether this controller is the only voter.
    pub fn is_alone(&self) -> bool {
        self.log.node().is_alone()
    }

    /// Writes a snapshot for a log that an earlier release of Ottla continued before the first records were in it.
    ///
    /// Kafka replays a long log in several steps, and the first step must contain the `metadata.version`. It does if the log
    /// begins with a snapshot. A start that wrote the records may have ended before the snapshot; then this one writes it.
    fn mend(&mut self, loader: &Loader) -> Result<(), NodeError> {
        let now = self.pace.clock.now().wall;
        let node = self.log.node_mut();
        let Some(job) = node.begin_snapshot(loader, now)? else {
            return Ok(());
        };
        match job.write() {
            Ok(written) => {
                node.adopt_snapshot(written)?;
                self.is_mending = false;
                tracing::warn!(
                    "an earlier release continued the metadata log before the cluster's first records were in it, and Apache Kafka \
                     would not start with that; a snapshot that begins with these records was written"
                );
            }
            Err(error) => tracing::warn!(%error, "cannot write a snapshot of the metadata"),
        }
        Ok(())
    }

    /// Performs what the log wants.
    fn perform(&mut self) {
        let outgoing = self.log.take_outgoing();
        for envelope in &outgoing.messages {
            self.peers.send(envelope);
        }
        if let Some(needed) = outgoing.needed {
            self.fetch_snapshot(needed);
        }
        if outgoing.has_news {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let node = self.log.node();
        self.view.send_modify(|view| *view = node.view_after(view));
        self.status.send_replace(node.status());
        self.publish_replicas();
    }

    fn publish_replicas(&self) {
        let replicas = self.log.node().replicas(self.pace.clock.now().wall);
        self.following.send_replace(replicas);
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

    fn fetch_snapshot(&self, needed: NeededSnapshot) {
        let NeededSnapshot { from, id, size } = needed;
        let Some(address) = self.peers.address(from) else {
            return;
        };
        let announced = Announced {
            address,
            epoch: self.log.node().epoch(),
            id,
            size,
        };
        self.fetch.start(announced, &self.inbox.arrived);
    }

    /// Writes a snapshot that is due, on a thread of its own.
    fn write_snapshot(&mut self) {
        let Some(job) = self.log.take_due_snapshot() else {
            return;
        };
        let done = self.inbox.arrived.clone();
        let write = move || {
            // Without a receiver the controller has ended, and needs no snapshot.
            let _ = done.blocking_send(Arrived::SnapshotWritten(job.write()));
        };
        if let Err(error) = Thread::start("metadata-snapshot", write) {
            self.log.on_snapshot_dropped();
            tracing::warn!(%error, "cannot start a thread for a snapshot of the metadata");
        }
    }

    fn set_time(&mut self) {
        self.log.set_time(self.pace.clock.now().wall);
    }
}

impl fmt::Debug for RaftQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)
    }
}

impl DrivenQuorum for RaftQuorum {
    async fn wait(&mut self) {
        let clock = self.pace.clock;
        tokio::select! {
            biased;
            received = self.received.recv() => self.arrived.extend(received),
            () = self.changes.wait() => {}
            () = clock.sleep_until(Some(self.next_tick)) => {}
        }
    }

    fn close(self) {
        if let Err(error) = self.log.close() {
            tracing::warn!(%error, "cannot close the metadata log; the next start recovers it");
        }
    }
}

impl Quorum for RaftQuorum {
    type Error = ControllerLogError;

    fn is_final(error: &ControllerLogError) -> bool {
        ControllerLog::<Disk>::is_final(error)
    }

    fn next_offset(&self) -> Offset {
        self.log.next_offset()
    }

    fn propose(
        &mut self,
        records: &[MetadataRecord],
        version: MetadataVersion,
    ) -> Result<(), ControllerLogError> {
        self.set_time();
        self.log.propose(records, version)
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, ControllerLogError> {
        self.set_time();
        while let Ok(arrived) = self.received.try_recv() {
            self.arrived.push(arrived);
        }
        for arrived in std::mem::take(&mut self.arrived) {
            self.log.on_arrived(arrived)?;
        }
        let now = self.pace.clock.monotonic();
        if now >= self.next_tick {
            self.log.on_tick(u64::from(random_number().unsigned_abs()));
            self.next_tick = now.after(self.pace.tick);
            self.peers.set_voters(&self.log.node().others());
            self.warn_without_leader(now);
            let silent = self.log.node().silent_leader();
            self.inbox.silent_leader.send_replace(silent);
            if let Some(leader) = silent {
                self.peers.try_to_reach(leader);
            }
            self.publish_replicas();
        }
        let wall = self.pace.clock.now().wall;
        self.changes.decide(self.log.node_mut(), wall);
        let events = self.log.events()?;
        self.changes.answer(self.log.node());
        self.perform();
        Ok(events)
    }

    fn on_applied(&mut self, loader: &Loader) -> Result<(), ControllerLogError> {
        if self.is_mending && loader.image().features.contains_key(versions::FEATURE) {
            self.mend(loader)?;
        }
        self.log.on_applied(loader)?;
        self.write_snapshot();
        Ok(())
    }

    fn first_records(&mut self, image: &MetadataImage) -> Vec<MetadataRecord> {
        self.log.first_records(image)
    }
}
