//! Prints the batches of a segment, and their records.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use ottla_log::damage::{Damage, UNBOUNDED};
use ottla_log::files::File as _;
use ottla_log::files::disk::DiskFile;
use ottla_log::scan::{Scan, ScanError};
use ottla_protocol::records::{BatchView, Decompressor, Record, TimestampType};
use serde_json::{Value, json};

use super::decoded::{Decoded, InternalTopic};
use crate::instant;
use crate::output::{Output, Stdout, bytes_to_json, message, stdout};

/// A compressed batch may decompress to at most this many bytes.
const MAX_UNPACKED_BYTES: usize = 1 << 30;

#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Print the records too.
    pub with_records: bool,
    /// Decode the records as those of this internal topic.
    pub topic: Option<InternalTopic>,
    pub output: Output,
}

/// Prints one segment.
pub struct Printer<'a> {
    path: &'a Path,
    style: Style,
    out: BufWriter<Stdout>,
    decompressor: Decompressor,
}

/// A record, ready to print.
struct Shown {
    line: String,
    document: Value,
}

impl<'a> Printer<'a> {
    /// Begins with the segment's name.
    pub fn new(path: &'a Path, style: Style) -> Result<Self> {
        let mut out = stdout();
        if style.output == Output::Text {
            writeln!(out, "{}", path.display())?;
        }
        Ok(Self {
            path,
            style,
            out,
            decompressor: Decompressor::default(),
        })
    }

    pub fn batch(&mut self, position: u64, batch: &BatchView<'_>) -> Result<()> {
        let topic = self.style.topic;
        let records = self
            .style
            .with_records
            .then(|| records(batch, topic, &mut self.decompressor));
        match self.style.output {
            Output::Json => {
                let document = to_json(self.path, position, batch, records);
                serde_json::to_writer(&mut self.out, &document).map_err(io::Error::from)?;
                self.out.write_all(b"\n")?;
            }
            Output::Text => print(&mut self.out, position, batch, records)?,
        }
        Ok(())
    }

    /// Flushes stdout.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }

    /// Prints the batches that can still be recognised in a damaged range, and a message about the
    /// damage.
    pub fn damage(&mut self, file: &DiskFile, damage: &Damage) -> Result<()> {
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

/// Decodes the records of a batch.
fn records(
    batch: &BatchView<'_>,
    topic: Option<InternalTopic>,
    decompressor: &mut Decompressor,
) -> Result<Vec<Shown>, String> {
    let is_control = batch.header().is_control();
    let records = batch.records(decompressor, MAX_UNPACKED_BYTES);
    let records = records.map_err(|error| error.to_string())?;
    let shown = |record: Result<Record<'_>, _>| match record {
        Ok(record) => Ok(show(&record, is_control, topic)),
        Err(error) => Err(ottla_protocol::records::RecordError::to_string(&error)),
    };
    records.map(shown).collect()
}

fn show(record: &Record<'_>, is_control: bool, topic: Option<InternalTopic>) -> Shown {
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
    let decoded = if is_control {
        Decoded::of_control(record.key, record.value)
    } else if let Some(topic) = topic {
        topic.decode(record.key, record.value)
    } else {
        let line = document.to_string();
        return Shown { line, document };
    };
    let line = match decoded {
        Ok(decoded) => {
            decoded.fill(&mut document, is_control);
            format!("{} {decoded}", record.offset)
        }
        // A record that cannot be decoded is printed as bytes.
        Err(error) => {
            document["error"] = json!(error);
            document.to_string()
        }
    };
    Shown { line, document }
}

fn print(
    out: &mut impl Write,
    position: u64,
    batch: &BatchView<'_>,
    records: Option<Result<Vec<Shown>, String>>,
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
                writeln!(out, "  {}", record.line)?;
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
    records: Option<Result<Vec<Shown>, String>>,
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
        Some(Ok(records)) => {
            let documents = records.into_iter().map(|record| record.document);
            document["content"] = documents.collect();
        }
        Some(Err(error)) => document["error"] = json!(error),
    }
    document
}
