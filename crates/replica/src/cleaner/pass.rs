//! One pass of compaction over one partition: runs each step with or without the partition's lock, as it needs.

use ottla_log::PartitionLog;
use ottla_log::compaction::{
    Compaction, CompactionError, OffsetMap, Outcome, Pace, Rewritten, Tools,
};
use ottla_log::files::Files;
use ottla_protocol::time::Timestamp;

use crate::{Host, Partition};

/// A running pass. The driver holds the partition's `cleaning` lock until the end of the pass. A deletion waits for this
/// lock before it removes files.
#[derive(Debug)]
pub struct CompactionPass<F: Files> {
    compaction: Option<Compaction<F>>,
    tools: Tools,
    rewritten: Option<Rewritten<F>>,
}

impl<F: Files> CompactionPass<F> {
    /// Begins a pass over `partition`, if it is still due, and fills `map` with the newest offset of each key.
    pub fn begin<H: Host>(
        partition: &Partition<F, H>,
        map: OffsetMap,
        now: Timestamp,
        pace: Pace<'_>,
    ) -> Result<Self, CompactionError> {
        let mut tools = Tools::new(map);
        let mut compaction = with_log(partition, |log| log.begin_compaction(now))??;
        compaction.index(&mut tools, pace)?;
        Ok(Self {
            compaction: Some(compaction),
            tools,
            rewritten: None,
        })
    }

    /// Does the next step: writes a compacted segment, or replaces its sources by it. After the last step it returns
    /// the outcome.
    pub fn step<H: Host>(
        &mut self,
        partition: &Partition<F, H>,
        pace: Pace<'_>,
    ) -> Result<Option<Outcome>, CompactionError> {
        let mut compaction = self.compaction.take().ok_or(CompactionError::Changed)?;
        if let Some(rewritten) = self.rewritten.take() {
            with_log(partition, |log| log.replace_segments(rewritten))??;
            compaction.sync_names()?;
        } else {
            self.rewritten = compaction.rewrite_next(&mut self.tools, pace)?;
            if self.rewritten.is_none() {
                let outcome = compaction.finish()?;
                with_log(partition, |log| log.complete_compaction(&outcome))?;
                return Ok(Some(outcome));
            }
        }
        self.compaction = Some(compaction);
        Ok(None)
    }
}

fn with_log<F: Files, H: Host, T>(
    partition: &Partition<F, H>,
    ask: impl FnOnce(&mut PartitionLog<F>) -> T,
) -> Result<T, CompactionError> {
    partition.with_log(ask).ok_or(CompactionError::Changed)
}
