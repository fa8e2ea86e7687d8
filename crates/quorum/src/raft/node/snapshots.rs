//! Snapshots: a file of the Kafka log, together with its place in Raft's log.
//!
//! A leader announces its newest snapshot to a follower whose next entry is compacted. The announcement has no bytes: the
//! follower fetches the file as any observer does, and only then tells the library.

use bytes::Bytes;
use ottla_log::files::Files;
use ottla_metadata::Loader;
use ottla_protocol::planted::{Bug, is_planted};
use ottla_protocol::time::Timestamp;
use raft::eraftpb::{ConfState, HardState, Message, Snapshot};
use raft::{ProgressState, SnapshotStatus};

use super::{ELECTION_TICKS, NodeError, QuorumNews, RaftNode};
use crate::checkpoint::SnapshotId;
use crate::metadata_log::{SnapshotJob, WrittenSnapshot};
use crate::raft::format::Malformed;
use crate::raft::log::{Applied, Position, SnapshotState};
use crate::raft::message::SnapshotName;

/// Ticks after which a snapshot is announced again.
const ANNOUNCE_TICKS: usize = 2 * ELECTION_TICKS;

impl<F: Files> RaftNode<F> {
    /// Begins a snapshot of the image of `loader`, which has replayed all that is committed here.
    pub fn begin_snapshot(
        &mut self,
        loader: &Loader,
        now: Timestamp,
    ) -> Result<Option<SnapshotJob<F>>, NodeError> {
        if !self.checkpoint()? {
            return Ok(None);
        }
        let Some(job) = self.log.begin_snapshot(loader, now)? else {
            return Ok(None);
        };
        let place = (self.applied.at, self.applied.voters.clone());
        self.begun.insert(job.id(), place);
        Ok(Some(job))
    }

    /// Adds a written snapshot, and removes the entries and segments that are no longer needed.
    pub fn adopt_snapshot(&mut self, written: WrittenSnapshot) -> Result<(), NodeError> {
        self.log.adopt_snapshot(written)?;
        let Some((at, voters)) = self.begun.remove(&written.id()) else {
            // A newer snapshot was installed meanwhile.
            return Ok(());
        };
        self.begun.retain(|id, _| *id > written.id());
        if at.index < self.raw.store().head().before.index {
            return Ok(());
        }
        let voters = if is_planted(Bug::SnapshotWithoutVoters) {
            ConfState::default()
        } else {
            voters
        };
        let snapshot = SnapshotState {
            at,
            name: SnapshotName {
                id: written.id(),
                size: written.size(),
            },
            voters,
        };
        let kept = self.log.settings().kept_entry_bytes;
        match self.raw.mut_store().compact(snapshot, kept) {
            // The next snapshot tries again.
            Err(error) if error.is_full() => Ok(()),
            compacted => Ok(compacted?),
        }
    }

    pub(super) fn on_snapshot_announced(&mut self, message: Message) -> Result<(), Malformed> {
        let name = SnapshotName::parse(&message.get_snapshot().data)?;
        let metadata = message.get_snapshot().get_metadata();
        if metadata.index == self.applied.at.index && metadata.term != self.applied.at.term {
            return Err(Malformed::Impossible("snapshot"));
        }
        if metadata.index <= self.applied.at.index {
            // The library tells the leader how far this node is.
            let _ = self.raw.step(message);
            return Ok(());
        }
        if message.term > self.raw.raft.term {
            // The snapshot may be of an epoch that this node does not know. The file comes after the term.
            let (term, leader) = (message.term, message.from);
            self.raw.raft.become_follower(term, leader);
        }
        let from = self.peers.node_id(message.from);
        self.announced = Some(message);
        self.events
            .extend(from.map(|from| QuorumNews::SnapshotNeeded {
                from,
                id: name.id,
                size: name.size,
            }));
        Ok(())
    }

    /// The file of an announced snapshot is in its place.
    pub fn on_snapshot_fetched(&mut self, id: SnapshotId) -> Result<(), NodeError> {
        let is_announced = self.announced.as_ref().is_some_and(|message| {
            SnapshotName::parse(&message.get_snapshot().data).is_ok_and(|name| name.id == id)
        });
        if is_announced
            && self.held.is_none()
            && self.log.has_snapshot(id)?
            && let Some(mut message) = self.announced.take()
        {
            self.follow_as_observer(&mut message);
            let _ = self.raw.step(message);
            self.note_role();
        }
        Ok(())
    }

    /// Takes over a snapshot that the library has accepted. From the moment at which Raft's log names it, it counts.
    pub(super) fn install(
        &mut self,
        snapshot: &Snapshot,
        state: &HardState,
    ) -> Result<(), NodeError> {
        let data: &Bytes = &snapshot.data;
        let name = SnapshotName::parse(data)?;
        let metadata = snapshot.get_metadata();
        let at = Position {
            index: metadata.index,
            term: metadata.term,
        };
        let voters = metadata.get_conf_state().clone();
        let installed = SnapshotState {
            at,
            name,
            voters: voters.clone(),
        };
        self.raw.mut_store().install(installed, state)?;
        let image = self.log.begin_after(name.id)?;
        self.applied = Applied {
            at,
            log_end: name.id.end_offset,
            voters,
        };
        self.bytes_since_checkpoint = 0;
        self.begun.clear();
        self.waiting.clear();
        self.follow_voters()?;
        self.events.push(QuorumNews::Restored {
            id: name.id,
            image: Box::new(image),
        });
        Ok(())
    }

    /// Announces a snapshot again to followers from which nothing was heard of it.
    pub(super) fn retry_snapshots(&mut self) {
        let progress = self.raw.raft.prs();
        self.announced_to.retain(|id, _| {
            progress
                .get(*id)
                .is_some_and(|peer| peer.state == ProgressState::Snapshot)
        });
        let mut again = Vec::new();
        for (id, ticks) in &mut self.announced_to {
            *ticks += 1;
            if *ticks >= ANNOUNCE_TICKS {
                *ticks = 0;
                again.push(*id);
            }
        }
        for id in again {
            self.raw.report_snapshot(id, SnapshotStatus::Failure);
        }
    }
}
