//! The metadata log over Raft as a controller follows and writes it: [`RaftNode`] behind the interface [`Quorum`].
//!
//! Synchronous. The owner passes in what has arrived and the ticks of its clock, gives the controller its turns, and
//! performs what [`ControllerLog::take_outgoing`] returns. It writes snapshots, and fetches those of the leader. The
//! broker's thread and the simulation own one each.

use bytes::Bytes;
use ottla_controller::{Quorum, QuorumEvent};
use ottla_log::files::Files;
use ottla_metadata::{Loader, MetadataImage, MetadataVersion, ottla_configs, versions};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;

use crate::checkpoint::{SnapshotId, WriteError};
use crate::metadata_log::{SnapshotJob, WrittenSnapshot};
use crate::raft::{Envelope, NodeError, NotProposed, QuorumNews, RaftNode};
use crate::snapshot_schedule::SnapshotSchedule;
use crate::voter::Voter;

/// What the owner was told from outside.
#[derive(Debug)]
pub enum Arrived {
    /// A Raft message of another controller, not checked yet.
    Message(Bytes),
    /// Another controller has connected, and said who it is.
    Hello(Voter),
    /// The process of another controller has ended: its connection was reset, and a new one refused.
    ProcessEnded(NodeId),
    /// Another controller was silent, and attempts to connect to it are refused or not answered.
    Unreachable(NodeId),
    /// This process is about to stop: another controller should lead.
    Stopping,
    /// A snapshot of the leader is in its place.
    SnapshotFetched(SnapshotId),
    /// A snapshot of this controller is written.
    SnapshotWritten(Result<WrittenSnapshot, WriteError>),
}

/// A snapshot of the leader from which this controller must go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeededSnapshot {
    pub from: NodeId,
    pub id: SnapshotId,
    /// In bytes.
    pub size: u64,
}

/// What the owner must do.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Messages to other controllers. They may be lost, delayed and doubled.
    pub messages: Vec<Envelope>,
    /// A snapshot to fetch. When it is in its place the owner says so with [`Arrived::SnapshotFetched`].
    pub needed: Option<NeededSnapshot>,
    /// Whether others may see a change: of the leader, or of the end of the log.
    pub has_news: bool,
}

/// Why the log has ended, or a proposal was refused.
#[derive(Debug, thiserror::Error)]
pub enum ControllerLogError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Proposal(#[from] NotProposed),
}

/// The log of one controller.
pub struct ControllerLog<F: Files> {
    node: RaftNode<F>,
    /// What the leader of a new cluster writes first.
    first: Vec<MetadataRecord>,
    snapshots: SnapshotSchedule,
    is_writing_snapshot: bool,
    /// A snapshot that is due, for the owner to write.
    due_snapshot: Option<SnapshotJob<F>>,
    now: Timestamp,
    events: Vec<QuorumEvent>,
    outgoing: Outgoing,
}

impl<F: Files> std::fmt::Debug for ControllerLog<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControllerLog")
            .field("status", &self.node.status())
            .finish_non_exhaustive()
    }
}

impl<F: Files> ControllerLog<F> {
    /// Goes on with an opened node. `first` are the records that the leader of a new cluster writes first.
    pub fn new(
        node: RaftNode<F>,
        first: Vec<MetadataRecord>,
        snapshots: SnapshotSchedule,
        now: Timestamp,
    ) -> Self {
        Self {
            node,
            first,
            snapshots,
            is_writing_snapshot: false,
            due_snapshot: None,
            now,
            events: Vec::new(),
            outgoing: Outgoing::default(),
        }
    }

    /// The controller's part of Raft.
    pub const fn node(&self) -> &RaftNode<F> {
        &self.node
    }

    /// The same, for requests that are none of the controller.
    pub const fn node_mut(&mut self) -> &mut RaftNode<F> {
        &mut self.node
    }

    /// What is done from here on happens at this time.
    pub const fn set_time(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Time goes on by one tick. `random` chooses the election timeout when a new one is due.
    pub fn on_tick(&mut self, random: u64) {
        self.node.on_tick(random);
        self.node.settle_others(self.now);
    }

    /// Takes in what has arrived. A message that this node must not believe is dropped.
    pub fn on_arrived(&mut self, arrived: Arrived) -> Result<(), NodeError> {
        match arrived {
            Arrived::Message(bytes) => {
                if let Err(problem) = self.node.on_message(bytes) {
                    tracing::warn!(%problem, "a message of another controller was dropped");
                }
            }
            Arrived::Hello(controller) => self.node.on_hello(controller),
            Arrived::ProcessEnded(node) => self.node.on_process_ended(node),
            Arrived::Unreachable(node) => self.node.on_unreachable(node),
            Arrived::Stopping => self.node.resign(),
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

    /// A snapshot to write; [`Arrived::SnapshotWritten`] must follow. Until then there is no other.
    pub fn take_due_snapshot(&mut self) -> Option<SnapshotJob<F>> {
        self.due_snapshot.take()
    }

    /// The snapshot that was taken is not written.
    pub const fn on_snapshot_dropped(&mut self) {
        self.is_writing_snapshot = false;
    }

    /// Has the node make durable what has changed.
    pub fn settle(&mut self) -> Result<(), NodeError> {
        let effects = self.node.ready(self.now)?;
        self.outgoing.messages.extend(effects.messages);
        self.outgoing.has_news |= !effects.news.is_empty();
        for news in effects.news {
            self.hear(news);
        }
        Ok(())
    }

    /// What the owner must do now.
    pub fn take_outgoing(&mut self) -> Outgoing {
        std::mem::take(&mut self.outgoing)
    }

    /// Syncs everything before a stop, so that the next start applies nothing again.
    pub fn close(self) -> Result<(), NodeError> {
        self.node.close()
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
            QuorumNews::SnapshotNeeded { from, id, size } => {
                self.outgoing.needed = Some(NeededSnapshot { from, id, size });
            }
        }
    }
}

impl<F: Files> Quorum for ControllerLog<F> {
    type Error = ControllerLogError;

    fn is_final(error: &ControllerLogError) -> bool {
        matches!(error, ControllerLogError::Node(_))
    }

    fn next_offset(&self) -> Offset {
        self.node.next_offset()
    }

    fn propose(
        &mut self,
        records: &[MetadataRecord],
        version: MetadataVersion,
    ) -> Result<(), ControllerLogError> {
        let epoch = self.node.led_epoch().ok_or(NotProposed::NotLeader)?;
        self.node.propose(epoch, records, version, self.now)?;
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, ControllerLogError> {
        self.settle()?;
        Ok(std::mem::take(&mut self.events))
    }

    /// Begins a snapshot when one is due.
    fn on_applied(&mut self, loader: &Loader) -> Result<(), ControllerLogError> {
        let is_due = self.node.is_snapshot_due();
        if !self.is_writing_snapshot && self.snapshots.is_due(is_due, self.now) {
            self.due_snapshot = self.node.begin_snapshot(loader, self.now)?;
            self.is_writing_snapshot = self.due_snapshot.is_some();
        }
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
