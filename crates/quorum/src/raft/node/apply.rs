//! Applies committed entries to the Kafka log, and checkpoints how far it is.

use ottla_log::files::Files;
use ottla_protocol::planted::{Bug, is_planted};
use raft::eraftpb::{Entry, EntryType};

use super::{NodeError, QuorumNews, RaftNode, epoch_of};
use crate::raft::format;
use crate::raft::log::Position;
use crate::raft::payload::Payload;

impl<F: Files> RaftNode<F> {
    pub(super) fn apply(&mut self, entries: Vec<Entry>) -> Result<(), NodeError> {
        for entry in entries {
            assert_eq!(
                entry.index,
                self.applied.at.index + 1,
                "entries are applied in order"
            );
            self.bytes_since_checkpoint += format::entry_size(&entry);
            self.apply_entry(&entry)?;
            self.applied.at = Position {
                index: entry.index,
                term: entry.term,
            };
        }
        if self.bytes_since_checkpoint >= self.log.settings().checkpoint_bytes {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<(), NodeError> {
        let bytes = match entry.get_entry_type() {
            EntryType::EntryNormal => &entry.data,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                let change = format::conf_change(&entry.data)?;
                self.applied.voters = self.raw.apply_conf_change(&change)?;
                &entry.context
            }
        };
        if bytes.is_empty() {
            // The library's own entry at the start of a term.
            return Ok(());
        }
        let payload = Payload::parse(bytes)?;
        let epoch = epoch_of(entry.term);
        if payload.epoch != epoch && !is_planted(Bug::TermFenceSkipped) {
            // It was decided in another term, on other metadata.
            return Ok(());
        }
        let base = self.applied.log_end;
        let records = self
            .log
            .append_committed(&payload.place(base, epoch), epoch)?;
        self.applied.log_end = base.plus(payload.records());
        self.events.push(QuorumNews::Committed {
            epoch,
            base,
            end: self.applied.log_end,
            records,
        });
        self.note_first_entry(entry.term);
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
    pub(super) fn checkpoint(&mut self) -> Result<(), NodeError> {
        self.log.sync()?;
        self.raw.mut_store().checkpoint(self.applied.clone())?;
        self.bytes_since_checkpoint = 0;
        Ok(())
    }
}
