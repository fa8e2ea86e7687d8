//! A pass of compaction step by step, as `broker/src/replicas/cleaner.rs` makes it, so that anything may happen in
//! between.

use super::node::{Failed, Node, Wanted};
use crate::checkpoint;
use crate::compaction::{
    BYTES_PER_KEY, Compaction, CompactionError, MapLimits, OffsetMap, Rewritten, Tools,
};
use crate::files::simulated::Simulated;
use ottla_protocol::time::Timestamp;
use std::hash::RandomState;
use std::ops::ControlFlow;

/// A pass that has begun.
#[derive(Debug)]
pub(super) struct Cleaning {
    pub(super) number: usize,
    pass: Compaction<Simulated>,
    tools: Tools,
    rewritten: Option<Rewritten<Simulated>>,
}

/// What a step of the cleaner came to.
#[derive(Debug)]
pub(super) enum Cleaned {
    /// Nothing is due.
    Nothing,
    /// A pass has begun over all before this offset.
    Began(usize, i64),
    /// A segment is written, or has replaced its sources.
    Went,
    /// A pass has ended: the partition is compacted up to here.
    Ended(usize, i64),
}

impl Node {
    /// The cleaner's next step, over partition `number` if none is under way.
    pub(super) fn clean(
        &mut self,
        number: usize,
        wanted: &[Wanted],
        (keys, now): (usize, i64),
    ) -> Result<Cleaned, CompactionError> {
        let Some(cleaning) = self.cleaning.take() else {
            return self.begin_cleaning(number, wanted, (keys, now));
        };
        let Cleaning {
            number,
            mut pass,
            mut tools,
            rewritten,
        } = cleaning;
        let log = self.logs.get_mut(&number).ok_or(CompactionError::Changed)?;
        let log = &mut log.log;
        let mut pace = |_| ControlFlow::Continue(());
        if let Some(rewritten) = rewritten {
            log.replace_segments(rewritten)?;
            pass.sync_names()?;
        } else if let Some(rewritten) = pass.rewrite_next(&mut tools, &mut pace)? {
            self.cleaning = Some(Cleaning {
                number,
                pass,
                tools,
                rewritten: Some(rewritten),
            });
            return Ok(Cleaned::Went);
        } else {
            let outcome = pass.finish()?;
            log.complete_compaction(&outcome);
            return Ok(Cleaned::Ended(number, outcome.end.0));
        }
        self.cleaning = Some(Cleaning {
            number,
            pass,
            tools,
            rewritten: None,
        });
        Ok(Cleaned::Went)
    }

    fn begin_cleaning(
        &mut self,
        number: usize,
        wanted: &[Wanted],
        (keys, now): (usize, i64),
    ) -> Result<Cleaned, CompactionError> {
        let Some(opened) = self.logs.get_mut(&number) else {
            return Ok(Cleaned::Nothing);
        };
        let log = &mut opened.log;
        if log.compaction_needs_checkpoint() {
            if let Some(checkpoint) = log.begin_checkpoint()? {
                checkpoint.run().inspect_err(|_| log.abandon_checkpoint())?;
                log.complete_checkpoint(&checkpoint);
            }
            match self.write_recovery_points(wanted) {
                // It waits for them.
                Err(Failed::Storage(error)) => return Err(error.into()),
                Err(_) => return Ok(Cleaned::Nothing),
                Ok(()) => {}
            }
        }
        let now = Timestamp(now);
        let log = &mut self
            .logs
            .get_mut(&number)
            .ok_or(CompactionError::Changed)?
            .log;
        let plan = log.plan_compaction(now)?;
        if !plan.is_due() {
            return Ok(Cleaned::Nothing);
        }
        let limits = MapLimits {
            bytes: keys * BYTES_PER_KEY,
            load_factor: 0.9,
        };
        let hashers = [RandomState::new(), RandomState::new()];
        let mut tools = Tools::new(OffsetMap::new(limits, hashers));
        let mut pass = log.begin_compaction(now)?;
        pass.index(&mut tools, &mut |_| ControlFlow::Continue(()))?;
        self.cleaning = Some(Cleaning {
            number,
            pass,
            tools,
            rewritten: None,
        });
        Ok(Cleaned::Began(number, plan.first_uncleanable.0))
    }

    pub(super) fn write_compacted(&self, wanted: &[Wanted]) -> Result<(), Failed> {
        self.write_offsets(
            wanted,
            checkpoint::CLEANER_OFFSETS,
            super::super::fixture::Log::compacted_to,
        )
    }
}
