//! One pass over one partition: the steps that need its lock, and those that must not hold it, in turn.

use std::hash::RandomState;
use std::sync::PoisonError;

use ottla_log::PartitionLog;
use ottla_log::compaction::{CompactionError, OffsetMap, Outcome, Pace, Tools};
use ottla_log::files::disk::Disk;
use ottla_protocol::time::Timestamp;

use super::CleanerSettings;
use crate::replicas::Partition;

/// Compacts `partition`, if it is still due.
pub(super) fn run(
    partition: &Partition,
    settings: &CleanerSettings,
    now: Timestamp,
    pace: Pace<'_>,
) -> Result<Outcome, CompactionError> {
    // Whoever deletes the partition waits for this before its files go.
    let _cleaning = partition
        .cleaning
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let hashers = [RandomState::new(), RandomState::new()];
    let mut tools = Tools::new(OffsetMap::new(settings.map_limits(), hashers));
    let mut pass = with_log(partition, |log| log.begin_compaction(now))??;
    pass.index(&mut tools, pace)?;
    while let Some(rewritten) = pass.rewrite_next(&mut tools, pace)? {
        with_log(partition, |log| log.replace_segments(rewritten))??;
        pass.sync_names()?;
    }
    let outcome = pass.finish()?;
    with_log(partition, |log| log.complete_compaction(&outcome))?;
    Ok(outcome)
}

fn with_log<T>(
    partition: &Partition,
    ask: impl FnOnce(&mut PartitionLog<Disk>) -> T,
) -> Result<T, CompactionError> {
    partition.with_log(ask).ok_or(CompactionError::Changed)
}
