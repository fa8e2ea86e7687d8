//! Kafka's small text files: offsets of each partition, leader epochs, topic ids. Each is replaced atomically and
//! durably.
//!
//! | file | where | lines after `0` and the number of entries |
//! |---|---|---|
//! | `recovery-point-offset-checkpoint` | log directory | `topic partition offset`: all before it is on stable storage |
//! | `replication-offset-checkpoint` | log directory | `topic partition offset`: the high watermark |
//! | `log-start-offset-checkpoint` | log directory | `topic partition offset`, where it is not the first segment's base |
//! | `cleaner-offset-checkpoint` | log directory | `topic partition offset`: all before it is compacted |
//! | `leader-epoch-checkpoint` | partition | `epoch start-offset`, rising |
//! | `partition.metadata` | partition | none: it is `version: 0` and `topic_id: <base64>` |
//! | `.kafka_cleanshutdown` | log directory | none: it is JSON, `{"version":0,"brokerEpoch":5}` |

use crate::files::{FileError, Files, Operation, aside, read_whole, replace_durably, write_aside};
use crate::leader_epochs::LeaderEpochs;
use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

/// The recovery points of a log directory's partitions.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// The high watermarks of a log directory's partitions.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// The log start offsets of a log directory's partitions.
pub const LOG_START_OFFSETS: &str = "log-start-offset-checkpoint";
/// How far a log directory's partitions are compacted.
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// The leader epochs of a partition.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// The topic id of a partition.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// The mark of a clean shutdown: the file is present in a log directory that was closed.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// Upper bound of a checkpoint's size; it has one line for each partition.
const MAX_BYTES: u64 = 256 << 20;

/// An offset for each partition, by topic name and partition index.
pub type PartitionOffsets = BTreeMap<(String, i32), Offset>;

/// The offsets in the checkpoint file `name` of the log directory at `directory`; none when there is no file.
pub fn read_offsets<F: Files>(
    files: &F,
    directory: &Path,
    name: &str,
) -> Result<PartitionOffsets, FileError> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let partition = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let offset = Offset(words.next()?.parse().ok()?);
        words.next().is_none().then_some((partition, offset))
    };
    Ok(read_entries(files, &directory.join(name), line)?
        .into_iter()
        .collect())
}

/// Replaces the checkpoint file `name` of the log directory at `directory`.
pub fn write_offsets<F: Files>(
    files: &F,
    directory: &Path,
    name: &str,
    offsets: &PartitionOffsets,
) -> Result<(), FileError> {
    let mut text = format!("0\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    replace_durably(files, &directory.join(name), text.as_bytes())
}

/// The leader epochs of the partition at `directory`; none when there is no file.
pub fn read_leader_epochs<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<LeaderEpochs, FileError> {
    let line = |line: &str| {
        let (epoch, start) = line.split_once(char::is_whitespace)?;
        Some((
            LeaderEpoch(epoch.parse().ok()?),
            Offset(start.trim().parse().ok()?),
        ))
    };
    Ok(LeaderEpochs::from_entries(read_entries(
        files,
        &directory.join(LEADER_EPOCHS),
        line,
    )?))
}

/// Replaces the leader epochs of the partition at `directory`.
pub fn write_leader_epochs<F: Files>(
    files: &F,
    directory: &Path,
    epochs: &LeaderEpochs,
) -> Result<(), FileError> {
    let text = leader_epochs_text(epochs);
    replace_durably(files, &directory.join(LEADER_EPOCHS), text.as_bytes())
}

/// Writes the leader epochs into a temporary file, unsynced. [`rename_leader_epochs`] puts it in place.
pub(crate) fn write_leader_epochs_aside<F: Files>(
    files: &F,
    directory: &Path,
    epochs: &LeaderEpochs,
) -> Result<(), FileError> {
    let text = leader_epochs_text(epochs);
    write_aside(files, &directory.join(LEADER_EPOCHS), text.as_bytes()).map(drop)
}

/// Renames the temporary file, which the caller has synced, to the checkpoint. The name is not synced.
pub(crate) fn rename_leader_epochs<F: Files>(files: &F, directory: &Path) -> Result<(), FileError> {
    let path = directory.join(LEADER_EPOCHS);
    files.rename(&aside(&path), &path)
}

fn leader_epochs_text(epochs: &LeaderEpochs) -> String {
    let mut text = format!("0\n{}\n", epochs.entries().count());
    for (epoch, start) in epochs.entries() {
        let _ = writeln!(text, "{epoch} {start}");
    }
    text
}

/// The topic id of the partition at `directory`; none when there is no file.
pub fn read_topic_id<F: Files>(files: &F, directory: &Path) -> Result<Option<Uuid>, FileError> {
    let path = directory.join(PARTITION_METADATA);
    let Some(text) = read_text(files, &path)? else {
        return Ok(None);
    };
    let mut version = None;
    let mut topic_id = None;
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("version", value)) => version = Some(value),
            Some(("topic_id", value)) => topic_id = Uuid::from_base64(value.trim()).ok(),
            _ => return Err(malformed(&path, line)),
        }
    }
    match (version, topic_id) {
        (Some("0"), Some(id)) => Ok(Some(id)),
        _ => Err(malformed(&path, &text)),
    }
}

