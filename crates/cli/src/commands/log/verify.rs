//! `ottla log verify`: checks whole log directories, offline, with the broker's own code. It
//! changes nothing. [`examine`] does the checks; `ottla log repair` uses it too.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ottla_broker::start::lock::{DirectoryLock, NotLocked};
use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::files::Files as _;
use ottla_log::files::disk::Disk;
use ottla_log::verify::{Checkpointed, Finding, Remedy, Severity, Verified, verify_partition};
use serde_json::{Value, json};

use crate::output::{Output, message, print_json, print_line};

/// The file that each log directory has.
pub const META_PROPERTIES: &str = "meta.properties";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log directories, or directories of single partitions. No broker may be using them.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
}

/// The totals of a run.
#[derive(Debug, Default)]
struct Total {
    partitions: u64,
    segments: u64,
    batches: u64,
    bytes: u64,
    damaged: usize,
    notes: usize,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let mut total = Total::default();
    for directory in &args.directories {
        let directory = find(directory)?;
        let lock = lock(&directory)?;
        let examined = examine(&directory);
        if let Some(lock) = lock {
            lock.undo();
        }
        for examined in examined? {
            total.partitions += u64::from(examined.partition.is_some());
            total.segments += examined.verified.segments;
            total.batches += examined.verified.batches;
            total.bytes += examined.verified.bytes;
            for finding in &examined.verified.findings {
                print_finding(finding, output, &mut total)?;
            }
        }
    }
    message(&format!(
        "checked {} partitions, {} segments, {} batches, {} bytes: {} damaged places, {} notes",
        total.partitions, total.segments, total.batches, total.bytes, total.damaged, total.notes
    ));
    if total.damaged > 0 {
        bail!(
            "{} places are damaged; the next start recovers what lies above the recovery points, `ottla log repair` shows what can be done about the rest",
            total.damaged
        );
    }
    Ok(())
}

/// The findings of one directory.
pub struct Examined {
    pub path: PathBuf,
    /// The partition of this directory, with an empty topic where the directory's name is not a
    /// partition's. `None` for a log directory itself.
    pub partition: Option<(String, i32)>,
    pub verified: Verified,
}

/// The directory's real path, without links. Its name is the partition's, and a broker's lock is
/// there.
pub fn find(directory: &Path) -> Result<PathBuf> {
    let found = directory.canonicalize();
    found.with_context(|| format!("cannot find {}", directory.display()))
}

/// Checks all of a log directory, or one partition's directory, given as [`find`] returned it. The
/// caller holds the lock.
pub fn examine(directory: &Path) -> Result<Vec<Examined>> {
    if is_log_directory(directory)? {
        return log_directory(directory);
    }
    if Disk
        .status(&directory.join(checkpoint::PARTITION_METADATA))?
        .is_none()
    {
        bail!(
            "{} is neither a log directory (with {META_PROPERTIES}) nor a partition's (with {})",
            directory.display(),
            checkpoint::PARTITION_METADATA
        );
    }
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let name = partition_of(&name).map(|(topic, index)| (topic.to_owned(), index));
    let checkpointed = match (directory.parent(), &name) {
        (Some(parent), Some(name)) if is_log_directory(parent)? => {
            Checkpoints::read(parent)?.of(name)
        }
        _ => Checkpointed::default(),
    };
    Ok(vec![Examined {
        path: directory.to_path_buf(),
        verified: verify_partition(&Disk, directory, checkpointed)?,
        partition: Some(name.unwrap_or_default()),
    }])
}

/// Whether this is a log directory; false for a partition's directory.
pub fn is_log_directory(directory: &Path) -> Result<bool> {
    Ok(Disk.status(&directory.join(META_PROPERTIES))?.is_some())
}

fn log_directory(directory: &Path) -> Result<Vec<Examined>> {
    let is_clean = checkpoint::was_clean_shutdown(&Disk, directory)?;
    if !is_clean {
        message(&format!(
            "{} was not closed properly: a log may end in a torn batch, which the next start cuts off",
            directory.display()
        ));
    }
    let mut checkpoints = Checkpoints::read(directory)?;
    let mut own = Verified {
        findings: std::mem::take(&mut checkpoints.findings),
        ..Verified::default()
    };
    let mut examined = Vec::new();
    for entry in Disk.list(directory)? {
        let Some(name) = partition_of(&entry.name).filter(|_| entry.is_directory) else {
            continue;
        };
        let name = (name.0.to_owned(), name.1);
        let checkpointed = checkpoints.of(&name);
        checkpoints.recovery_points.remove(&name);
        let path = directory.join(&entry.name);
        examined.push(Examined {
            verified: verify_partition(&Disk, &path, checkpointed)?,
            path,
            partition: Some(name),
        });
    }
    // After a crash the checkpoint may still name a partition that was just deleted.
    let missing = checkpoints.recovery_points.into_iter();
    let missing = missing.filter(|_| is_clean);
    own.findings
        .extend(missing.map(|((topic, index), point)| Finding {
            severity: Severity::Damage,
            path: directory.join(format!("{topic}-{index}")),
            position: None,
            what: format!("the log is missing, but it was on stable storage up to {point}"),
            remedy: None,
        }));
    examined.push(Examined {
        path: directory.to_path_buf(),
        partition: None,
        verified: own,
    });
    Ok(examined)
}

