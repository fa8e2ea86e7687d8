//! Checks the files of a partition, offline and without changes, for `ottla log verify`.
//!
//! It verifies the checksums, offsets and leader epochs of batches, and compares indexes and the leader epoch
//! checkpoint with the batches. Files that wait to be removed, or that recovery has kept aside, are notes. Memory is
//! bounded by the largest batch and the largest index.

mod aside;
mod finding;
mod indexes;

use std::path::Path;

pub use self::finding::{Finding, Remedy, Severity};
use self::indexes::Indexes;
use crate::checkpoint;
use crate::compaction::gaps_end;
use crate::damage::{Met, Salvage, UNBOUNDED};
use crate::files::{File, FileError, Files, Open, read_whole};
use crate::format::{CLEANED_SUFFIX, CUT_OFF_SUFFIX, DELETED_SUFFIX, FileKind, SWAP_SUFFIX};
use crate::leader_epochs::LeaderEpochs;
use crate::producer_snapshot;
use crate::scan::Located;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use std::ops::Range;

/// Upper bound of the size of a producer snapshot.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// The outcome of a verification.
#[derive(Debug, Default)]
pub struct Verified {
    /// Segments that were read.
    pub segments: u64,
    /// Batches that were read.
    pub batches: u64,
    /// Bytes of `.log` files that were read.
    pub bytes: u64,
    /// The findings, in the order of the files.
    pub findings: Vec<Finding>,
    /// The offset after the last batch, sound or damaged; `None` without batches.
    pub log_end: Option<Offset>,
    /// The leader epochs of the batches.
    pub epochs: LeaderEpochs,
}

/// The offsets of a partition in the checkpoints of its log directory, as far as they are known.
#[derive(Debug, Default, Clone, Copy)]
pub struct Checkpointed {
    /// The recovery point: records below it were on stable storage.
    pub recovery_point: Option<Offset>,
    /// The log start offset. Records before it are deleted, even if their segment is still there. It may be before the
    /// first segment.
    pub log_start: Option<Offset>,
    /// The offset below which it is compacted.
    pub compacted_to: Option<Offset>,
}

impl Checkpointed {
    /// The end of the gaps that compaction left, if it is known.
    fn gaps_end(&self) -> Option<Offset> {
        let recovery_point = self.recovery_point?;
        Some(gaps_end(recovery_point, self.compacted_to))
    }
}

/// Checks the files of the partition in `directory` against each other, and against the checkpoints of its log
/// directory.
pub fn verify_partition<F: Files>(
    files: &F,
    directory: &Path,
    checkpointed: Checkpointed,
) -> Result<Verified, FileError> {
    let durable_to = checkpointed.recovery_point;
    let mut check = Check {
        files,
        directory,
        verified: Verified::default(),
        next: None,
        epochs: Vec::new(),
    };
    let mut bases = Vec::new();
    let mut snapshots = Vec::new();
    for entry in files.list(directory)? {
        match FileKind::of_name(&entry.name) {
            Some((FileKind::Log, base)) => bases.push(base),
            Some((FileKind::ProducerSnapshot, offset)) => snapshots.push(offset),
            Some(_) => {}
            None => check.note_name(&entry.name)?,
        }
    }
    bases.sort_unstable();
    let bounds = bases.iter().skip(1).copied().chain([UNBOUNDED]);
    for (base, bound) in bases.iter().copied().zip(bounds) {
        check.segment(base..bound, &checkpointed)?;
    }
    for snapshot in snapshots {
        check.snapshot(snapshot)?;
    }
    check.leader_epochs(checkpointed.log_start);
    check.topic_id();
    check.end(durable_to);
    check.verified.log_end = check.next;
    let epochs = check.epochs.iter().map(|span| (span.epoch, span.first));
    check.verified.epochs = LeaderEpochs::from_entries(epochs);
    Ok(check.verified)
}

