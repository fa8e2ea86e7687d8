//! Rewrites segments: several sources that fit are merged into one, with the records that stay.
//!
//! The last batch before the end of the cleanable part always stays, without records if need be: a start must find the
//! offset at which the log ends. A source that cannot be walked to its end is left as it is, and ends its group. A
//! batch that cannot be read is copied as it is.

use super::filter::{Remains, Rules, Standing};
use super::output::Output;
use super::plan::{SegmentFacts, group};
use super::quarantine::MAX_ENTRIES;
use super::replace::write_replacement;
use super::walk::{Met, Unreadable, Walk, WalkError};
use super::{Compaction, CompactionError, Pace, Quarantined, Rewritten, Tools, hold_up};
use crate::batch::Batch;
use crate::files::Files;
use crate::format::AbortedTransaction;
use crate::place::Place;
use crate::planted::{Bug, is_planted};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, BatchView};
use ottla_protocol::time::Timestamp;
use std::sync::Arc;

/// Source segments that are merged into one.
struct Group {
    sources: Vec<SegmentFacts>,
    /// The end offset of the last of them.
    end: Offset,
}

struct Worker<'a> {
    tools: &'a mut Tools,
    pace: Pace<'a>,
}

/// Why a group was not written.
enum Failure {
    Pass(CompactionError),
    /// A source of the group cannot be walked to its end; this is the part from the damage on.
    Damaged(Quarantined),
}

impl From<CompactionError> for Failure {
    fn from(error: CompactionError) -> Self {
        Self::Pass(error)
    }
}

