//! Rebuilds the leader epochs from the batches if the checkpoint is missing or cannot be parsed.

use super::{Left, Recovering};
use crate::checkpoint::read_leader_epochs;
use crate::damage::{Met, Survey};
use crate::directory::StorageError;
use crate::files::{FileError, Files};
use crate::leader_epochs::LeaderEpochs;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use std::path::Path;

/// The epochs of the checkpoint; empty if there is no file or it cannot be parsed.
pub(super) fn read<F: Files>(files: &F, partition: &Path) -> Result<LeaderEpochs, FileError> {
    match read_leader_epochs(files, partition) {
        Err(error) if error.is_malformed() => Ok(LeaderEpochs::default()),
        read => read,
    }
}

impl<F: Files> Recovering<F> {
    /// If the checkpoint had no epochs, rebuilds them from all batches that recovery has not read; returns whether
    /// there were any.
    pub(super) fn learn_all_epochs(&mut self, left: &Left) -> Result<bool, StorageError> {
        let Some(first) = self.segments.first_base() else {
            return Ok(false);
        };
        let read_from = if left.is_clean {
            self.segments.end()
        } else {
            left.recovery_point.min(self.segments.end())
        };
        if read_from <= first {
            return Ok(false);
        }
        let mut learnt = LeaderEpochs::default();
        for base in self.segments.bases() {
            if base >= read_from || !self.learn_epochs(base, read_from, &mut learnt)? {
                break;
            }
        }
        let found = learnt.latest().is_some();
        for (epoch, start) in self.leader_epochs.entries() {
            learnt.observe(epoch, start);
        }
        self.leader_epochs = learnt;
        Ok(found)
    }

    /// Reads the epochs of one segment; returns false if its batches have none, as those of old Kafka versions.
    fn learn_epochs(
        &self,
        base: Offset,
        end: Offset,
        learnt: &mut LeaderEpochs,
    ) -> Result<bool, StorageError> {
        let Some(segment) = self.segments.get(base) else {
            return Ok(true);
        };
        let directory = self.segments.directory();
        let file = directory.judge(segment.file(self.place()))?;
        let mut survey = Survey::new(&*file, base, 0..segment.size, base..end);
        while let Some(met) = directory.judge(survey.advance())? {
            let Met::Batch(located) = met else { continue };
            let epoch = LeaderEpoch(located.header.partition_leader_epoch);
            if epoch.0 < 0 && learnt.latest().is_none() {
                return Ok(false);
            }
            learnt.observe(epoch, located.header.base_offset());
        }
        Ok(true)
    }
}
