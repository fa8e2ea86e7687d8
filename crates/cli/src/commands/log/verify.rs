//! `ottla log verify`: checks whole log directories, offline, with the broker's own code, and changes nothing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ottla_broker::directory_lock::{DirectoryLock, NotLocked};
use ottla_log::checkpoint;
use ottla_log::files::Files as _;
use ottla_log::files::disk::Disk;
use ottla_log::verify::{Finding, Severity, Verified, verify_partition};
use ottla_protocol::ids::Offset;
use serde_json::{Value, json};

use crate::output::{Output, message, print_json, print_line};

/// What lies in a log directory that is one.
const META_PROPERTIES: &str = "meta.properties";

/// What `ottla log verify` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log directories, or directories of single partitions. No broker may use them meanwhile.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
}

/// What was looked at in all.
#[derive(Debug, Default)]
struct Total {
    partitions: u64,
    segments: u64,
    batches: u64,
    bytes: u64,
    damaged: usize,
    notes: usize,
}

/// Carries out the subcommand.
pub fn run(args: &Args, output: Output) -> Result<()> {
    let mut total = Total::default();
    for directory in &args.directories {
        if Disk.status(&directory.join(META_PROPERTIES))?.is_some() {
            log_directory(directory, output, &mut total)?;
        } else if Disk
            .status(&directory.join(checkpoint::PARTITION_METADATA))?
            .is_some()
        {
            partition(directory, None, output, &mut total)?;
        } else {
            bail!(
                "{} is neither a log directory (with {META_PROPERTIES}) nor a partition's (with {})",
                directory.display(),
                checkpoint::PARTITION_METADATA
            );
        }
    }
    message(&format!(
        "checked {} partitions, {} segments, {} batches, {} bytes: {} damaged places, {} notes",
        total.partitions, total.segments, total.batches, total.bytes, total.damaged, total.notes
    ));
    if total.damaged > 0 {
        bail!(
            "{} places are damaged; the broker recovers what is behind its recovery points at its next start",
            total.damaged
        );
    }
    Ok(())
}

fn log_directory(directory: &Path, output: Output, total: &mut Total) -> Result<()> {
    let _lock = lock(directory)?;
    let is_clean = checkpoint::was_clean_shutdown(&Disk, directory)?;
    if !is_clean {
        message(&format!(
            "{} was not closed properly: a torn end of a log is no surprise, the next start recovers it",
            directory.display()
        ));
    }
    let mut recovery_points =
        checkpoint::read_offsets(&Disk, directory, checkpoint::RECOVERY_POINTS)?;
    for entry in Disk.list(directory)? {
        let Some(name) = partition_of(&entry.name).filter(|_| entry.is_directory) else {
            continue;
        };
        let recovery_point = recovery_points.remove(&(name.0.to_owned(), name.1));
        partition(&directory.join(&entry.name), recovery_point, output, total)?;
    }
    // After a crash it may still name what was deleted a moment before.
    let missing = recovery_points.into_iter().filter(|_| is_clean);
    for ((topic, index), recovery_point) in missing {
        let path = directory.join(format!("{topic}-{index}"));
        let nothing = Verified::default();
        if let Some(finding) = lost(&path, &nothing, Some(recovery_point)) {
            say(&finding, output, total)?;
        }
    }
    Ok(())
}

/// A lock, so that no broker starts meanwhile; none where nothing can be written, nor by a broker.
fn lock(directory: &Path) -> Result<Option<DirectoryLock>> {
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

/// A partition's directory by its name: topic and index. One that waits to be removed is none.
fn partition_of(name: &str) -> Option<(&str, i32)> {
    let (topic, index) = name.rsplit_once('-')?;
    Some((topic, index.parse().ok()?))
}

fn partition(
    directory: &Path,
    recovery_point: Option<Offset>,
    output: Output,
    total: &mut Total,
) -> Result<()> {
    let mut verified = verify_partition(&Disk, directory)?;
    verified
        .findings
        .extend(lost(directory, &verified, recovery_point));
    total.partitions += 1;
    total.segments += verified.segments;
    total.batches += verified.batches;
    total.bytes += verified.bytes;
    for finding in &verified.findings {
        say(finding, output, total)?;
    }
    Ok(())
}

fn say(finding: &Finding, output: Output, total: &mut Total) -> Result<()> {
    match finding.severity {
        Severity::Damage => total.damaged += 1,
        Severity::Note => total.notes += 1,
    }
    match output {
        Output::Json => print_json(&to_json(finding)),
        Output::Text => print_line(&to_text(finding)),
    }
}

/// What was on stable storage once must still be there.
fn lost(directory: &Path, verified: &Verified, recovery_point: Option<Offset>) -> Option<Finding> {
    let recovery_point = recovery_point?;
    let end = verified.log_end.unwrap_or(Offset(0));
    (end < recovery_point).then(|| Finding {
        severity: Severity::Damage,
        path: directory.to_path_buf(),
        position: None,
        what: format!(
            "the log ends at offset {end}, but was on stable storage up to {recovery_point}"
        ),
    })
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