/// The checkpoints of a log directory that a start reads.
struct Checkpoints {
    recovery_points: PartitionOffsets,
    /// Only those that differ from the first segment's base offset. `None` where the file is not
    /// reliable.
    log_starts: Option<PartitionOffsets>,
    compacted_to: PartitionOffsets,
    /// The files that cannot be parsed, which count as missing.
    findings: Vec<Finding>,
}

impl Checkpoints {
    /// The log start offsets are not reliable after a crash: DeleteRecords changes the partitions'
    /// own files before that file.
    fn read(directory: &Path) -> Result<Self> {
        let is_clean = checkpoint::was_clean_shutdown(&Disk, directory)?;
        let mut findings = Vec::new();
        let mut read = |name| -> Result<Option<PartitionOffsets>> {
            let read = read_checkpoint(directory, name)?;
            Ok(read.map_err(|finding| findings.push(finding)).ok())
        };
        let recovery_points = read(checkpoint::RECOVERY_POINTS)?.unwrap_or_default();
        read(checkpoint::HIGH_WATERMARKS)?;
        let log_starts = read(checkpoint::LOG_START_OFFSETS)?;
        let compacted_to = read(checkpoint::CLEANER_OFFSETS)?.unwrap_or_default();
        Ok(Self {
            recovery_points,
            log_starts: log_starts.filter(|_| is_clean),
            compacted_to,
            findings,
        })
    }

    fn of(&self, partition: &(String, i32)) -> Checkpointed {
        let log_starts = self.log_starts.as_ref();
        let log_start = |starts: &PartitionOffsets| starts.get(partition).copied();
        Checkpointed {
            recovery_point: self.recovery_points.get(partition).copied(),
            log_start: log_starts.map(|starts| log_start(starts).unwrap_or_default()),
            compacted_to: self.compacted_to.get(partition).copied(),
        }
    }
}

/// A checkpoint, or the finding that it cannot be parsed.
fn read_checkpoint(directory: &Path, name: &str) -> Result<Result<PartitionOffsets, Finding>> {
    match checkpoint::read_offsets(&Disk, directory, name) {
        Err(error) if error.is_malformed() => Ok(Err(Finding {
            severity: Severity::Damage,
            path: directory.join(name),
            position: None,
            what: error.source.to_string(),
            remedy: Some(Remedy::SetAside),
        })),
        read => Ok(Ok(read?)),
    }
}

/// The log directory that this is, or that contains this partition; `None` for a partition copied
/// elsewhere.
pub fn log_directory_of(directory: &Path) -> Result<Option<&Path>> {
    if is_log_directory(directory)? {
        return Ok(Some(directory));
    }
    let Some(parent) = directory.parent() else {
        return Ok(None);
    };
    Ok(is_log_directory(parent)?.then_some(parent))
}

/// Takes the lock, so that no broker starts meanwhile. `None` if this process may not write the lock
/// file, and for a single partition, which may be checked while a broker runs.
fn lock(directory: &Path) -> Result<Option<DirectoryLock>> {
    if !is_log_directory(directory)? {
        return Ok(None);
    }
    match DirectoryLock::take(directory) {
        Ok(lock) => Ok(Some(lock)),
        Err(NotLocked::File { source, .. })
            if matches!(
                source.kind(),
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Topic and index from the name of a partition's directory; `None` for one that waits for its
/// removal.
pub fn partition_of(name: &str) -> Option<(&str, i32)> {
    let (topic, index) = name.rsplit_once('-')?;
    Some((topic, index.parse().ok()?))
}

fn print_finding(finding: &Finding, output: Output, total: &mut Total) -> Result<()> {
    match finding.severity {
        Severity::Damage => total.damaged += 1,
        Severity::Note => total.notes += 1,
    }
    match output {
        Output::Json => print_json(&to_json(finding)),
        Output::Text => print_line(&to_text(finding)),
    }
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Damage => "damage",
        Severity::Note => "note",
    }
}

fn to_text(finding: &Finding) -> String {
    let at = finding.position.map(|position| format!(" at {position}"));
    format!(
        "{}: {}{}: {}",
        severity(finding),
        finding.path.display(),
        at.unwrap_or_default(),
        finding.what
    )
}

fn to_json(finding: &Finding) -> Value {
    json!({
        "severity": severity(finding),
        "path": finding.path.display().to_string(),
        "position": finding.position,
        "what": finding.what,
    })
}
