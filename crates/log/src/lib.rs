//! One partition on disk: segments, indexes, recovery, retention, compaction. Only files; no async.
//!
//! Start reading at [`PartitionLog`]. [`files::Files`] is the disk that it needs, and `docs/formats.md` describes the
//! files. Errors of the disk are [`StorageError`]: the first failure takes the whole [`LogDirectory`] offline.

#![deny(clippy::indexing_slicing)]

pub mod batch;
pub mod checkpoint;
pub mod compaction;
mod config;
pub mod damage;
mod directory;
mod epoch_file;
pub mod files;
pub mod format;
pub mod group_commit;
mod index_file;
mod leader_epochs;
mod look;
mod open_files;
mod partition_log;
mod place;
mod position;
pub mod producer_snapshot;
pub mod producer_state;
mod recovery;
pub mod repair;
mod reservation;
pub mod scan;
pub mod scrub;
mod segment;
mod segments;
mod transaction_index;
pub mod verify;

pub use batch::{Batch, RecordTooLarge};
pub use config::LogConfig;
pub use damage::Damage;
pub use directory::{LogDirectory, StorageError};
pub use leader_epochs::{EpochEnd, LeaderEpochs};
pub use look::Missing;
pub use open_files::OpenFiles;
pub use ottla_protocol::planted;
pub use partition_log::{
    AppendError, Appended, Bound, FirstBatch, Flush, LeaderAppend, OffsetAtTime, PartitionLog,
    ReadError, ReadPlan, ReadRequest, Removed, TimeQuery, TimeQueryError, TrimError, run_together,
    sync_recovered,
};
pub use position::LogPosition;
pub use producer_state::{Origin, ProducerError};
pub use recovery::{CutOff, Left, OpenError, OpenLog, Progress, Recovery};

#[cfg(test)]
mod tests;
