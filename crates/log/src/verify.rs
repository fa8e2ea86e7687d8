//! Checks what lies in a partition's directory, offline and without changing anything: `ottla log verify`.
//!
//! Batches against their checksums, their offsets and leader epochs against each other, indexes and the leader epoch
//! checkpoint against the batches. What merely waits to be removed, or was set aside by recovery, is noted. Memory is
//! bounded by the largest batch and the largest index.

use std::io;
use std::path::{Path, PathBuf};

use crate::batch::parse_checked;
use crate::checkpoint;
use crate::files::{File, FileError, Files, Open};
use crate::format::{
    CLEANED_SUFFIX, CUT_OFF_SUFFIX, DELETED_SUFFIX, FileKind, IndexEntry, OffsetEntry, SWAP_SUFFIX,
    TimeEntry,
};
use crate::scan::{Located, Scan, ScanError};
use ottla_protocol::ids::{LeaderEpoch, Offset};

/// An index is at most this large; a larger file is none.
const MAX_INDEX_BYTES: u64 = 1 << 30;

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
    /// The offset after the last sound batch, where there is any.
    pub log_end: Option<Offset>,
}

/// Checks the partition in `directory`.
pub fn verify_partition<F: Files>(files: &F, directory: &Path) -> Result<Verified, FileError> {
    let mut check = Check {
        files,
        directory,
        verified: Verified::default(),
        next: None,
        epochs: Vec::new(),
    };
    let mut bases = Vec::new();
    for entry in files.list(directory)? {
        match FileKind::of_name(&entry.name) {
            Some((FileKind::Log, base)) => bases.push(base),
            Some(_) => {}
            None => check.note_name(&entry.name),
        }
    }
    bases.sort_unstable();
    for base in bases {
        check.segment(base)?;
    }
    check.leader_epochs();
    check.topic_id();
    check.verified.log_end = check.next;
    Ok(check.verified)
}

struct Check<'a, F> {
    files: &'a F,
    directory: &'a Path,
    verified: Verified,
    /// The offset that the next batch has at least.
    next: Option<Offset>,
    /// The leader epochs of the batches, and the first offset of each.
    epochs: Vec<(LeaderEpoch, Offset)>,
}

impl<F: Files> Check<'_, F> {
    fn find(&mut self, severity: Severity, path: &Path, position: Option<u64>, what: String) {
        self.verified.findings.push(Finding {
            severity,
            path: path.to_path_buf(),
            position,
            what,
        });
    }

    fn damage(&mut self, path: &Path, position: u64, what: String) {
        self.find(Severity::Damage, path, Some(position), what);
    }

    fn note_name(&mut self, name: &str) {
        let what = if name.ends_with(CUT_OFF_SUFFIX) {
            "recovery cut this off the log and kept it; its first lines say where and why"
        } else if name.ends_with(DELETED_SUFFIX) {
            "waits to be removed"
        } else if name.ends_with(CLEANED_SUFFIX) || name.ends_with(SWAP_SUFFIX) {
            "a compaction was cut short; the next start ends it"
        } else {
            return;
        };
        let path = self.directory.join(name);
        self.find(Severity::Note, &path, None, what.to_owned());
    }

    fn segment(&mut self, base: Offset) -> Result<(), FileError> {
        let path = FileKind::Log.path(self.directory, base);
        let file = self.files.open(&path, Open::Read)?;
        let length = file.length()?;
        self.verified.segments += 1;
        self.verified.bytes += length;
        let mut indexes = Indexes {
            base,
            offsets: Entries::read(self.files, FileKind::OffsetIndex.path(self.directory, base))?,
            times: Entries::read(self.files, FileKind::TimeIndex.path(self.directory, base))?,
            largest_timestamp: -1,
        };
        if self.next.is_some_and(|next| base < next) {
            let what = format!(
                "the segment begins before offset {}, where the one before it ends",
                self.next.unwrap_or(base)
            );
            self.damage(&path, 0, what);
        }
        let mut scan = Scan::new(&file, 0, length);
        loop {
            match scan.next_framed() {
                Ok(None) => break,
                Ok(Some((located, bytes))) => {
                    let checked = parse_checked(bytes).err();
                    self.batch(&path, &located, base);
                    if let Some(cause) = checked {
                        self.damage(&path, located.position, unsound(&located, &cause));
                    }
                    indexes.pass(&located, &mut self.verified.findings);
                }
                Err(ScanError::Disk(error)) => return Err(error),
                Err(ScanError::Invalid { position, cause }) => {
                    let left = length - position;
                    let what = format!("{cause}: nothing can be read of the last {left} bytes");
                    self.damage(&path, position, what);
                    break;
                }
            }
        }
        indexes.end(&mut self.verified.findings);
        Ok(())
    }

    fn batch(&mut self, path: &Path, located: &Located, base: Offset) {
        self.verified.batches += 1;
        let header = &located.header;
        let (first, last) = (header.base_offset(), header.last_offset());
        let floor = self.next.unwrap_or(base).max(base);
        if first < floor || last < first {
            let what =
                format!("the batch has offsets {first} to {last} where {floor} is the least");
            self.damage(path, located.position, what);
        }
        self.next = Some(header.next_offset().max(floor));
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        match self.epochs.last() {
            Some((latest, _)) if epoch < *latest => {
                let what = format!("leader epoch {epoch} comes after {latest}");
                self.damage(path, located.position, what);
            }
            Some((latest, _)) if epoch == *latest => {}
            _ => self.epochs.push((epoch, first)),
        }
    }

    /// What the batches say must be in the checkpoint; it may know older epochs, and earlier starts.
    fn leader_epochs(&mut self) {
        let path = self.directory.join(checkpoint::LEADER_EPOCHS);
        let known = match checkpoint::read_leader_epochs(self.files, self.directory) {
            Ok(known) => known,
            Err(error) => {
                self.find(Severity::Damage, &path, None, error.to_string());
                return;
            }
        };
        for (epoch, first) in std::mem::take(&mut self.epochs) {
            let start = known.entries().find(|(known, _)| *known == epoch);
            let (severity, what) = match start {
                _ if epoch.0 < 0 => continue,
                Some((_, start)) if start <= first => continue,
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
                None => (
                    Severity::Damage,
                    format!("leader epoch {epoch}, which begins at offset {first}, is missing"),
                ),
            };
            self.find(severity, &path, None, what);
        }
    }

    fn topic_id(&mut self) {
        let path = self.directory.join(checkpoint::PARTITION_METADATA);
        match checkpoint::read_topic_id(self.files, self.directory) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let what = "missing: Apache Kafka would set the partition aside and start it empty";
                self.find(Severity::Damage, &path, None, what.to_owned());
            }
            Err(error) => self.find(Severity::Damage, &path, None, error.to_string()),
        }
    }
}

