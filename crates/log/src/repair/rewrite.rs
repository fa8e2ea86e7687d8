//! Writing what a repair writes: segments without their damage, their indexes, and the end of a log.

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

/// The files of a segment but for the producers' state, which is not the segment's alone; the batches go last.
const REPLACED: [FileKind; 4] = [
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TransactionIndex,
    FileKind::Log,
];

/// The indexes that are made from the batches.
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

    /// Where the segment after the one at `base` begins.
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

    /// Hands what is in a segment, batches with their bytes and damage, to `take`.
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
            // The plan makes that index anew first.
            return Err(CompactionError::Changed.into());
        }
        damage.iter().try_for_each(|damage| self.keep(damage))?;
        // Their entries for what is damaged cannot be made again; those of aborted transactions are copied.
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

    /// Copies the sound batches of `source` up to `position`.
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
                // Not what the plan was made from.
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

    /// Keeps the damaged bytes in a file of their own, durably but for its name.
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

    /// Lets a finished segment take its source's place, by names alone: see `compaction/replace.rs`. A start after a
    /// crash in between takes back or completes it.
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

    /// Makes the offset and time index of a segment anew, each at once: a crash leaves the old or the new, which the
    /// next repair finds.
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

    /// What can be read of a segment's index of aborted transactions, and whether that is all of it. Behind an entry
    /// that is none lie others that are.
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

    /// Makes the index of aborted transactions from what is sound of it and what the batches say. Only the index knows
    /// of a transaction whose marker is damaged.
    pub(super) fn reindex_transactions(&self, base: Offset) -> Result<(), RepairError> {
        let (replayed, end) = self.replay(base)?;
        let (known, _) = self.aborted_transactions(base..end)?;
        // What it says is believed before what follows from batches of which some may be damaged.
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

    /// The aborted transactions whose markers are in the segment at `segment`, as all batches up to it say, and the
    /// offset where that segment's batches, or its damage, end.
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

    /// Appends an empty batch to the last segment.
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

    /// The leader epoch in which a segment begins.
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

/// A segment without its damage, as far as it is written.
struct SegmentCopy<F: Files> {
    output: Output<F>,
    /// The position in the source up to which it is copied.
    to: u64,
    /// The offset behind the last batch.
    end: Offset,
    /// The leader epoch and timestamp of the last batch.
    before: Before,
}
