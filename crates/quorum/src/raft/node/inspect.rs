//! Reads the directory of a controller, and decides whether Raft's log or the Kafka log says how it goes on. Writes nothing.
//!
//! `quorum-state` has an epoch before Raft's log has it as its term, and no batch or snapshot has a higher one. Apache Kafka
//! begins above the lowest `quorum-state` of a majority. So Kafka has gone on with the log if a batch or a snapshot is above
//! Raft's term, or in it without an entry of Raft: this node was a candidate in the epoch in which Kafka elected another.
//! Then Raft's log is out of date, and the Kafka log counts as it is.

use ottla_log::files::Files;
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::records::BatchView;
use raft::eraftpb::Entry;

use super::open::{names, term_of};
use super::peers::{raft_id, raft_id_of};
use super::written::Written;
use super::{Member, NodeError, epoch_of};
use crate::batches::{self, Content};
use crate::metadata_log::{
    ApplyError, Inspected, Location, MetadataLog, OpenError, Until, check_version, newest_epoch,
};
use crate::quorum_state::{self, Promise};
use crate::raft::format;
use crate::raft::log::{RaftLog, ReadLog};
use crate::voter::{DYNAMIC_VOTERS, QuorumControl, Voter};

/// The directory of a controller that was read but not changed.
#[derive(Debug)]
pub struct InspectedNode<F: Files> {
    /// The Kafka log, up to where Raft's log goes on.
    pub(super) log: Inspected<F>,
    /// `None` if the Kafka log counts as it is.
    pub(super) raft: Option<ReadLog<F>>,
    /// What of Raft's entries after the checkpoint is in the Kafka log already.
    pub(super) written: Written,
    /// What `quorum-state` says.
    pub(super) promise: Promise,
    image: MetadataImage,
    pub(super) control: QuorumControl,
}

impl<F: Files> InspectedNode<F> {
    pub(super) fn read(files: F, location: Location<'_>, voter: Voter) -> Result<Self, NodeError> {
        // Voters that the configuration names have no directory ids.
        let ids = [raft_id(&voter), raft_id_of(voter.node_id, Uuid::ZERO)];
        let promise = quorum_state::read(&files, location.directory).map_err(OpenError::from)?;
        let read = RaftLog::read_file(files.clone(), location.directory)?;
        let newest = newest_epoch(&files, location.directory)?;
        let has_gone_on = |read: &ReadLog<F>| {
            let term = epoch_of(read.head().hard_state.term);
            newest > term || (newest == term && epoch_of(read.last().term) < term)
        };
        let raft = read.filter(|read| !has_gone_on(read));
        let written = match &raft {
            Some(read) => Written::find(&files, location.directory, read, &ids)?,
            None => Written::default(),
        };
        let until = raft.is_some().then_some(Until {
            end: written.log_end,
            goes_on: !written.ahead.is_empty(),
        });
        let log = MetadataLog::read(files, location, voter, until)?;
        let mut loader = log.loader().clone();
        let mut control = log.control().clone();
        let pending = raft.iter().flat_map(|read| read.pending(&ids));
        for entry in pending.filter(|entry| entry.index > written.at.index) {
            replay(entry, &mut loader, &mut control)?;
        }
        let newest = raft.iter().flat_map(ReadLog::taken_over);
        for entry in newest.filter(|entry| entry.index > written.at.index) {
            replay(entry, &mut Loader::default(), &mut control)?;
        }
        check_version(loader.image()).map_err(|error| NodeError::Open(error.into()))?;
        Ok(Self {
            log,
            raft,
            written,
            promise: promise.unwrap_or_default(),
            image: loader.image().clone(),
            control,
        })
    }

    /// The metadata after all that is known to be committed.
    pub const fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// The voters in the log or in the checkpoint of formatting; `None` if the configuration names them.
    pub fn voters(&self) -> Option<&[Voter]> {
        (self.control.kraft_version >= DYNAMIC_VOTERS).then_some(&self.control.voters)
    }

    /// Whether the log has records before its first `metadata.version`, and no later snapshot covers them.
    pub const fn begins_without_version(&self) -> bool {
        self.log.begins_without_version()
    }

    /// The cluster's first records, if they are in the checkpoint of formatting, as in Kafka 4.4 and later.
    pub fn first_records(&self) -> Option<&[MetadataRecord]> {
        self.log.first_records()
    }