impl<F: Files> Compaction<F> {
    /// Writes the next compacted segment and syncs it; `None` after the last.
    pub fn rewrite_next(
        &mut self,
        tools: &mut Tools,
        pace: Pace<'_>,
    ) -> Result<Option<Rewritten<F>>, CompactionError> {
        let mut worker = Worker { tools, pace };
        while let Some(group) = self.next_group() {
            self.directory.ensure_online()?;
            let (transactions, stats) = (self.transactions.clone(), self.stats);
            let quarantined = self.quarantine.len();
            match self.rewrite(&group, &mut worker) {
                Ok(rewritten) => {
                    self.done += group.sources.len();
                    if rewritten.is_some() {
                        return Ok(rewritten);
                    }
                }
                Err(Failure::Damaged(damage)) => {
                    self.damaged.insert(damage.segment);
                    (self.transactions, self.stats) = (transactions, stats);
                    self.quarantine.truncate(quarantined);
                    self.quarantine.push(damage);
                }
                Err(Failure::Pass(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn next_group(&mut self) -> Option<Group> {
        loop {
            let rest = self.sources.get(self.done..).unwrap_or_default();
            let first = rest.first().filter(|first| first.base < self.mapped_to)?;
            if self.damaged.contains(&first.base) {
                self.transactions.on_unreadable();
                self.done += 1;
                continue;
            }
            let is_whole = |source: &&SegmentFacts| {
                !self.damaged.contains(&source.base) && source.base < self.mapped_to
            };
            let run: Vec<SegmentFacts> = rest.iter().take_while(is_whole).copied().collect();
            let end_of = |count: usize| self.source(self.done + count - 1).1;
            let count = group(&run, end_of(run.len()), &self.config);
            return Some(Group {
                end: end_of(count),
                sources: run.into_iter().take(count).collect(),
            });
        }
    }

    /// Writes `group` as one segment; `None` if that would change nothing.
    fn rewrite(
        &mut self,
        group: &Group,
        worker: &mut Worker<'_>,
    ) -> Result<Option<Rewritten<F>>, Failure> {
        let sources = &group.sources;
        let base = sources.first().map_or(group.end, |first| first.base);
        let beside = Place::cleaned(Arc::clone(&self.directory), self.path.clone());
        let interval = self.config.index_interval_bytes;
        let mut writing = Writing {
            output: Output::create(beside, base, interval, self.now)?,
            is_changed: sources.len() > 1,
        };
        let outcome = self.rewrite_into(&mut writing, group, worker);
        let Writing { output, is_changed } = writing;
        if outcome.is_err() || !is_changed {
            let discarded = output.discard();
            return match outcome {
                Err(Failure::Pass(error)) => Err(error.into()),
                outcome => discarded.map_err(Failure::from).and(outcome).map(|()| None),
            };
        }
        self.stats.segments_before += sources.len() as u64;
        self.stats.segments_after += 1;
        Ok(Some(Rewritten {
            kinds: output.kinds(),
            segment: output.into_segment(),
            sources: sources
                .iter()
                .map(|source| (source.base, source.size))
                .collect(),
            cuts: self.cuts,
        }))
    }

    fn rewrite_into(
        &mut self,
        writing: &mut Writing<F>,
        group: &Group,
        worker: &mut Worker<'_>,
    ) -> Result<(), Failure> {
        let sources = &group.sources;
        let later = sources.iter().skip(1).map(|next| next.base);
        for (source, end) in sources.iter().zip(later.chain([group.end])) {
            let file = self.open(source.base)?;
            let mut walk = Walk::new(&file, 0..source.size, source.base..end);
            loop {
                let met = walk.next().map_err(|error| match error {
                    WalkError::Disk(error) => Failure::Pass(self.disk(error)),
                    WalkError::Damaged {
                        from,
                        position,
                        reason,
                    } => Failure::Damaged(Quarantined {
                        first_offset: from,
                        last_offset: end.plus(-1),
                        segment: source.base,
                        position,
                        bytes: source.size - position,
                        reason,
                    }),
                })?;
                let before = writing.output.position();
                let size = match met {
                    None => break,
                    Some(Met::Unreadable(batch)) => {
                        let size = batch.bytes.len();
                        self.keep_unreadable(writing, batch)?;
                        size
                    }
                    Some(Met::Batch(located, batch)) => {
                        self.rewrite_batch(writing, &batch, worker.tools)?;
                        located.size
                    }
                };
                let written = writing.output.position() - before;
                self.stats.bytes_read += size as u64;
                self.stats.bytes_written += written;
                hold_up(
                    &mut *worker.pace,
                    size + usize::try_from(written).unwrap_or(0),
                )?;
            }
        }
        if writing.is_changed {
            writing.output.finish()?;
            self.has_replacement = true;
            let replaced = writing.output.base()..group.end;
            let written = write_replacement(self.directory.files(), &self.path, replaced);
            written.map_err(|error| self.disk(error))?;
        }
        Ok(())
    }

    fn rewrite_batch(
        &mut self,
        writing: &mut Writing<F>,
        batch: &BatchView<'_>,
        tools: &mut Tools,
    ) -> Result<(), CompactionError> {
        let header = batch.header();
        let (is_spent, entry) = if header.is_control() {
            let fate = self.transactions.on_control(&Batch::from(*batch));
            (fate.may_go, fate.entry)
        } else {
            (self.transactions.on_data(header), None)
        };
        let rules = Rules {
            map: &tools.map,
            mapped_to: self.mapped_to,
            now: self.now,
            horizon: self.horizon(),
            last_records: &self.last_records,
            may_drop_tombstones: !self.transactions.has_met_unreadable(),
        };
        let standing = Standing {
            is_spent,
            ends_pass: header.next_offset() == self.upper,
        };
        let remains = match rules.apply(batch, standing, &mut tools.decompressor) {
            Ok(remains) => remains,
            Err(reason) => {
                let unreadable = Unreadable {
                    header: *header,
                    bytes: batch.bytes(),
                    reason,
                };
                self.keep_unreadable(writing, unreadable)?;
                return push_entry(writing, entry);
            }
        };
        self.stats.records_read += count(header.record_count);
        match remains {
            Remains::Whole => {
                self.stats.records_kept += count(header.record_count);
                writing.output.push(*header, batch.bytes())?;
            }
            Remains::Rewritten(bytes, records) => {
                self.stats.records_kept += count(records);
                writing.push_changed(&bytes)?;
            }
            Remains::Nothing => writing.is_changed = true,
        }
        push_entry(writing, entry)
    }

    fn keep_unreadable(
        &mut self,
        writing: &mut Writing<F>,
        batch: Unreadable<'_>,
    ) -> Result<(), CompactionError> {
        self.transactions.on_unreadable();
        let mut header = batch.header;
        if self.quarantine.len() < MAX_ENTRIES {
            self.quarantine.push(Quarantined {
                first_offset: header.base_offset(),
                last_offset: header.last_offset(),
                segment: writing.output.base(),
                position: writing.output.position(),
                bytes: batch.bytes.len() as u64,
                reason: batch.reason,
            });
        }
        // The timestamp of a damaged batch may be wrong too, and must not be indexed.
        header.max_timestamp = Timestamp::NONE.0;
        writing.output.push(header, batch.bytes)?;
        let entries = self.transactions.take_ended_in(&header);
        entries
            .iter()
            .try_for_each(|entry| writing.output.push_aborted(entry))
    }

    /// The delete horizon of tombstones that this pass is the first to meet.
    fn horizon(&self) -> Timestamp {
        let retention = i64::try_from(self.config.delete_retention.as_millis()).unwrap_or(i64::MAX);
        let retention = if is_planted(Bug::TombstoneDroppedEarly) {
            0
        } else {
            retention
        };
        Timestamp(self.now.0.saturating_add(retention))
    }
}

/// The segment being written, and whether it differs from its source.
struct Writing<F: Files> {
    output: Output<F>,
    is_changed: bool,
}

impl<F: Files> Writing<F> {
    fn push_changed(&mut self, bytes: &[u8]) -> Result<(), CompactionError> {
        self.is_changed = true;
        let head = bytes.first_chunk().expect("a batch that was just built");
        self.output.push(BatchHeader::decode(head), bytes)
    }
}

fn push_entry<F: Files>(
    writing: &mut Writing<F>,
    entry: Option<AbortedTransaction>,
) -> Result<(), CompactionError> {
    entry.map_or(Ok(()), |entry| writing.output.push_aborted(&entry))
}

fn count(records: i32) -> u64 {
    u64::try_from(records).unwrap_or(0)
}
