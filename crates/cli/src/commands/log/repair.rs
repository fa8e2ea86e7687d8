//! `ottla log repair`: lists exactly what it would do to make log directories sound, and with `--execute` does that and
//! nothing else.
//!
//! It works where no broker does: the directory's lock is taken first. Nothing is destroyed, see `ottla_log::repair`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ottla_broker::directory_lock::DirectoryLock;
use ottla_log::checkpoint;
use ottla_log::files::disk::Disk;
use ottla_log::repair::{Step, carry_out, plan};
use ottla_log::verify::{Finding, Severity};
use ottla_protocol::ids::Uuid;
use ottla_protocol::time::Timestamp;
use serde_json::json;

use super::verify::{Examined, examine, find, is_log_directory, log_directory_of, partition_of};
use crate::instant;
use crate::output::{Output, message, print_json, print_line};

/// The controllers' log: what is missing there is had from the other controllers, or from a backup.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// Its topic id, which no other topic has.
const METADATA_TOPIC_ID: Uuid = Uuid::from_parts(0, 1);

/// What `ottla log repair` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log directories, or directories of single partitions. No broker may use them meanwhile.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// Do it, instead of listing what would be done.
    #[arg(long)]
    execute: bool,
}

/// What is to be done in one directory.
struct Planned {
    path: PathBuf,
    steps: Vec<Step>,
    /// What nothing can be done about.
    left: Vec<Finding>,
}

/// Lists what would be done, and does it.
pub fn run(args: &Args, output: Output) -> Result<()> {
    let mut locks = Vec::new();
    let mut all = Vec::new();
    for directory in &args.directories {
        let found = find(directory)?;
        refuse_unnamed(&found)?;
        // A broker may know it by its link.
        for path in [&std::path::absolute(directory)?, &found] {
            if let Some(directory) = log_directory_of(path)? {
                locks.push(DirectoryLock::take(directory)?);
            }
        }
        all.extend(examine(&found)?.into_iter().map(Planned::of));
    }
    for planned in &all {
        planned.print(output)?;
    }
    let steps: usize = all.iter().map(|planned| planned.steps.len()).sum();
    if args.execute {
        let now = Timestamp(instant::now_ms());
        for planned in all.iter().filter(|planned| !planned.steps.is_empty()) {
            carry_out(&Disk, &planned.path, &planned.steps, now)?;
        }
        message(&format!(
            "{steps} steps done; `ottla log verify` checks the outcome"
        ));
    } else if steps > 0 {
        message(&format!(
            "{steps} steps; nothing was changed, --execute does them"
        ));
    } else {
        message("there is nothing to repair");
    }
    let left: usize = all.iter().map(|planned| planned.left.len()).sum();
    if left > 0 {
        bail!(
            "{left} places cannot be repaired: restore these files, or the partition, from elsewhere"
        );
    }
    Ok(())
}

/// A directory whose name does not tell its partition may be anything, the controllers' log too.
fn refuse_unnamed(directory: &Path) -> Result<()> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    if is_log_directory(directory)? || partition_of(&name).is_some() {
        return Ok(());
    }
    bail!(
        "{} is not named <topic>-<partition>, so nobody can tell what it holds; give it the name that it had, then repair it",
        directory.display()
    )
}

/// Whether this is the controllers' log, or a copy of it under another name.
fn is_metadata(examined: &Examined) -> bool {
    let topic = examined.partition.as_ref().map(|(topic, _)| topic.as_str());
    // What is not readable is a finding.
    let id = checkpoint::read_topic_id(&Disk, &examined.path).ok();
    topic == Some(METADATA_TOPIC) || id.flatten() == Some(METADATA_TOPIC_ID)
}

impl Planned {
    fn of(examined: Examined) -> Self {
        let is_metadata = is_metadata(&examined);
        let steps = if is_metadata {
            Vec::new()
        } else {
            plan(&examined.verified)
        };
        let findings = examined.verified.findings.into_iter();
        let left = findings.filter(|finding| {
            finding.severity == Severity::Damage && (is_metadata || finding.remedy.is_none())
        });
        Self {
            path: examined.path,
            steps,
            left: left.collect(),
        }
    }

    fn print(&self, output: Output) -> Result<()> {
        for step in &self.steps {
            match output {
                Output::Json => print_json(&json!({
                    "directory": self.path.display().to_string(),
                    "step": step.to_string(),
                }))?,
                Output::Text => print_line(&format!("{}: {step}", self.path.display()))?,
            }
        }
        for finding in &self.left {
            let (path, what) = (finding.path.display(), &finding.what);
            match output {
                Output::Json => print_json(&json!({
                    "path": path.to_string(),
                    "position": finding.position,
                    "left": what,
                }))?,
                Output::Text => print_line(&format!("cannot repair {path}: {what}"))?,
            }
        }
        Ok(())
    }
}
