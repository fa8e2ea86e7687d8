//! `ottla log`: looks into log files, with the code that the broker reads them with.

mod repair;
mod verify;

use std::collections::BTreeSet;
use std::io::{BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Subcommand;
use ottla_log::damage::{Damage, Met, Salvage, UNBOUNDED};
use ottla_log::files::disk::{Disk, DiskFile};
use ottla_log::files::{File as _, Files as _, Open};
use ottla_log::format::FileKind;
use ottla_log::scan::{Scan, ScanError};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchView, Decompressor, Record, TimestampType};
use serde_json::{Value, json};

use crate::instant;
use crate::output::{Output, bytes_to_json, message, stdout};

/// The most bytes one compressed batch may unpack to.
const MAX_UNPACKED_BYTES: usize = 1 << 30;

const EXAMPLES: &str = "\
Examples:
  ottla log dump ottla-data/orders-0/00000000000000000000.log            its batches
  ottla log dump --records ottla-data/orders-0/00000000000000000000.log  and their records
  ottla log dump ottla-data/orders-0                                     all segments of a partition
  ottla log verify ottla-data                                            everything in a log directory
  ottla log repair ottla-data                                            what would make it sound; --execute does it";

/// What `ottla log` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the batches of segments, and their records.
    Dump(Dump),
    /// Check log directories that no broker uses: checksums, offsets, epochs, indexes. Nothing is changed.
    Verify(verify::Args),
    /// Make log directories that no broker uses sound: lists what would be done, and does it with --execute.
    Repair(repair::Args),
}

#[derive(Debug, clap::Args)]
struct Dump {
    /// Segments (`.log`), or directories of partitions.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Print the records too.
    #[arg(long)]
    records: bool,
}

/// Carries out the subcommand.
pub fn run(args: &Args, output: Output) -> Result<()> {
    match &args.action {
        Action::Dump(args) => dump_all(args, output),
        Action::Verify(args) => verify::run(args, output),
        Action::Repair(args) => repair::run(args, output),
    }
}

fn dump_all(args: &Dump, output: Output) -> Result<()> {
    let mut damaged = 0;
    for path in &args.paths {
        let bases = bases_at(path)?;
        for segment in segments(path)? {
            damaged += usize::from(!dump((&segment, &bases), args.records, output)?);
        }
    }
    if damaged > 0 {
        bail!("{damaged} of the segments are damaged or end within a batch");
    }
    Ok(())
}

/// The segments that a path names, in order.
fn segments(path: &Path) -> Result<Vec<PathBuf>> {
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
            "{} holds no .log file; name the directory of a partition",
            path.display()
        );
    }
    Ok(segments)
}

/// Prints a segment and says what is damaged in it, which must not reach into the next of `bases`; false when there is
/// any.
fn dump(
    (path, bases): (&Path, &BTreeSet<Offset>),
    with_records: bool,
    output: Output,
) -> Result<bool> {
    let file = Disk.open(path, Open::Read)?;
    let length = file.length()?;
    let mut printer = Printer {
        path,
        with_records,
        output,
        out: stdout(),
        decompressor: Decompressor::default(),
    };
    if output == Output::Text {
        writeln!(printer.out, "{}", path.display())?;
    }
    let base = match base_of(path) {
        Some(base) => base,
        None => first_offset(&file, length)?,
    };
    let bound = bases.range(base.plus(1)..).next().copied();
    let offsets = (base, bound.unwrap_or(UNBOUNDED));
    let mut walk = Salvage::new(&file, base, (0, length), offsets);
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
    printer.out.flush()?;
    Ok(is_sound)
}

/// The base offset that a segment's name says.
fn base_of(path: &Path) -> Option<Offset> {
    let name = path.file_name()?.to_str()?;
    let (kind, base) = FileKind::of_name(name)?;
    (kind == FileKind::Log).then_some(base)
}

/// Where the batches of a file begin that is not named as a segment is.
fn first_offset(file: &DiskFile, length: u64) -> Result<Offset> {
    match Scan::new(file, 0, length).next_header() {
        Ok(Some(located)) => Ok(located.header.base_offset()),
        Ok(None) | Err(ScanError::Invalid { .. }) => Ok(Offset(0)),
        Err(ScanError::Disk(error)) => Err(error.into()),
    }
}

/// The base offsets of the segments in a directory, or beside a segment.
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

/// Prints what is in one segment.
struct Printer<'a> {
    path: &'a Path,
    with_records: bool,
    output: Output,
    out: BufWriter<StdoutLock<'static>>,
    decompressor: Decompressor,
}