/// Writes the topic id of the partition at `directory`. Without it Kafka sets the partition aside and starts it empty.
pub fn write_topic_id<F: Files>(files: &F, directory: &Path, id: Uuid) -> Result<(), FileError> {
    let path = directory.join(PARTITION_METADATA);
    replace_durably(files, &path, topic_id_text(id).as_bytes())
}

/// Writes the topic id into a temporary file, unsynced. [`rename_topic_id`] puts it in place.
pub(crate) fn write_topic_id_aside<F: Files>(
    files: &F,
    directory: &Path,
    id: Uuid,
) -> Result<(), FileError> {
    let path = directory.join(PARTITION_METADATA);
    write_aside(files, &path, topic_id_text(id).as_bytes()).map(drop)
}

/// Renames the temporary file, which the caller has synced, to `partition.metadata`. The name is not synced.
pub(crate) fn rename_topic_id<F: Files>(files: &F, directory: &Path) -> Result<(), FileError> {
    let path = directory.join(PARTITION_METADATA);
    files.rename(&aside(&path), &path)
}

fn topic_id_text(id: Uuid) -> String {
    format!("version: 0\ntopic_id: {id}")
}

/// Whether the log directory at `directory` has the mark of a clean shutdown.
pub fn was_clean_shutdown<F: Files>(files: &F, directory: &Path) -> Result<bool, FileError> {
    Ok(files.status(&directory.join(CLEAN_SHUTDOWN))?.is_some())
}

/// The epoch of the broker that closed the log directory at `directory` cleanly.
pub fn clean_shutdown_epoch<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<Option<i64>, FileError> {
    let text = read_text(files, &directory.join(CLEAN_SHUTDOWN))?;
    Ok(text.as_deref().and_then(broker_epoch))
}

fn broker_epoch(text: &str) -> Option<i64> {
    let (_, value) = text.split_once("\"brokerEpoch\"")?;
    let value = value.trim_start().strip_prefix(':')?.trim_start();
    let end = value.find(['}', ',']).unwrap_or(value.len());
    value.get(..end)?.trim().parse().ok()
}

/// Marks the log directory at `directory` as closed by the broker with this epoch.
pub fn write_clean_shutdown<F: Files>(
    files: &F,
    directory: &Path,
    broker_epoch: i64,
) -> Result<(), FileError> {
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    replace_durably(files, &directory.join(CLEAN_SHUTDOWN), text.as_bytes())
}

/// Removes the mark of a clean shutdown: the log directory at `directory` is in use, and a crash from now on needs
/// recovery.
pub fn remove_clean_shutdown<F: Files>(files: &F, directory: &Path) -> Result<(), FileError> {
    match files.remove(&directory.join(CLEAN_SHUTDOWN)) {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => files.sync_directory(directory),
    }
}

fn read_text<F: Files>(files: &F, path: &Path) -> Result<Option<String>, FileError> {
    let Some(bytes) = read_whole(files, path, MAX_BYTES)? else {
        return Ok(None);
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| malformed(path, "not text"))
}

fn read_entries<F: Files, T>(
    files: &F,
    path: &Path,
    entry: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, FileError> {
    let text = read_text(files, path)?.unwrap_or_default();
    let mut lines = text.lines();
    // Kafka creates the file empty before its first write.
    let (Some(version), Some(count)) = (lines.next(), lines.next()) else {
        return Ok(Vec::new());
    };
    if version != "0" {
        return Err(malformed(path, version));
    }
    let entries: Vec<T> = lines
        .map(|line| entry(line).ok_or_else(|| malformed(path, line)))
        .collect::<Result<_, _>>()?;
    if count.parse() != Ok(entries.len()) {
        return Err(malformed(
            path,
            &format!("{count} entries announced, {} found", entries.len()),
        ));
    }
    Ok(entries)
}

fn malformed(path: &Path, what: &str) -> FileError {
    let source = io::Error::new(io::ErrorKind::InvalidData, format!("malformed: {what}"));
    FileError::new(Operation::Read, path, source)
}
