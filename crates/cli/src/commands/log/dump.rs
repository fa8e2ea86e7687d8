//! `ottla log dump`: prints segments, indexes and snapshots.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use ottla_log::checkpoint;
use ottla_log::damage::{Met, Salvage, UNBOUNDED};
use ottla_log::files::disk::{Disk, DiskFile};
use ottla_log::files::{File as _, Files as _, Open};
use ottla_log::format::FileKind;
use ottla_log::scan::{Scan, ScanError};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::BatchView;
use serde_json::json;

use super::batches::{Printer, Style};
use super::decoded::InternalTopic;
use super::indexes;
use super::verify::META_PROPERTIES;
use crate::output::{Output, message, print_line};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Segments (`.log`), indexes (`.index`, `.timeindex`, `.txnindex`), snapshots of producers
    /// (`.snapshot`) or of the metadata (`.checkpoint`), text files (`leader-epoch-checkpoint`,
    /// `meta.properties`), or a partition's directory, which stands for its segments.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print the records too. Records of Kafka's own topics are decoded.
    #[arg(long)]
    records: bool,
    /// Decode the records as those of this topic, whatever the directory's name is. Implies
    /// --records.
    #[arg(long, value_enum, value_name = "TOPIC")]
    decode: Option<Decode>,
}

/// Which topic the records belong to.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Decode {
    /// None of Kafka's own topics: print bytes.
    Nothing,
    /// `__cluster_metadata`.
    ClusterMetadata,
    /// `__consumer_offsets`.
    ConsumerOffsets,
    /// `__transaction_state`.
    TransactionState,
    /// `__share_group_state`.
    ShareGroupState,
}

impl Decode {
    fn topic(self) -> Option<InternalTopic> {
        match self {
            Self::Nothing => None,
            Self::ClusterMetadata => Some(InternalTopic::Metadata),
            Self::ConsumerOffsets => Some(InternalTopic::Groups),
            Self::TransactionState => Some(InternalTopic::Transactions),
            Self::ShareGroupState => Some(InternalTopic::ShareGroups),
        }
    }
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let mut damaged = 0;
    for path in &args.paths {
        let bases = bases_at(path)?;
        for file in files(path)? {
            let name = file.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or_default();
            let is_sound = match FileKind::of_name(name) {
                Some((kind, base)) if kind != FileKind::Log => {
                    indexes::print(&file, kind, base, output)?
                }
                _ if TEXTS.contains(&name) => print_text(&file, output)?,
                _ => dump_segment(&file, &bases, style(args, &file, output))?,
            };
            damaged += usize::from(!is_sound);
        }
    }
    if damaged > 0 {
        bail!("{damaged} of the files are damaged or end within a batch or an entry");
    }
    Ok(())
}

fn style(args: &Args, file: &Path, output: Output) -> Style {
    let topic = match args.decode {
        Some(decode) => decode.topic(),
        None => InternalTopic::of_file(file),
    };
    Style {
        with_records: args.records || args.decode.is_some(),
        topic,
        output,
    }
}

/// The text files in log directories and partition directories.
const TEXTS: [&str; 9] = [
    META_PROPERTIES,
    "quorum-state",
    checkpoint::RECOVERY_POINTS,
    checkpoint::HIGH_WATERMARKS,
    checkpoint::LOG_START_OFFSETS,
    checkpoint::CLEANER_OFFSETS,
    checkpoint::LEADER_EPOCHS,
    checkpoint::PARTITION_METADATA,
    checkpoint::CLEAN_SHUTDOWN,
];

/// Prints a text file; returns false when its bytes are not text.
fn print_text(path: &Path, output: Output) -> Result<bool> {
    let shown = path.display();
    let content = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let Ok(text) = String::from_utf8(content) else {
        message(&format!("{shown}: it holds bytes that are not text"));
        return Ok(false);
    };
    match output {
        Output::Text => {
            print_line(&shown.to_string())?;
            text.lines().try_for_each(print_line)?;
        }
        Output::Json => {
            let document = json!({ "file": shown.to_string(), "text": text });
            print_line(&document.to_string())?;
        }
    }
    Ok(true)
}

/// The files that a path stands for, in order. A directory stands for its segments.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = Disk.list(path)?.into_iter();
    let files = entries.filter(|entry| !entry.is_directory);
    let paths = files.map(|entry| path.join(entry.name));
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    let segments: Vec<_> = paths.filter(is_log).collect();
    if segments.is_empty() {
        bail!(
            "{} has no .log file; name the directory of a partition",
            path.display()
        );
    }
    Ok(segments)
}

/// Prints a segment and its damage; returns false when there is damage. Offsets at or above the
/// next of `bases` count as damage.
fn dump_segment(path: &Path, bases: &BTreeSet<Offset>, style: Style) -> Result<bool> {
    let file = Disk.open(path, Open::Read)?;
    let length = file.length()?;
    let base = match base_of(path) {
        Some(base) => base,
        None => first_offset(path, &file, length)?,
    };
    let mut printer = Printer::new(path, style)?;
    let bound = bases.range(base.plus(1)..).next().copied();
    let offsets = base..bound.unwrap_or(UNBOUNDED);
    let mut walk = Salvage::new(&file, base, 0..length, offsets);
    let mut is_sound = true;
    while let Some(met) = walk.advance()? {
        match met {
            Met::Batch(located) => {
                let batch = BatchView::first(walk.bytes_of(&located))?;
                printer.batch(located.position, &batch)?;
            }
            Met::Damage(damage) => {
                is_sound = false;
                printer.damage(&file, &damage)?;
            }
        }
    }
    printer.flush()?;
    Ok(is_sound)
}

/// The base offset in a segment's name.
fn base_of(path: &Path) -> Option<Offset> {
    let name = path.file_name()?.to_str()?;
    let (kind, base) = FileKind::of_name(name)?;
    (kind == FileKind::Log).then_some(base)
}

/// The first offset of a file whose name is not a segment's. The first batch may be damaged, but a
/// file without any sound batch is refused, because it may be any kind of file.
fn first_offset(path: &Path, file: &DiskFile, length: u64) -> Result<Offset> {
    match Scan::new(file, 0, length).next_header() {
        Ok(Some(located)) => return Ok(located.header.base_offset()),
        Ok(None) => return Ok(Offset(0)),
        Err(ScanError::Invalid { .. }) => {}
        Err(ScanError::Disk(error)) => return Err(error.into()),
    }
    let mut walk = Salvage::new(file, Offset(0), 0..length, Offset(0)..UNBOUNDED);
    while let Some(met) = walk.advance()? {
        if let Met::Batch(_) = met {
            return Ok(Offset(0));
        }
    }
    bail!(
        "{} is not a segment, index or snapshot; `ottla log dump --help` names what can be printed",
        path.display()
    )
}

/// The base offsets of all segments in a directory, or in the directory of a segment.
fn bases_at(path: &Path) -> Result<BTreeSet<Offset>> {
    let directory = match path.parent() {
        _ if path.is_dir() => path,
        _ if base_of(path).is_none() => return Ok(BTreeSet::new()),
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let entries = Disk.list(directory)?.into_iter();
    Ok(entries
        .filter_map(|entry| base_of(Path::new(&entry.name)))
        .collect())
}