    /// See [`Inspected::image_over_first_records`].
    pub fn image_over_first_records(&self) -> Option<&MetadataImage> {
        self.log.image_over_first_records()
    }

    /// The term that this node has promised to keep, and the Raft id that it has voted for in it.
    pub(super) fn promised(&self, voters: &[Voter]) -> (u64, u64) {
        let to = self.promise.to.map(|to| {
            let voter = voters.iter().find(|voter| voter.node_id == to);
            voter.map_or_else(|| raft_id_of(to, Uuid::ZERO), raft_id)
        });
        (term_of(self.promise.epoch), to.unwrap_or(0))
    }

    /// Whether Raft's log begins as a copy of what the log of Apache Kafka has after its newest snapshot.
    pub(super) fn is_to_be_taken_over(&self, voters: &[Voter]) -> bool {
        self.raft.is_none() && voters.len() > 1 && self.log.end() > Offset(0)
    }

    /// Refuses other static voters than the log was written with.
    fn check_static_voters(&self, voters: &[Voter]) -> Result<(), NodeError> {
        let known = &self.promise.voters;
        let is_known = |voter: &Voter| known.contains(&voter.node_id);
        let is_same = voters.len() == known.len() && voters.iter().all(is_known);
        if self.voters().is_some() || known.is_empty() || voters.len() < 2 || is_same {
            return Ok(());
        }
        let voters = names(voters);
        Err(NodeError::OtherVoters { voters })
    }

    /// Refuses a directory that is not that of `member`, or that its quorum cannot go on with. A controller that is no voter
    /// follows the log of the others.
    pub fn check(&self, member: &Member<'_>) -> Result<(), NodeError> {
        let has_none = matches!(self.voters(), Some([]));
        if has_none && self.log.end() > Offset(0) {
            return Err(NodeError::NoVoters(self.control.kraft_version));
        }
        // Without a log of Raft it follows nobody, and a node whose directory.id has changed would wait for itself.
        let is_of_other = self.raft.is_none() && self.log.end() > Offset(0);
        let follows_nobody =
            member.has_static_voters() || is_of_other || member.is_only_but_for_its_directory();
        if !member.is_voter() && follows_nobody {
            return Err(NodeError::NoVoter {
                node_id: member.voter.node_id,
                directory_id: member.voter.directory_id,
                voters: names(member.voters),
            });
        }
        match &self.raft {
            None => self.check_begins(member)?,
            Some(read) if member.has_static_voters() => {
                let known = &read.head().applied.voters.voters;
                let ids: Vec<u64> = member.voters.iter().map(raft_id).collect();
                if known.len() != ids.len() || !known.iter().all(|id| ids.contains(id)) {
                    let voters = names(member.voters);
                    return Err(NodeError::OtherVoters { voters });
                }
            }
            Some(_) => {}
        }
        if has_none && member.is_voter() {
            return Err(NodeError::NoVoters(self.control.kraft_version));
        }
        Ok(())
    }

    /// Without Raft's log, one begins with the Kafka log. A voter of several with an empty log must not have lost it: that
    /// its directory was formatted for it says that it has promised nothing yet.
    fn check_begins(&self, member: &Member<'_>) -> Result<(), NodeError> {
        if self.log.end() > Offset(0) {
            return self.check_static_voters(member.voters);
        }
        let formatted = self.log.voters().unwrap_or_default();
        if member.is_voter() && !member.is_among(formatted) && !member.has_static_voters() {
            return Err(NodeError::Wiped {
                node_id: member.voter.node_id,
                directory_id: member.voter.directory_id,
                directory: self.log.location().directory.to_path_buf(),
            });
        }
        Ok(())
    }
}

/// Applies an entry that is not in the Kafka log yet.
fn replay(
    entry: &Entry,
    loader: &mut Loader,
    control: &mut QuorumControl,
) -> Result<(), NodeError> {
    let Some(payload) = format::payload(entry)? else {
        return Ok(());
    };
    for batch in payload.place(Offset(0), epoch_of(entry.term)) {
        let view = BatchView::first(&batch.bytes).expect("the payload was checked");
        match batches::decode(&view).map_err(ApplyError::from)? {
            Content::Data(records) => _ = loader.load(&records),
            Content::Control(records) => {
                for record in &records {
                    control.replay(record);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
