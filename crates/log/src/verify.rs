//! Checks what lies in a partition's directory, offline and without changing anything: `ottla log verify`.
//!
//! Batches against their checksums, their offsets and leader epochs against each other, indexes and the leader epoch
//! checkpoint against the batches. What merely waits to be removed, or was set aside by recovery, is noted. Memory is
//! bounded by the largest batch and the largest index.

mod aside;
mod indexes;

use std::path::{Path, PathBuf};

use self::indexes::Indexes;
use crate::checkpoint;
use crate::damage::{Damage, Met, Salvage, UNBOUNDED};
use crate::files::{File, FileError, Files, Open, read_whole};
use crate::format::{
    CLEANED_SUFFIX, CUT_OFF_SUFFIX, DELETED_SUFFIX, FileKind, SWAP_SUFFIX, decode_producer_snapshot,
};
use crate::leader_epochs::LeaderEpochs;
use crate::scan::Located;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use std::ops::Range;

/// A snapshot of producers is at most this large.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For information.
    Note,
    /// Something is not as it was written.
    Damage,
}

/// Something worth saying about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file or directory.
    pub path: PathBuf,
    /// Where in the file.
    pub position: Option<u64>,
    /// What was found, and what follows from it.
    pub what: String,
    /// What `ottla log repair` does about it; nothing where it can do nothing, or nothing is to be done.
    pub remedy: Option<Remedy>,
}

/// What can be done about damage, offline. See [`crate::repair`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Take the damaged bytes out of their segment.
    CutOut(Damage),
    /// Make the offset and time index of this segment anew.
    Reindex(Offset),
    /// Make the index of aborted transactions of this segment anew.
    ReindexTransactions(Offset),
    /// Move the file aside: its content is found again from others.
    SetAside,
    /// Write the leader epochs down that the batches say.
    WriteEpochs,
    /// Make the log end where it ended, after offsets that are lost.
    KeepEnd {
        /// Where it ends now.
        from: Offset,
        /// Where it ended.
        to: Offset,
    },
}

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Segments that were read.
    pub segments: u64,
    /// Batches that were read.
    pub batches: u64,
    /// Bytes of `.log` files that were read.
    pub bytes: u64,
    /// In the order of the files.
    pub findings: Vec<Finding>,
    /// The offset after the last batch, sound or damaged, where there is any.
    pub log_end: Option<Offset>,
    /// The leader epochs that the batches say.
    pub epochs: LeaderEpochs,
}

/// What the checkpoints of the log directory say of a partition, as far as they are known.
#[derive(Debug, Default, Clone, Copy)]
pub struct Checkpointed {
    /// Up to here its records were on stable storage.
    pub recovery_point: Option<Offset>,
    /// Records before this offset are deleted, even where their segment still holds them. It may lie before the first
    /// segment.
    pub log_start: Option<Offset>,
}

/// Checks the partition in `directory` against its own files, and against what its log directory says of it.
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
        check.segment(base..bound, durable_to)?;
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
    /// The offset that the next batch has at least.
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
        durable_to: Option<Offset>,
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
        let mut walk = walk.by_way_of(durable_to.unwrap_or(UNBOUNDED));
        while let Some(met) = walk.advance()? {
            match met {
                Met::Batch(located) => {
                    self.batch(&path, &located);
                    indexes.pass(&located, &mut self.verified.findings);
                }
                Met::Damage(damage) => {
                    // Where nothing follows, only what was on stable storage is known to have been there.
                    let end = durable_to.unwrap_or_default().max(damage.first_offset);
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
        if decode_producer_snapshot(&content).is_none() {
            let what = "this is no snapshot of producers: they are followed from an earlier one";
            let remedy = Some(Remedy::SetAside);
            self.find(Severity::Damage, &path, what.to_owned(), remedy);
        }
        Ok(())
    }

    /// What was on stable storage once must still be there.
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

    /// What the batches say must be in the checkpoint. It may know older epochs, and earlier starts.
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

/// Where DeleteRecords or retention cut off the beginning of the epochs, like Kafka does: the log start offset is then
/// said to be the start of its epoch, and older epochs are forgotten, although their batches stay until their segment
/// is removed. An unknown log start offset can be any.
fn cut_at(epochs: &LeaderEpochs, log_start: Option<Offset>) -> Option<Offset> {
    let (_, start) = epochs.entries().next()?;
    log_start
        .is_none_or(|log_start| start <= log_start)
        .then_some(start)
}
