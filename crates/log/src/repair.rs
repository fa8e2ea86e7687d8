//! Repairs a partition's directory offline, for `ottla log repair`. [`plan`] lists the steps, and [`carry_out`] does
//! them and nothing else.
//!
//! No byte is destroyed: damaged bytes and replaced files are first kept under `.cutoff` names, durably. Everything
//! else is copied as it is. A segment is rewritten and replaced as compaction does it, so a crash leaves the old or the
//! new one. Offsets are never used twice: an empty batch takes the place of lost records and keeps their offsets.

mod rewrite;
mod stand_in;

use crate::checkpoint::{LEADER_EPOCHS, write_leader_epochs};
use crate::compaction::CompactionError;
use crate::damage::Damage;
use crate::directory::{LogDirectory, StorageError};
use crate::files::{FileError, Files, read_whole, replace_durably};
use crate::format::{CLEANED_SUFFIX, CUT_OFF_SUFFIX, FileKind, SWAP_SUFFIX};
use crate::leader_epochs::LeaderEpochs;
use crate::place::Place;
use crate::verify::{Remedy, Verified};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Upper bound of an index or checkpoint that is replaced.
const MAX_COPIED: u64 = 1 << 30;

/// One step of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Rewrites a segment without its damaged bytes, and rebuilds its offset and time index.
    Rewrite {
        /// The base offset of the segment.
        segment: Offset,
        /// The bytes to remove, in order.
        damage: Vec<Damage>,
    },
    /// Rebuilds the offset and time index of a segment.
    Reindex(Offset),
    /// Rebuilds the index of aborted transactions of a segment.
    ReindexTransactions(Offset),
    /// Renames a file to `.cutoff`.
    SetAside(PathBuf),
    /// Rewrites the leader epoch checkpoint.
    WriteEpochs(LeaderEpochs),
    /// Appends an empty batch, to keep offsets at the end of the log.
    KeepEnd {
        /// The first offset that is lost.
        from: Offset,
        /// The offset after the last.
        to: Offset,
    },
}

/// Why a repair ended early. Its finished steps stay done, and it can be started again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// An interrupted compaction is not finished yet.
    #[error(
        "{} holds a segment that compaction was replacing: start the broker once, which ends that, then repair",
        .0.display()
    )]
    Compacting(PathBuf),
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The segment cannot be written.
    #[error(transparent)]
    Rewrite(#[from] CompactionError),
}

/// The steps that repair what [`crate::verify`] found in a partition.
pub fn plan(verified: &Verified) -> Vec<Step> {
    let mut rewrites: BTreeMap<Offset, Vec<Damage>> = BTreeMap::new();
    let mut transactions = Vec::new();
    let mut others = Vec::new();
    let mut seen = BTreeSet::new();
    for finding in &verified.findings {
        let step = match finding.remedy {
            None => continue,
            Some(Remedy::CutOut(damage)) => {
                rewrites.entry(damage.segment).or_default().push(damage);
                continue;
            }
            Some(Remedy::Reindex(segment)) => Step::Reindex(segment),
            Some(Remedy::ReindexTransactions(segment)) => Step::ReindexTransactions(segment),
            Some(Remedy::SetAside) => Step::SetAside(finding.path.clone()),
            Some(Remedy::WriteEpochs) => Step::WriteEpochs(verified.epochs.clone()),
            Some(Remedy::KeepEnd { from, to }) => Step::KeepEnd { from, to },
        };
        if seen.insert(step.to_string()) {
            match step {
                Step::ReindexTransactions(_) => transactions.push(step),
                _ => others.push(step),
            }
        }
    }
    // Rewriting a segment rebuilds its offset and time index. It copies the index of aborted transactions, which must
    // be repaired before.
    others.retain(|step| !matches!(step, Step::Reindex(segment) if rewrites.contains_key(segment)));
    let rewrites = rewrites.into_iter();
    let rewrites = rewrites.map(|(segment, damage)| Step::Rewrite { segment, damage });
    transactions
        .into_iter()
        .chain(rewrites)
        .chain(others)
        .collect()
}

/// Does `steps` in the partition at `path`. Nobody else may use it.
pub fn carry_out<F: Files>(
    files: &F,
    path: &Path,
    steps: &[Step],
    now: Timestamp,
) -> Result<(), RepairError> {
    let repair = Repair::new(files, path, now);
    repair.refuse_compacting()?;
    steps.iter().try_for_each(|step| repair.carry_out(step))
}

/// A partition being repaired.
struct Repair<F: Files> {
    directory: Arc<LogDirectory<F>>,
    place: Place<F>,
    now: Timestamp,
}

