//! The quorum of this node: of one, or of several over Raft.

use std::fmt;

use ottla_controller::{Quorum, QuorumEvent};
use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, MetadataImage, MetadataVersion};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_quorum::{ControllerLogError, LogView, NotCommitted, QuorumStatus};
use tokio::sync::watch;

use super::committed_log::CommittedLog;
use super::controller::DrivenQuorum;
use super::raft_quorum::RaftQuorum;

/// The metadata log as the controller's thread drives it.
pub enum MetadataQuorum {
    One(Box<CommittedLog>),
    Several(Box<RaftQuorum>),
}

/// Why the log has ended, or a proposal was refused.
#[derive(Debug, thiserror::Error)]
pub enum QuorumFailure {
    #[error(transparent)]
    One(#[from] NotCommitted),
    #[error(transparent)]
    Several(#[from] ControllerLogError),
}

impl fmt::Debug for MetadataQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.follow_status();
        f.debug_tuple("MetadataQuorum")
            .field(&*status.borrow())
            .finish()
    }
}

impl MetadataQuorum {
    /// The log itself, for tests that write what another leader would.
    #[cfg(test)]
    pub fn log(&mut self) -> &mut ottla_quorum::MetadataLog<Disk> {
        match self {
            Self::One(log) => log.log(),
            Self::Several(_) => panic!("tests lead a log alone"),
        }
    }

    /// Follows who leads the log, and how far it has come.
    pub fn follow_status(&self) -> watch::Receiver<QuorumStatus> {
        match self {
            Self::One(log) => log.follow_status(),
            Self::Several(raft) => raft.follow_status(),
        }
    }

    /// Follows what other nodes may read of the log.
    pub fn follow_view(&self) -> watch::Receiver<LogView<Disk>> {
        match self {
            Self::One(log) => log.follow_view(),
            Self::Several(raft) => raft.follow_view(),
        }
    }
}

impl DrivenQuorum for MetadataQuorum {
    async fn wait(&mut self) {
        match self {
            Self::One(log) => log.wait().await,
            Self::Several(raft) => raft.wait().await,
        }
    }

    fn close(self) {
        match self {
            Self::One(log) => log.close(),
            Self::Several(raft) => raft.close(),
        }
    }
}

impl Quorum for MetadataQuorum {
    type Error = QuorumFailure;

    fn is_final(error: &QuorumFailure) -> bool {
        match error {
            QuorumFailure::One(error) => CommittedLog::is_final(error),
            QuorumFailure::Several(error) => RaftQuorum::is_final(error),
        }
    }

    fn next_offset(&self) -> Offset {
        match self {
            Self::One(log) => log.next_offset(),
            Self::Several(raft) => raft.next_offset(),
        }
    }

    fn propose(
        &mut self,
        records: &[MetadataRecord],
        version: MetadataVersion,
    ) -> Result<(), QuorumFailure> {
        match self {
            Self::One(log) => log.propose(records, version)?,
            Self::Several(raft) => raft.propose(records, version)?,
        }
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, QuorumFailure> {
        Ok(match self {
            Self::One(log) => log.events()?,
            Self::Several(raft) => raft.events()?,
        })
    }

    fn on_applied(&mut self, loader: &Loader) -> Result<(), QuorumFailure> {
        match self {
            Self::One(log) => log.on_applied(loader)?,
            Self::Several(raft) => raft.on_applied(loader)?,
        }
        Ok(())
    }

    fn first_records(&mut self, image: &MetadataImage) -> Vec<MetadataRecord> {
        match self {
            Self::One(log) => log.first_records(image),
            Self::Several(raft) => raft.first_records(image),
        }
    }
}
