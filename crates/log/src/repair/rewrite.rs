//! The steps of a repair that write: segments without damage, indexes, the end of a log.

use super::stand_in::{Before, empty_batch};
use super::{MAX_COPIED, Repair, RepairError};
use crate::batch::Batch;
use crate::compaction::{CompactionError, Output, REPLACEMENT, write_replacement};
use crate::config::LogConfig;
use crate::damage::{Damage, Met, Salvage, UNBOUNDED};
use crate::files::{File, Files, Open, copy, read_whole, replace_durably};
use crate::format::{AbortedTransaction, CLEANED_SUFFIX, FileKind, IndexEntry, SWAP_SUFFIX};
use crate::place::Place;
use crate::producer_state::{Origin, ProducerState};
use crate::segment::{PresentIndexes, Segment};
use crate::transaction_index;
use ottla_protocol::ids::Offset;
use ottla_protocol::records::BatchView;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

/// The files of a segment, without the producer snapshot. The `.log` is last.
const REPLACED: [FileKind; 4] = [
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TransactionIndex,
    FileKind::Log,
];

/// The indexes that are rebuilt from the batches.
const MADE_ANEW: [FileKind; 2] = [FileKind::OffsetIndex, FileKind::TimeIndex];

impl<F: Files> Repair<F> {
    /// The base offsets of the segments, rising.
    pub(super) fn bases(&self) -> Result<Vec<Offset>, RepairError> {
        let listed = self.directory.files().list(&self.place.path);
        let names = self.judge(listed)?.into_iter();
        let kinds = names.filter_map(|entry| FileKind::of_name(&entry.name));
        let logs = kinds.filter(|(kind, _)| *kind == FileKind::Log);
        let mut bases: Vec<Offset> = logs.map(|(_, base)| base).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    /// The base offset of the segment after the one at `base`.
    fn bound_of(&self, base: Offset) -> Result<Offset, RepairError> {
        let bases = self.bases()?;
        let next = bases.into_iter().find(|other| *other > base);
        Ok(next.unwrap_or(UNBOUNDED))
    }

    fn load(&self, base: Offset) -> Result<Segment<F>, RepairError> {
        let present = |kind| {
            let length = self.place.length(kind, base);
            self.judge(length).map(|length| length.is_some())
        };
        let indexes = PresentIndexes {
            offset: present(FileKind::OffsetIndex)?,
            time: present(FileKind::TimeIndex)?,
            transaction: present(FileKind::TransactionIndex)?,
        };
        self.judge(Segment::load(&self.place, base, indexes))
    }

    /// Calls `take` with each batch, its bytes, and each damage of a segment.
    pub(super) fn walk(
        &self,
        base: Offset,
        mut take: impl FnMut(Met, &[u8]),
    ) -> Result<(), RepairError> {
        let segment = self.load(base)?;
        let file = self.judge(segment.file(&self.place))?;
        let offsets = base..self.bound_of(base)?;
        let mut walk = Salvage::new(&*file, base, 0..segment.size, offsets);
        while let Some(met) = self.judge(walk.advance())? {
            match &met {
                Met::Batch(located) => take(met, walk.bytes_of(located)),
                Met::Damage(_) => take(met, &[]),
            }
        }
        Ok(())
    }

    pub(super) fn rewrite(&self, base: Offset, damage: &[Damage]) -> Result<(), RepairError> {
        let (aborted, is_all) = self.aborted_transactions(base..self.bound_of(base)?)?;
        if !is_all {
            // The plan rebuilds that index first.
            return Err(CompactionError::Changed.into());
        }
        damage.iter().try_for_each(|damage| self.keep(damage))?;
        // These indexes are rebuilt without the damaged batches; entries of aborted transactions are copied.
        for kind in MADE_ANEW {
            self.keep_copy(&self.place.path_of(kind, base))?;
        }
        self.judge(self.directory.files().sync_directory(&self.place.path))?;
        let source = self.load(base)?;
        let path = self.place.path.clone();
        let beside = Place::cleaned(Arc::clone(&self.directory), path);
        let interval = LogConfig::default().index_interval_bytes;
        let mut copy = SegmentCopy {
            output: Output::create(beside, base, interval, self.now)?,
            to: 0,
            end: base,
            before: Before {
                leader_epoch: self.epoch_before(base)?,
                timestamp: -1,
            },
        };
        for damage in damage {
            self.copy_up_to(damage.position, &source, &mut copy)?;
            for (header, bytes) in self.stand_ins(damage, &aborted, copy.before)? {
                copy.output.push(header, &bytes)?;
            }
            copy.to = damage.end();
            copy.end = damage.next_offset;
        }
        self.copy_up_to(source.size, &source, &mut copy)?;
        let SegmentCopy {
            mut output, end, ..
        } = copy;
        for entry in &aborted {
            output.push_aborted(entry)?;
        }
        output.finish()?;
        self.put_in_place(&output, end)
    }

    fn copy_up_to(
        &self,
        position: u64,
        source: &Segment<F>,
        copied: &mut SegmentCopy<F>,
    ) -> Result<(), RepairError> {
        let file = self.judge(source.file(&self.place))?;
        let offsets = copied.end..self.bound_of(source.base)?;
        let mut walk = Salvage::new(&*file, source.base, copied.to..position, offsets);
        while let Some(met) = self.judge(walk.advance())? {
            let Met::Batch(located) = met else {
                // The segment has changed since the plan.
                return Err(CompactionError::Changed.into());
            };
            copied.before = Before {
                leader_epoch: located.header.partition_leader_epoch,
                timestamp: located.header.max_timestamp,
            };
            copied.end = located.header.next_offset();
            copied
                .output
                .push(located.header, walk.bytes_of(&located))?;
        }
        Ok(())
    }

    /// Copies the damaged bytes to a `.cutoff` file and syncs it, without its name.
    fn keep(&self, damage: &Damage) -> Result<(), RepairError> {
        let name = self.name_aside(damage.first_offset, &damage.position.to_string());
        let head = format!(
            "taken out of a log by `ottla log repair`\nsegment: {:020}.log\nposition: {}\nbytes: {}\n\
             first-offset: {}\nnext-offset: {}\nreason: {}\n\n",
            damage.segment.0,
            damage.position,
            damage.bytes,
            damage.first_offset,
            damage.next_offset,
            damage.cause,
        );
        let path = self.place.path.join(name);
        let source = self.place.open(FileKind::Log, damage.segment);
        let kept = source.and_then(|source| {
            let to = self.directory.open_anew(&path, Open::Replace)?;
            to.write_at(&[IoSlice::new(head.as_bytes())], 0)?;
            let damaged = damage.position..damage.end();
            copy(&*source, damaged, &to, head.len() as u64)?;
            to.sync_data()
        });
        self.judge(kept)
    }

    /// Replaces a segment by its finished copy, by renames alone: see `compaction/replace.rs`. A start after a crash in
    /// between undoes or completes that.
    fn put_in_place(&self, output: &Output<F>, end: Offset) -> Result<(), RepairError> {
        let (files, path) = (self.directory.files(), &self.place.path);
        let base = output.base();
        self.judge(write_replacement(files, path, base..end))?;
        let named = |kind: FileKind, suffix| kind.path_with(path, base, suffix);
        let rename = |from, to| {
            let mut kinds = output.kinds().into_iter();
            kinds.try_for_each(|kind| files.rename(&named(kind, from), &named(kind, to)))
        };
        self.judge(rename(CLEANED_SUFFIX, SWAP_SUFFIX))?;
        for kind in REPLACED {
            self.directory.forget(&named(kind, ""));
            match files.remove(&named(kind, "")) {
                Err(error) if error.is_not_found() => {}
                outcome => self.judge(outcome)?,
            }
        }
        self.judge(rename(SWAP_SUFFIX, ""))?;
        self.judge(files.sync_directory(path))?;
        let removed = files.remove(&path.join(REPLACEMENT));
        self.judge(removed.and_then(|()| files.sync_directory(path)))
    }

    /// Rebuilds the offset and time index of a segment, each atomically. A crash may leave one old and one new, which
    /// the next repair finds.
    pub(super) fn reindex(&self, base: Offset) -> Result<(), RepairError> {
        let mut segment =
            self.judge(Segment::load(&self.place, base, PresentIndexes::default()))?;
        self.judge(segment.begin_scan(&self.place, 0, self.now))?;
        let interval = u64::from(LogConfig::default().index_interval_bytes);
        self.walk(base, |met, _| {
            if let Met::Batch(located) = met {
                segment.note(&located, interval);
            }
        })?;
        segment.end_scan();
        let contents = [segment.offset_index.encoded(), segment.time_index.encoded()];
        for (kind, content) in MADE_ANEW.into_iter().zip(contents) {
            let path = self.place.path_of(kind, base);
            self.keep_copy(&path)?;
            self.directory.forget(&path);
            self.judge(replace_durably(self.directory.files(), &path, &content))?;
        }
        Ok(())
    }

    /// The sound entries of a segment's index of aborted transactions, and whether all are sound. There may be sound
    /// entries after a damaged one.
    fn aborted_transactions(
        &self,
        offsets: Range<Offset>,
    ) -> Result<(Vec<AbortedTransaction>, bool), RepairError> {
        let path = self
            .place
            .path_of(FileKind::TransactionIndex, offsets.start);
        let bytes = self.judge(read_whole(self.directory.files(), &path, MAX_COPIED))?;
        let bytes = bytes.unwrap_or_default();
        let entries = transaction_index::entries(&bytes, &offsets);
        let is_all = entries.iter().all(Option::is_some);
        Ok((entries.into_iter().flatten().collect(), is_all))
    }

    /// Rebuilds the index of aborted transactions from its sound entries and from the batches. Only the index knows a
    /// transaction whose marker is damaged.
    pub(super) fn reindex_transactions(&self, base: Offset) -> Result<(), RepairError> {
        let (replayed, end) = self.replay(base)?;
        let (known, _) = self.aborted_transactions(base..end)?;
        // Entries of the index win over those from the batches, some of which may be damaged.
        let all = replayed.into_iter().chain(known);
        let entries: BTreeMap<_, _> = all.map(|entry| (entry.last_offset, entry)).collect();
        let mut bytes = Vec::new();
        for entry in entries.values() {
            entry.encode(&mut bytes);
        }
        let path = self.place.path_of(FileKind::TransactionIndex, base);
        self.keep_copy(&path)?;
        self.directory.forget(&path);
        self.judge(replace_durably(self.directory.files(), &path, &bytes))
    }

    /// The aborted transactions whose markers are in `segment`, replayed from all batches up to it; and the end offset
    /// of that segment, after batches or damage.
    fn replay(&self, segment: Offset) -> Result<(Vec<AbortedTransaction>, Offset), RepairError> {
        let mut state = ProducerState::default();
        let mut aborted = Vec::new();
        let mut end = segment;
        for base in self
            .bases()?
            .into_iter()
            .take_while(|base| *base <= segment)
        {
            self.walk(base, |met, bytes| {
                let located = match met {
                    Met::Batch(located) => located,
                    Met::Damage(damage) => {
                        end = damage.next_offset;
                        return;
                    }
                };
                end = located.header.next_offset();
                let Ok(batch) = BatchView::first(bytes) else {
                    return;
                };
                if !located.header.has_producer_id() {
                    return;
                }
                let mut staged = state.stage();
                let added = staged.add(&Batch::from(batch), None, Origin::Replication);
                let changes = staged.finish();
                if added.is_ok() {
                    let ended = state.apply(changes, located.header.next_offset());
                    aborted.extend(ended.into_iter().filter(|_| base == segment));
                }
            })?;
        }
        Ok((aborted, end))
    }

    pub(super) fn keep_end(&self, from: Offset, to: Offset) -> Result<(), RepairError> {
        let Some(base) = self.bases()?.pop() else {
            return Ok(());
        };
        let segment = self.load(base)?;
        let last = self.epochs_of(base)?.pop();
        let epoch = last.map_or_else(|| self.epoch_before(base), Ok)?;
        let Some((_, bytes)) = empty_batch(from.max(base)..to, epoch) else {
            return Ok(());
        };
        let file = self.judge(segment.file(&self.place))?;
        let written = file.write_at(&[IoSlice::new(&bytes)], segment.size);
        self.judge(written.and_then(|()| file.sync_data()))
    }

    /// The leader epoch at the start of a segment.
    fn epoch_before(&self, base: Offset) -> Result<i32, RepairError> {
        let bases = self.bases()?.into_iter();
        let before = bases.take_while(|before| *before < base).last();
        let before = match before {
            Some(before) => self.epochs_of(before)?.pop(),
            None => None,
        };
        let own = || Ok(self.epochs_of(base)?.first().copied().unwrap_or(0));
        before.map_or_else(own, Ok)
    }

    /// The leader epochs of a segment's batches, in order.
    fn epochs_of(&self, base: Offset) -> Result<Vec<i32>, RepairError> {
        let mut epochs = Vec::new();
        self.walk(base, |met, _| {
            if let Met::Batch(located) = met {
                epochs.push(located.header.partition_leader_epoch);
                epochs.dedup();
            }
        })?;
        Ok(epochs)
    }
}

/// A copy of a segment without its damage, while it is written.
struct SegmentCopy<F: Files> {
    output: Output<F>,
    /// The source is copied up to this position.
    to: u64,
    /// The offset after the last batch.
    end: Offset,
    /// Facts of the last batch, for empty batches that follow.
    before: Before,
}
