//! The metadata log as the controller's thread writes it, and the snapshots of it.
//!
//! A quorum of one commits what is on its own disk. A snapshot is written by a thread of its own; the first proposal after
//! that adds it to the log.

use std::sync::mpsc;
use std::time::Duration;

use ottla_controller::{Quorum, QuorumEvent};
use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, MetadataImage, MetadataVersion};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{
    LogView, MetadataLog, NotCommitted, QuorumStatus, SnapshotSchedule, WriteError, WrittenSnapshot,
};
use tokio::sync::watch;

use super::controller::DrivenQuorum;
use super::threads::Thread;
use crate::process::clock::Clock;

/// The metadata log as the controller's thread writes it.
#[derive(Debug)]
pub struct CommittedLog {
    log: MetadataLog<Disk>,
    clock: Clock,
    snapshots: SnapshotSchedule,
    writing: Option<mpsc::Receiver<Result<WrittenSnapshot, WriteError>>>,
    status: watch::Sender<QuorumStatus>,
    view: watch::Sender<LogView<Disk>>,
    /// What the controller has not been told yet.
    events: Vec<QuorumEvent>,
}

impl CommittedLog {
    /// Goes on with a log that this node leads.
    pub fn new(log: MetadataLog<Disk>, clock: Clock, snapshot_interval: Option<Duration>) -> Self {
        Self {
            clock,
            snapshots: SnapshotSchedule::new(snapshot_interval, clock.now().wall),
            writing: None,
            status: watch::Sender::new(log.status()),
            view: watch::Sender::new(log.view()),
            log,
            events: vec![QuorumEvent::LeadershipGained],
        }
    }

    /// Follows who leads the log, and how far it has come.
    pub fn follow_status(&self) -> watch::Receiver<QuorumStatus> {
        self.status.subscribe()
    }

    /// Follows what other nodes may read of the log.
    pub fn follow_view(&self) -> watch::Receiver<LogView<Disk>> {
        self.view.subscribe()
    }

    /// The log itself, for tests that write what another leader would.
    #[cfg(test)]
    pub fn log(&mut self) -> &mut MetadataLog<Disk> {
        &mut self.log
    }

    /// Begins a snapshot when one is due, on a thread of its own, and takes over the one that is done.
    fn snapshot(&mut self, image: &MetadataImage, now: Timestamp) -> Result<(), FileError> {
        if let Some(writing) = &self.writing {
            match writing.try_recv() {
                Ok(Ok(written)) => self.log.adopt_snapshot(written)?,
                Ok(Err(error)) => tracing::warn!(%error, "cannot write a snapshot of the metadata"),
                Err(mpsc::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::TryRecvError::Disconnected) => {}
            }
            self.writing = None;
        }
        let Some(job) = self.snapshots.begin_if_due(&mut self.log, image, now)? else {
            return Ok(());
        };
        let (done, writing) = mpsc::channel();
        let write = move || {
            // Without a receiver the log has ended, and needs no snapshot.
            let _ = done.send(job.write());
        };
        match Thread::start("metadata-snapshot", write) {
            Ok(_) => self.writing = Some(writing),
            Err(error) => {
                tracing::warn!(%error, "cannot start a thread for a snapshot of the metadata");
            }
        }
        Ok(())
    }
}

impl DrivenQuorum for CommittedLog {
    /// Everything happens in the turn in which it is proposed.
    async fn wait(&mut self) {
        std::future::pending::<()>().await;
    }

    /// Everything is on the disk.
    fn close(self) {}
}

impl Quorum for CommittedLog {
    type Error = NotCommitted;

    fn is_final(error: &NotCommitted) -> bool {
        error.is_final()
    }

    fn next_offset(&self) -> Offset {
        self.log.end_offset()
    }

    /// A quorum of one commits what is on its own disk.
    fn propose(
        &mut self,
        records: &[MetadataRecord],
        version: MetadataVersion,
    ) -> Result<(), NotCommitted> {
        let now = self.clock.now().wall;
        let end = self.log.propose(records, version, now)?;
        let records = records.to_vec();
        self.events.push(QuorumEvent::Committed { end, records });
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, NotCommitted> {
        Ok(std::mem::take(&mut self.events))
    }

    fn on_applied(&mut self, loader: &Loader) -> Result<(), NotCommitted> {
        if loader.in_transaction() {
            return Ok(());
        }
        self.snapshot(loader.image(), self.clock.now().wall)?;
        self.status.send_replace(self.log.status());
        self.view
            .send_modify(|view| *view = self.log.view_after(view));
        Ok(())
    }
}
