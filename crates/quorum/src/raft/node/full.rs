//! A full disk: proposals are refused while there is too little room, and what is agreed waits until there is.

use std::sync::Arc;

use ottla_log::files::{FileError, Files};

use super::{NotProposed, RaftNode};
use crate::metadata_log::{Failure, ProposeError};

impl<F: Files> RaftNode<F> {
    /// Refuses a payload of `bytes` if the disk is full and too little of it is reserved.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), NotProposed> {
        if self.held.is_some() || !self.waiting.is_empty() {
            return Err(NotProposed::Full(String::new()));
        }
        let needed = (self.proposed_bytes + bytes) as u64;
        let made = self.raw.mut_store().make_room(needed);
        match made.and_then(|()| self.log.has_room(needed)) {
            Ok(()) => {
                self.proposed_bytes += bytes;
                Ok(())
            }
            Err(error) if error.is_full() => Err(NotProposed::Full(format!(": {error}"))),
            Err(error) => Err(ProposeError::Failed(Failure::Disk(Arc::new(error))).into()),
        }
    }

    /// Says once that the disk is full, and once that it is not any more.
    pub(super) fn note_full(&mut self, error: Option<&FileError>) {
        if self.is_full == error.is_some() {
            return;
        }
        self.is_full = error.is_some();
        if let Some(error) = error {
            tracing::error!(%error, "the disk of the metadata log is full: this controller waits for room");
        } else {
            tracing::info!("the disk of the metadata log has room again");
        }
    }
}