fn unsound(located: &Located, cause: &dyn std::fmt::Display) -> String {
    let (first, last) = (located.header.base_offset(), located.header.last_offset());
    format!("{cause}: offsets {first} to {last} cannot be trusted")
}

/// The entries of an index file, passed one by one as the batches go by.
struct Entries<E> {
    path: PathBuf,
    left: std::iter::Peekable<std::vec::IntoIter<E>>,
    passed: u64,
}

impl<E: IndexEntry> Entries<E> {
    fn read<F: Files>(files: &F, path: PathBuf) -> Result<Self, FileError> {
        let bytes = match crate::files::read_whole(files, &path, MAX_INDEX_BYTES) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if error.source.kind() == io::ErrorKind::InvalidData => Vec::new(),
            Err(error) => return Err(error),
        };
        let entries: Vec<E> = bytes.chunks_exact(E::SIZE).filter_map(E::decode).collect();
        Ok(Self {
            path,
            left: entries.into_iter().peekable(),
            passed: 0,
        })
    }

    fn next_if(&mut self, holds: impl FnOnce(&E) -> bool) -> Option<E> {
        let entry = self.left.next_if(holds)?;
        self.passed += 1;
        Some(entry)
    }

    fn damage(&self, what: String) -> Finding {
        Finding {
            severity: Severity::Damage,
            path: self.path.clone(),
            position: Some(self.passed.saturating_sub(1) * E::SIZE as u64),
            what,
        }
    }
}

/// The indexes of one segment.
struct Indexes {
    base: Offset,
    offsets: Entries<OffsetEntry>,
    times: Entries<TimeEntry>,
    largest_timestamp: i64,
}

impl Indexes {
    /// Compares the entries that belong to this batch, or to no batch between it and the one before.
    fn pass(&mut self, located: &Located, findings: &mut Vec<Finding>) {
        let header = &located.header;
        let at = i64::try_from(located.position).unwrap_or(i64::MAX);
        while let Some(entry) = self
            .offsets
            .next_if(|entry| i64::from(entry.position) <= at)
        {
            let named = self.base.plus(i64::from(entry.relative_offset));
            if i64::from(entry.position) != at {
                let what = format!(
                    "the entry for offset {named} names {}, where no batch begins",
                    entry.position
                );
                findings.push(self.offsets.damage(what));
            } else if named < header.base_offset() {
                let what = format!(
                    "offset {named} is said to be at {at}, where the batch from {} is",
                    header.base_offset()
                );
                findings.push(self.offsets.damage(what));
            }
        }
        self.largest_timestamp = self.largest_timestamp.max(header.max_timestamp);
        let last = header.last_offset();
        let base = self.base;
        while let Some(entry) = self
            .times
            .next_if(|entry| base.plus(i64::from(entry.relative_offset)) <= last)
        {
            if entry.timestamp > self.largest_timestamp {
                let what = format!(
                    "timestamp {} is said to be at offset {} or before, the largest there is {}",
                    entry.timestamp,
                    base.plus(i64::from(entry.relative_offset)),
                    self.largest_timestamp
                );
                findings.push(self.times.damage(what));
            }
        }
    }

    /// What is left names nothing that is there. Zeros are what a crash of Apache Kafka leaves.
    fn end(&mut self, findings: &mut Vec<Finding>) {
        let is_zero = |entry: &OffsetEntry| entry.relative_offset == 0 && entry.position == 0;
        if let Some(entry) = self.offsets.next_if(|entry| !is_zero(entry)) {
            let what = format!(
                "the entry names position {}, which is behind the last batch",
                entry.position
            );
            findings.push(self.offsets.damage(what));
        }
        let is_zero = |entry: &TimeEntry| entry.timestamp == 0 && entry.relative_offset == 0;
        if let Some(entry) = self.times.next_if(|entry| !is_zero(entry)) {
            let offset = self.base.plus(i64::from(entry.relative_offset));
            findings.push(self.times.damage(format!(
                "the entry names offset {offset}, which is behind the last batch"
            )));
        }
    }
}
