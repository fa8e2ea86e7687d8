//! Prints the files that belong to a segment: its indexes and its producer snapshot.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use ottla_log::format::{
    AbortedTransaction, Entries, FileKind, OffsetEntry, TimeEntry, aborted_transactions,
    offset_entries, time_entries,
};
use ottla_log::producer_snapshot;
use ottla_log::producer_state::ProducerEntry;
use ottla_protocol::ids::{Offset, ProducerId};
use serde_json::{Value, json};

use crate::instant;
use crate::output::{Output, message, stdout};

/// One entry: the line for text output and the object for JSON.
type Entry = (String, Value);

/// Prints the file of the segment at `base`; returns false when it is damaged.
pub fn print(path: &Path, kind: FileKind, base: Offset, output: Output) -> Result<bool> {
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (entries, rest) = match kind {
        FileKind::OffsetIndex => shown(offset_entries(&content), |entry| offset(entry, base)),
        FileKind::TimeIndex => shown(time_entries(&content), |entry| time(entry, base)),
        FileKind::TransactionIndex => shown(aborted_transactions(&content), aborted),
        FileKind::ProducerSnapshot => {
            let Some(producers) = producer_snapshot::decode(&content) else {
                let shown = path.display();
                message(&format!(
                    "{shown}: the checksum or the version of the snapshot is wrong"
                ));
                return Ok(false);
            };
            let entries = producers.iter().map(|(id, entry)| producer(*id, entry));
            (entries.collect(), 0)
        }
        FileKind::Log => bail!("{} is a segment", path.display()),
    };
    let mut out = stdout();
    if output == Output::Text {
        writeln!(out, "{}", path.display())?;
    }
    for (line, mut document) in entries {
        match output {
            Output::Text => writeln!(out, "{line}")?,
            Output::Json => {
                document["file"] = json!(path.display().to_string());
                writeln!(out, "{document}")?;
            }
        }
    }
    out.flush()?;
    let rest = &content[content.len() - rest..];
    let is_preallocated = rest.iter().all(|byte| *byte == 0);
    if !rest.is_empty() {
        let what = if is_preallocated {
            "zeros, preallocated for later entries"
        } else {
            "bytes that are not an entry"
        };
        message(&format!("{}: {} {what}", path.display(), rest.len()));
    }
    Ok(is_preallocated)
}

fn shown<E>(entries: Entries<E>, show: impl Fn(E) -> Entry) -> (Vec<Entry>, usize) {
    (
        entries.entries.into_iter().map(show).collect(),
        entries.rest,
    )
}

fn offset(entry: OffsetEntry, base: Offset) -> Entry {
    let offset = base.0 + i64::from(entry.relative_offset);
    let position = entry.position;
    let line = format!("offset {offset} position {position}");
    (line, json!({ "offset": offset, "position": position }))
}

fn time(entry: TimeEntry, base: Offset) -> Entry {
    let offset = base.0 + i64::from(entry.relative_offset);
    let at = entry.timestamp;
    let line = format!("timestamp {at} ({}) offset {offset}", instant::format(at));
    (line, json!({ "timestamp": at, "offset": offset }))
}

fn aborted(entry: AbortedTransaction) -> Entry {
    let (first, last) = (entry.first_offset.0, entry.last_offset.0);
    let (producer, stable) = (entry.producer_id.0, entry.last_stable_offset.0);
    let line = format!(
        "producerId {producer} firstOffset {first} lastOffset {last} lastStableOffset {stable}"
    );
    let document = json!({
        "producerId": producer,
        "firstOffset": first,
        "lastOffset": last,
        "lastStableOffset": stable,
    });
    (line, document)
}

fn producer(id: ProducerId, entry: &ProducerEntry) -> Entry {
    let last = entry.last_batch();
    let last_sequence = entry.last_sequence();
    let last_offset = last.map_or(-1, |batch| batch.last_offset.0);
    let first_open = entry.transaction_first_offset.map_or(-1, |offset| offset.0);
    let at = entry.last_timestamp.0;
    let (epoch, coordinator) = (entry.epoch.0, entry.coordinator_epoch);
    let line = format!(
        "producerId {} producerEpoch {epoch} coordinatorEpoch {coordinator} currentTxnFirstOffset {first_open} \
         lastTimestamp {at} lastSequence {last_sequence} lastOffset {last_offset}",
        id.0
    );
    let document = json!({
        "producerId": id.0,
        "producerEpoch": epoch,
        "coordinatorEpoch": coordinator,
        "currentTxnFirstOffset": first_open,
        "lastTimestamp": at,
        "lastSequence": last_sequence,
        "lastOffset": last_offset,
    });
    (line, document)
}
