//! What a verification finds, and what a repair can do about it.

use crate::damage::Damage;
use ottla_protocol::ids::Offset;
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For information.
    Note,
    /// Bytes are not as they were written.
    Damage,
}

/// A finding about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// The file or directory.
    pub path: PathBuf,
    /// The position in the file.
    pub position: Option<u64>,
    /// A sentence for the user: what was found, and its consequence.
    pub what: String,
    /// What `ottla log repair` would do; `None` if it can or need do nothing.
    pub remedy: Option<Remedy>,
}

/// What a repair can do about a finding. See `repair.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Remove the damaged bytes from their segment.
    CutOut(Damage),
    /// Rebuild the offset and time index of this segment.
    Reindex(Offset),
    /// Rebuild the index of aborted transactions of this segment.
    ReindexTransactions(Offset),
    /// Rename the file to `.cutoff`: its content is rebuilt from other files.
    SetAside,
    /// Rewrite the leader epoch checkpoint from the batches.
    WriteEpochs,
    /// Append an empty batch, so that the log ends where it ended before damage.
    KeepEnd {
        /// The end of the log now.
        from: Offset,
        /// The end of the log before.
        to: Offset,
    },
}