impl<F: Files> Repair<F> {
    fn new(files: &F, path: &Path, now: Timestamp) -> Self {
        let directory = LogDirectory::new(files.clone(), path.parent().unwrap_or(path));
        let place = Place {
            directory: Arc::clone(&directory),
            path: path.to_path_buf(),
            suffix: "",
        };
        Self {
            directory,
            place,
            now,
        }
    }

    fn refuse_compacting(&self) -> Result<(), RepairError> {
        let listed = self.directory.files().list(&self.place.path);
        let entries = self.directory.judge(listed)?;
        let is_of_compaction =
            |name: &str| name.ends_with(CLEANED_SUFFIX) || name.ends_with(SWAP_SUFFIX);
        if entries.iter().any(|entry| is_of_compaction(&entry.name)) {
            return Err(RepairError::Compacting(self.place.path.clone()));
        }
        Ok(())
    }

    fn carry_out(&self, step: &Step) -> Result<(), RepairError> {
        match step {
            Step::Rewrite { segment, damage } => self.rewrite(*segment, damage),
            Step::Reindex(segment) => self.reindex(*segment),
            Step::ReindexTransactions(segment) => self.reindex_transactions(*segment),
            Step::SetAside(path) => self.set_aside(path),
            Step::WriteEpochs(epochs) => {
                self.keep_copy(&self.place.path.join(LEADER_EPOCHS))?;
                self.judge(write_leader_epochs(
                    self.directory.files(),
                    &self.place.path,
                    epochs,
                ))
            }
            Step::KeepEnd { from, to } => self.keep_end(*from, *to),
        }
    }

    fn judge<T>(&self, outcome: Result<T, FileError>) -> Result<T, RepairError> {
        Ok(self.directory.judge(outcome)?)
    }

    /// Renames a file to `.cutoff`, if it exists. The next start rebuilds its content.
    fn set_aside(&self, path: &Path) -> Result<(), RepairError> {
        self.directory.forget(path);
        let files = self.directory.files();
        match files.rename(path, &self.aside(path)) {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => self.judge(outcome.and_then(|()| files.sync_directory(&self.place.path))),
        }
    }

    /// Copies a file to `.cutoff`, if it exists, before it is replaced.
    fn keep_copy(&self, path: &Path) -> Result<(), RepairError> {
        let files = self.directory.files();
        match self.judge(read_whole(files, path, MAX_COPIED))? {
            None => Ok(()),
            Some(content) => self.judge(replace_durably(files, &self.aside(path), &content)),
        }
    }

    /// The `.cutoff` name of a file.
    fn aside(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let offset = FileKind::of_name(&name).map_or(Offset(0), |(_, offset)| offset);
        // Letters only: `-` separates the parts of a `.cutoff` name.
        let what: String = name.chars().filter(char::is_ascii_alphabetic).collect();
        path.with_file_name(self.name_aside(offset, &what))
    }

    /// The `.cutoff` name for what a repair removes: its first offset, the time, and what it is.
    fn name_aside(&self, offset: Offset, what: &str) -> String {
        format!("{:020}-{}-{what}{CUT_OFF_SUFFIX}", offset.0, self.now.0)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rewrite { segment, damage } => {
                let bytes: u64 = damage.iter().map(|damage| damage.bytes).sum();
                let places = damage.len();
                write!(
                    f,
                    "rewrite {0:020}.log without {bytes} bytes in {places} places, and make {0:020}.index and \
                     {0:020}.timeindex anew; these bytes and the old indexes move aside:",
                    segment.0
                )?;
                damage.iter().try_for_each(|damage| {
                    write!(f, " [{} to {}) ", damage.position, damage.end())?;
                    if damage.first_offset == damage.next_offset {
                        return f.write_str("no offset;");
                    }
                    let last = damage.next_offset.plus(-1);
                    write!(
                        f,
                        "offsets {} to {last} become an empty batch, and a marker where one was known;",
                        damage.first_offset
                    )
                })
            }
            Self::Reindex(segment) => write!(
                f,
                "make {0:020}.index and {0:020}.timeindex anew; the old ones move aside",
                segment.0
            ),
            Self::ReindexTransactions(segment) => write!(
                f,
                "make {:020}.txnindex anew; the old one moves aside",
                segment.0
            ),
            Self::SetAside(path) => write!(
                f,
                "move {} aside",
                path.file_name().unwrap_or_default().to_string_lossy()
            ),
            Self::WriteEpochs(epochs) => write!(
                f,
                "write {LEADER_EPOCHS} anew with the {} epochs of the batches; the old one moves aside",
                epochs.entries().count()
            ),
            Self::KeepEnd { from, to } => write!(
                f,
                "append an empty batch, so that offsets {from} to {} are not given out again",
                to.plus(-1)
            ),
        }
    }
}