/// The batches of one leader epoch.
#[derive(Debug, Clone, Copy)]
struct EpochSpan {
    epoch: LeaderEpoch,
    /// The first offset of its first batch.
    first: Offset,
    /// The offset after its last batch.
    end: Offset,
}

struct Check<'a, F> {
    files: &'a F,
    directory: &'a Path,
    verified: Verified,
    /// The lowest base offset that the next batch may have.
    next: Option<Offset>,
    /// The leader epochs of the batches, rising.
    epochs: Vec<EpochSpan>,
}

impl<F: Files> Check<'_, F> {
    fn find(&mut self, severity: Severity, path: &Path, what: String, remedy: Option<Remedy>) {
        self.verified.findings.push(Finding {
            severity,
            path: path.to_path_buf(),
            position: None,
            what,
            remedy,
        });
    }

    fn damage(&mut self, path: &Path, position: u64, what: String, remedy: Option<Remedy>) {
        self.verified.findings.push(Finding {
            severity: Severity::Damage,
            path: path.to_path_buf(),
            position: Some(position),
            what,
            remedy,
        });
    }

    fn note_name(&mut self, name: &str) -> Result<(), FileError> {
        let path = self.directory.join(name);
        let what = if name.ends_with(CUT_OFF_SUFFIX) {
            aside::describe(self.files, &path)?
        } else if name.ends_with(DELETED_SUFFIX) {
            "waits to be removed".to_owned()
        } else if name.ends_with(CLEANED_SUFFIX) || name.ends_with(SWAP_SUFFIX) {
            "a compaction was cut short; the next start ends it".to_owned()
        } else {
            return Ok(());
        };
        self.find(Severity::Note, &path, what, None);
        Ok(())
    }

    fn segment(
        &mut self,
        offsets: Range<Offset>,
        checkpointed: &Checkpointed,
    ) -> Result<(), FileError> {
        let Range {
            start: base,
            end: bound,
        } = offsets;
        let path = FileKind::Log.path(self.directory, base);
        let file = self.files.open(&path, Open::Read)?;
        let length = file.length()?;
        self.next = self.next.max(Some(base));
        self.verified.segments += 1;
        self.verified.bytes += length;
        let mut indexes = Indexes::read(self.files, self.directory, base)?;
        let walk = Salvage::new(&file, base, 0..length, base..bound);
        let mut walk = walk.by_way_of(checkpointed.gaps_end().unwrap_or(UNBOUNDED));
        while let Some(met) = walk.advance()? {
            match met {
                Met::Batch(located) => {
                    self.batch(&path, &located);
                    indexes.pass(&located, &mut self.verified.findings);
                }
                Met::Damage(damage) => {
                    // If no batch follows, only offsets that were on stable storage are known to have existed.
                    let durable_to = checkpointed.recovery_point.unwrap_or_default();
                    let end = durable_to.max(damage.first_offset);
                    let damage = match damage.next_offset {
                        UNBOUNDED => damage.ending_at(end),
                        _ => damage,
                    };
                    indexes.skip(&damage);
                    self.next = self.next.max(Some(damage.next_offset));
                    let remedy = Some(Remedy::CutOut(damage));
                    self.damage(&path, damage.position, damage.to_string(), remedy);
                }
            }
        }
        indexes.end(&mut self.verified.findings);
        let end = self.next.unwrap_or(base);
        let bound = if bound == UNBOUNDED {
            end
        } else {
            bound.max(end)
        };
        let found = indexes::transaction_index(self.files, self.directory, base..bound)?;
        self.verified.findings.extend(found);
        Ok(())
    }

    fn batch(&mut self, path: &Path, located: &Located) {
        self.verified.batches += 1;
        let header = &located.header;
        self.next = self.next.max(Some(header.next_offset()));
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        let end = header.next_offset();
        match self.epochs.last_mut() {
            Some(span) if epoch < span.epoch => {
                let what = format!("leader epoch {epoch} comes after {}", span.epoch);
                self.damage(path, located.position, what, None);
            }
            Some(span) if epoch == span.epoch => span.end = end,
            _ => self.epochs.push(EpochSpan {
                epoch,
                first: header.base_offset(),
                end,
            }),
        }
    }

    fn snapshot(&mut self, offset: Offset) -> Result<(), FileError> {
        let path = FileKind::ProducerSnapshot.path(self.directory, offset);
        let content = read_whole(self.files, &path, MAX_SNAPSHOT_BYTES)?.unwrap_or_default();
        if producer_snapshot::decode(&content).is_none() {
            let what = "this is no snapshot of producers: they are followed from an earlier one";
            let remedy = Some(Remedy::SetAside);
            self.find(Severity::Damage, &path, what.to_owned(), remedy);
        }
        Ok(())
    }

    /// Checks that the log does not end before its recovery point.
    fn end(&mut self, durable_to: Option<Offset>) {
        let Some(durable_to) = durable_to else { return };
        let end = self.next.unwrap_or_default();
        if end < durable_to {
            let what = format!(
                "the log ends at offset {end}, but was on stable storage up to {durable_to}"
            );
            let remedy = Remedy::KeepEnd {
                from: end,
                to: durable_to,
            };
            let remedy = self.next.map(|_| remedy);
            let directory = self.directory.to_path_buf();
            self.find(Severity::Damage, &directory, what, remedy);
        }
    }

    /// Checks that the checkpoint has the epochs of the batches. It may also have older epochs, and earlier start
    /// offsets.
    fn leader_epochs(&mut self, log_start: Option<Offset>) {
        let path = self.directory.join(checkpoint::LEADER_EPOCHS);
        let known = match checkpoint::read_leader_epochs(self.files, self.directory) {
            Ok(known) => known,
            Err(error) => {
                let remedy = Some(Remedy::WriteEpochs);
                self.find(Severity::Damage, &path, error.to_string(), remedy);
                return;
            }
        };
        let cut_at = cut_at(&known, log_start);
        for EpochSpan { epoch, first, end } in self.epochs.clone() {
            let start = known.entries().find(|(known, _)| *known == epoch);
            let (severity, what) = match start {
                _ if epoch.0 < 0 => continue,
                Some((_, start)) if start <= first || Some(start) == cut_at => continue,
                Some((_, start)) => (
                    Severity::Damage,
                    format!(
                        "leader epoch {epoch} is said to begin at {start}, its first batch is at {first}"
                    ),
                ),
                None if known.latest().is_none_or(|latest| latest < epoch) => (
                    Severity::Note,
                    format!(
                        "leader epoch {epoch}, which begins at offset {first}, is not written down yet; a start does it"
                    ),
                ),
                None if cut_at.is_some_and(|cut_at| end <= cut_at) => continue,
                None => (
                    Severity::Damage,
                    format!("leader epoch {epoch}, which begins at offset {first}, is missing"),
                ),
            };
            let remedy = (severity == Severity::Damage).then_some(Remedy::WriteEpochs);
            self.find(severity, &path, what, remedy);
        }
    }

    fn topic_id(&mut self) {
        let path = self.directory.join(checkpoint::PARTITION_METADATA);
        match checkpoint::read_topic_id(self.files, self.directory) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let what = "missing: Apache Kafka would set the partition aside and start it empty";
                self.find(Severity::Damage, &path, what.to_owned(), None);
            }
            Err(error) => self.find(Severity::Damage, &path, error.to_string(), None),
        }
    }
}

/// The start offset of the first epoch in the checkpoint, if the log start offset may have cut the epochs there. As in
/// Kafka, DeleteRecords and retention let the epoch of the log start offset begin there and drop older epochs, although
/// their batches stay until the segment is removed.
fn cut_at(epochs: &LeaderEpochs, log_start: Option<Offset>) -> Option<Offset> {
    let (_, start) = epochs.entries().next()?;
    log_start
        .is_none_or(|log_start| start <= log_start)
        .then_some(start)
}