impl Printer<'_> {
    fn batch(&mut self, position: u64, batch: &BatchView<'_>) -> Result<()> {
        let records = self
            .with_records
            .then(|| records(batch, &mut self.decompressor));
        match self.output {
            Output::Json => {
                let document = to_json(self.path, position, batch, records);
                serde_json::to_writer(&mut self.out, &document)?;
                self.out.write_all(b"\n")?;
            }
            Output::Text => print(&mut self.out, position, batch, records)?,
        }
        Ok(())
    }

    /// Prints the batches that can still be told apart in what is damaged, and says what it is.
    fn damage(&mut self, file: &DiskFile, damage: &Damage) -> Result<()> {
        let mut scan = Scan::new(file, damage.position, damage.end());
        let mut bytes = Vec::new();
        loop {
            let located = match scan.next_header() {
                Ok(Some(located)) => located,
                Ok(None) | Err(ScanError::Invalid { .. }) => break,
                Err(ScanError::Disk(error)) => return Err(error.into()),
            };
            bytes.resize(located.size, 0);
            file.read_at(&mut bytes, located.position)?;
            let Ok(batch) = BatchView::first(&bytes) else {
                break;
            };
            self.batch(located.position, &batch)?;
        }
        self.out.flush()?;
        let path = self.path.display();
        if damage.next_offset == UNBOUNDED {
            let (bytes, position, cause) = (damage.bytes, damage.position, &damage.cause);
            message(&format!(
                "{path}: {bytes} bytes at {position} are damaged ({cause}): no sound batch follows"
            ));
        } else {
            message(&format!("{path}: {damage}"));
        }
        Ok(())
    }
}

/// The records as JSON, or why they cannot be read.
fn records(batch: &BatchView<'_>, decompressor: &mut Decompressor) -> Result<Vec<Value>, String> {
    let is_control = batch.header().is_control();
    let records = batch.records(decompressor, MAX_UNPACKED_BYTES);
    let records = records.map_err(|error| error.to_string())?;
    let document = |record: Result<Record<'_>, _>| match record {
        Ok(record) => Ok(record_to_json(&record, is_control)),
        Err(error) => Err(ottla_protocol::records::RecordError::to_string(&error)),
    };
    records.map(document).collect()
}

fn record_to_json(record: &Record<'_>, is_control: bool) -> Value {
    let mut document = json!({
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": bytes_to_json(record.key),
        "value": bytes_to_json(record.value),
    });
    let headers = record.headers.clone().map(|header| {
        json!({ "key": bytes_to_json(Some(header.key)), "value": bytes_to_json(header.value) })
    });
    if record.headers.len() > 0 {
        document["headers"] = headers.collect::<Value>();
    }
    if is_control {
        let control = ControlRecord::decode(record.key, record.value);
        document["control"] = match control {
            Ok(control) => json!(format!("{control:?}")),
            Err(error) => json!(error.to_string()),
        };
    }
    document
}

fn print(
    out: &mut impl Write,
    position: u64,
    batch: &BatchView<'_>,
    records: Option<Result<Vec<Value>, String>>,
) -> Result<()> {
    let header = batch.header();
    let crc = if batch.is_crc_valid() { "ok" } else { "WRONG" };
    write!(
        out,
        "batch at {position}: offsets {} to {}, records {}, size {}, leader epoch {}, max time {}, {}, crc {crc}",
        header.base_offset,
        header.last_offset(),
        header.record_count,
        batch.size(),
        header.partition_leader_epoch,
        instant::format(header.max_timestamp),
        compression(batch),
    )?;
    if header.has_producer_id() {
        write!(
            out,
            ", producer {} epoch {} sequence {} to {}",
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence()
        )?;
    }
    if header.is_transactional() {
        write!(out, ", transactional")?;
    }
    if header.is_control() {
        write!(out, ", control")?;
    }
    writeln!(out)?;
    match records {
        None => {}
        Some(Ok(records)) => {
            for record in records {
                writeln!(out, "  {record}")?;
            }
        }
        Some(Err(error)) => writeln!(out, "  {error}")?,
    }
    Ok(())
}

fn compression(batch: &BatchView<'_>) -> &'static str {
    let compression = batch.header().compression();
    compression.map_or("unknown compression", |compression| compression.name())
}

fn to_json(
    path: &Path,
    position: u64,
    batch: &BatchView<'_>,
    records: Option<Result<Vec<Value>, String>>,
) -> Value {
    let header = batch.header();
    let timestamp_type = match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    let mut document = json!({
        "segment": path.display().to_string(),
        "position": position,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset().0,
        "records": header.record_count,
        "size": batch.size(),
        "partition_leader_epoch": header.partition_leader_epoch,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "timestamp_type": timestamp_type,
        "compression": compression(batch),
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.is_transactional(),
        "control": header.is_control(),
        "crc": header.crc,
        "crc_valid": batch.is_crc_valid(),
    });
    match records {
        None => {}
        Some(Ok(records)) => document["content"] = Value::Array(records),
        Some(Err(error)) => document["error"] = json!(error),
    }
    document
}
