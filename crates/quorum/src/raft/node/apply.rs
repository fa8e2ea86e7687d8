//! Applies committed entries to the Kafka log, and checkpoints how far it is.

use ottla_log::files::Files;
use raft::eraftpb::Entry;

use super::{NodeError, QuorumNews, RaftNode, epoch_of};
use crate::metadata_log::{ApplyError, ProposeError};
use crate::raft::format;
use crate::raft::log::Position;
use crate::raft::payload::Payload;

impl<F: Files> RaftNode<F> {
    /// Applies the committed entries, as far as the disk has room for them.
    pub(super) fn apply_waiting(&mut self) -> Result<(), NodeError> {
        while let Some(entry) = self.waiting.pop_front() {
            assert_eq!(
                entry.index,
                self.applied.at.index + 1,
                "entries are applied in order"
            );
            match self.apply_entry(&entry) {
                Err(NodeError::Apply(ApplyError::Log(ProposeError::Full(error)))) => {
                    self.note_full(Some(&error));
                    self.waiting.push_front(entry);
                    return Ok(());
                }
                applied => applied?,
            }
            self.bytes_since_checkpoint += format::entry_size(&entry);
            self.applied.at = Position {
                index: entry.index,
                term: entry.term,
            };
            self.note_end();
            self.log.note_applied(entry.index);
            self.raw.advance_apply_to(entry.index);
        }
        if self.held.is_none() {
            self.note_full(None);
        }
        if self.applied.log_end == self.next_offset() {
            self.proposed_bytes = 0;
        }
        if self.bytes_since_checkpoint >= self.log.settings().checkpoint_bytes {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<(), NodeError> {
        let payload = format::payload(entry)?;
        if let Some(payload) = &payload {
            self.append(payload, entry)?;
        }
        if let Some(change) = format::change(entry)? {
            self.applied.voters = self.raw.apply_conf_change(&change)?;
        }
        if payload.is_some() {
            self.follow_voters()?;
            self.note_first_entry(entry.term);
        }
        Ok(())
    }

    fn append(&mut self, payload: &Payload, entry: &Entry) -> Result<(), NodeError> {
        let epoch = epoch_of(entry.term);
        let base = self.applied.log_end;
        let placed = payload.place(base, epoch);
        let records = self.log.append_committed(entry.index, &placed, epoch)?;
        self.applied.log_end = base.plus(payload.records());
        self.events.push(QuorumNews::Committed {
            epoch,
            base,
            end: self.applied.log_end,
            records,
        });
        Ok(())
    }

    /// The first entry of this node's own term is applied: so is everything before it. It may decide and propose.
    fn note_first_entry(&mut self, term: u64) {
        let end = self.applied.log_end;
        if let Some(leadership) = &mut self.leadership
            && leadership.epoch == epoch_of(term)
            && leadership.proposed_end.is_none()
        {
            leadership.proposed_end = Some(end);
            self.events.push(QuorumNews::LeadershipGained {
                epoch: leadership.epoch,
                start: end,
            });
        }
    }

    /// Syncs the Kafka log, and notes in Raft's log that its entries need not be applied again.
    ///
    /// Returns false if the disk is full: then the next start applies more.
    pub(super) fn checkpoint(&mut self) -> Result<bool, NodeError> {
        self.log.sync()?;
        match self.raw.mut_store().checkpoint(self.applied.clone()) {
            Err(error) if error.is_full() => return Ok(false),
            noted => noted?,
        }
        self.bytes_since_checkpoint = 0;
        Ok(true)
    }
}
