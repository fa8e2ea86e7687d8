//! Reads the checkpoint files of a log directory at a start. A file that cannot be parsed is logged and counts as
//! missing, as in Kafka: the checkpoints only save work.

use ottla_log::Left;
use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::files::{FileError, Files};
use ottla_protocol::ids::PartitionIndex;

use crate::{Directory, Host};

/// The checkpoints of one directory.
pub(super) struct LeftOf {
    is_clean: bool,
    recovery_points: PartitionOffsets,
    log_starts: PartitionOffsets,
    high_watermarks: PartitionOffsets,
    compacted_to: PartitionOffsets,
}

impl LeftOf {
    pub(super) fn read<F: Files, H: Host>(directory: &Directory<F, H>) -> Result<Self, FileError> {
        let (files, path) = (directory.log.files(), directory.log.path());
        Ok(Self {
            is_clean: checkpoint::was_clean_shutdown(files, path)?,
            recovery_points: read_checkpoint(directory, checkpoint::RECOVERY_POINTS)?,
            log_starts: read_checkpoint(directory, checkpoint::LOG_START_OFFSETS)?,
            high_watermarks: read_checkpoint(directory, checkpoint::HIGH_WATERMARKS)?,
            compacted_to: read_checkpoint(directory, checkpoint::CLEANER_OFFSETS)?,
        })
    }

    pub(super) fn of(&self, topic: &str, index: PartitionIndex) -> Left {
        let key = (topic.to_owned(), index.0);
        Left {
            is_clean: self.is_clean,
            recovery_point: self.recovery_points.get(&key).copied().unwrap_or_default(),
            log_start: self.log_starts.get(&key).copied().unwrap_or_default(),
            high_watermark: Some(self.high_watermarks.get(&key).copied().unwrap_or_default()),
            compacted_to: self.compacted_to.get(&key).copied(),
        }
    }
}

fn read_checkpoint<F: Files, H: Host>(
    directory: &Directory<F, H>,
    name: &str,
) -> Result<PartitionOffsets, FileError> {
    let (files, path) = (directory.log.files(), directory.log.path());
    match checkpoint::read_offsets(files, path, name) {
        Err(error) if error.is_malformed() => {
            tracing::error!(%error, "cannot parse a checkpoint file; the start ignores it");
            Ok(PartitionOffsets::new())
        }
        read => read,
    }
}
