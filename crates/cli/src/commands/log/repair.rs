//! `ottla log repair`: lists the steps that repair log directories. With `--execute` it does
//! exactly these.
//!
//! It takes the directory's lock first, so no broker runs meanwhile. It destroys nothing, see
//! `ottla_log::repair`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ottla_broker::start::lock::DirectoryLock;
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

/// The metadata log is not repaired: its missing records come from the other controllers or from a
/// backup.
const METADATA_TOPIC: &str = "__cluster_metadata";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log directories, or directories of single partitions. No broker may be using them.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// Do the steps, instead of only listing them.
    #[arg(long)]
    execute: bool,
}

/// The steps for one directory.
struct Planned {
    path: PathBuf,
    steps: Vec<Step>,
    /// Findings that cannot be repaired.
    left: Vec<Finding>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let mut locks = Vec::new();
    let mut all = Vec::new();
    for directory in &args.directories {
        let found = find(directory)?;
        refuse_unnamed(&found)?;
        // A broker may use the directory through a symbolic link.
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
        message("nothing needs repair");
    }
    locks.into_iter().for_each(DirectoryLock::undo);
    let left: usize = all.iter().map(|planned| planned.left.len()).sum();
    if left > 0 {
        bail!(
            "{left} places cannot be repaired: restore these files, or the partition, from elsewhere"
        );
    }
    Ok(())
}

/// Refuses a directory whose name is not a partition's: it may be anything, even the metadata log.
fn refuse_unnamed(directory: &Path) -> Result<()> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    if is_log_directory(directory)? || partition_of(&name).is_some() {
        return Ok(());
    }
    bail!(
        "{} is not named <topic>-<partition>, so its topic and partition are unknown; give it the name that it had, then repair it",
        directory.display()
    )
}

/// Whether this is the metadata log, or a copy of it under another name.
fn is_metadata(examined: &Examined) -> bool {
    let topic = examined.partition.as_ref().map(|(topic, _)| topic.as_str());
    // An unreadable id is a finding of its own.
    let id = checkpoint::read_topic_id(&Disk, &examined.path).ok();
    topic == Some(METADATA_TOPIC) || id.flatten() == Some(Uuid::METADATA_TOPIC_ID)
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
