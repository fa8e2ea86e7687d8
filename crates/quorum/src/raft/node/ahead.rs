//! Entries that are not known to be committed are in the Kafka log too, ahead of its end: Apache Kafka may go on with it.

use ottla_log::files::Files;
use raft::eraftpb::Entry;

use super::{NodeError, RaftNode, epoch_of};
use crate::raft::format;

impl<F: Files> RaftNode<F> {
    /// Writes `entries`, which Raft's log has, ahead in the Kafka log. The first replaces what is at its index and after it.
    pub(super) fn write_ahead(&mut self, entries: &[Entry]) -> Result<(), NodeError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        self.log.cut_ahead(first.index)?;
        for entry in entries {
            if let Some(payload) = format::payload(entry)? {
                let placed = payload.place(self.log.ahead_end(), epoch_of(entry.term));
                self.log.write_ahead(entry.index, &placed)?;
            }
        }
        Ok(())
    }

    /// Writes the entries after the one at `index` ahead: a crash or a full disk came before.
    pub(super) fn write_ahead_after(&mut self, index: u64) -> Result<(), NodeError> {
        let entries = self.raw.store().after(index);
        self.write_ahead(&entries)
    }
}
