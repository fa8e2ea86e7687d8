//! `ottla controller`: recovers a metadata quorum whose majority is lost for good, without a broker.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use ottla_broker::start::lock::DirectoryLock;
use ottla_log::files::disk::Disk;
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{Location, METADATA_DIRECTORY, MetaProperties, RaftNode, Survivor};
use serde_json::json;

use crate::instant;
use crate::output::{Output, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  ottla controller recover ottla-data             shows what this controller has, and what it would do
  ottla controller recover ottla-data --execute   makes it the only controller";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a controller that is left of a lost majority the only one.
    ///
    /// Changes of metadata that only the lost controllers had are lost. It only shows what it would
    /// do unless --execute is given.
    Recover(Recover),
}

#[derive(Debug, clap::Args)]
struct Recover {
    /// The directory with the metadata log (metadata.log.dir, else the first of log.dirs). No node
    /// may be using it.
    directory: PathBuf,
    /// Do it. The lost controllers must never start again with their old disks.
    #[arg(long)]
    execute: bool,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    match &args.action {
        Action::Recover(args) => recover(args, output),
    }
}

fn recover(args: &Recover, output: Output) -> Result<()> {
    let directory = &args.directory;
    let _lock = DirectoryLock::take(directory)?;
    let meta = MetaProperties::read(&Disk, directory)?;
    let meta = meta.with_context(|| format!("{} is no log directory", directory.display()))?;
    let Some(directory_id) = meta.directory_id else {
        bail!("{} has no directory.id", directory.display());
    };
    let log = directory.join(METADATA_DIRECTORY);
    let location = Location {
        directory: &log,
        cluster_id: &meta.cluster_id,
    };
    let survivor = RaftNode::survey(Disk, location, (meta.node_id, directory_id))?;
    let mut others = survivor.voters.clone();
    others.retain(|id| *id != meta.node_id);
    if others.is_empty() {
        bail!("node {} is the only controller already", meta.node_id);
    }
    if output == Output::Text {
        show(&survivor, (&meta.cluster_id, &others))?;
    }
    let recovered = if args.execute {
        let now = Timestamp(instant::now_ms());
        Some(RaftNode::recover(&Disk, location, &survivor, now)?)
    } else {
        None
    };
    match (output, recovered) {
        (Output::Json, _) => print_json(&json!({
            "clusterId": meta.cluster_id,
            "nodeId": meta.node_id.0,
            "removed": others.iter().map(|id| id.0).collect::<Vec<_>>(),
            "epoch": survivor.epoch.0,
            "end": survivor.end.0,
            "unknownEntries": survivor.unknown_entries,
            "lastWrittenMs": survivor.last_written.map(|at| at.0),
            "recovered": recovered.map(|(epoch, end)| json!({"epoch": epoch.0, "end": end.0})),
        })),
        (Output::Text, None) => {
            print_line("Nothing was changed. --execute makes it the only controller.")
        }
        (Output::Text, Some((epoch, end))) => print_line(&format!(
            "Done: node {} is the only controller, in epoch {epoch}; its log ends at {end}. {}",
            meta.node_id,
            next_step(&survivor, directory)
        )),
    }
}

fn show(survivor: &Survivor, (cluster, others): (&str, &[NodeId])) -> Result<()> {
    let node = survivor.voter.node_id;
    let written = survivor.last_written.map(|at| instant::format(at.0));
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    print_line(&format!(
        "Cluster {cluster}: node {node} goes on without the controllers {names}."
    ))?;
    print_line(&format!(
        "It has metadata up to offset {} at least, of epoch {}; the newest was written {}.",
        survivor.end,
        survivor.epoch,
        written.as_deref().unwrap_or("at an unknown time"),
    ))?;
    print_line(&format!(
        "{} changes are kept of which it does not know whether they were committed.",
        survivor.unknown_entries
    ))?;
    print_line(
        "May be lost: what the others committed and this one never got. Topics and configs of that time are missing then, \
         and their partitions are set aside.",
    )?;
    print_line(&format!(
        "The controllers {names} must never start again with their old disks: they would be a second cluster."
    ))
}

fn next_step(survivor: &Survivor, directory: &Path) -> String {
    if survivor.has_static_voters {
        return format!(
            "Set controller.quorum.voters to this node alone on all nodes, then start it on {}.",
            directory.display()
        );
    }
    "Start it, then the other brokers; add new controllers with kafka-metadata-quorum add-controller.".to_owned()
}
