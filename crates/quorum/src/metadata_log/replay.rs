//! Reads the metadata log: the newest whole snapshot, and the batches after it. Nothing is written.

use super::refusals::OpenError;
use crate::batches::{self, BadBatch, BatchReader, Content, Next};
use crate::checkpoint::{self, SnapshotId};
use crate::epoch_checkpoint::EpochStarts;
use crate::segment;
use crate::voter::QuorumControl;
use ottla_log::files::{File, FileError, Files, Open};
use ottla_metadata::{Loader, MetadataImage, versions};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchView, HEADER_UP_TO_MAGIC};
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The snapshots of a log, and their sizes in bytes.
pub(super) type Snapshots = BTreeMap<SnapshotId, u64>;

/// The state after what has been read so far.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) loader: Loader,
    pub(super) control: QuorumControl,
    pub(super) epoch_starts: EpochStarts,
    /// The highest epoch of a batch or snapshot.
    pub(super) epoch: LeaderEpoch,
    /// The next offset to replay.
    pub(super) next: Offset,
    /// The end of the log, which may be before that of the snapshot.
    pub(super) log_end: Offset,
    pub(super) last_append: Timestamp,
    pub(super) replayed_bytes: u64,
    /// Whether records come before the first `metadata.version`, in what is replayed.
    pub(super) begins_without_version: bool,
    pub(super) formatted: Option<Formatted>,
    pub(super) torn: Option<Torn>,
    /// The last batch: all before it were synced before it was written.
    pub(super) last_batch: Option<Stretch>,
    /// Batches from here on are not replayed, and will be applied again from Raft's log.
    pub(super) until: Option<Offset>,
    /// Where `until` is in its segment, if batches follow.
    pub(super) applied_again: Option<(PathBuf, u64)>,
}

impl State {
    /// Applies data records of the log.
    fn load(&mut self, records: &[MetadataRecord]) {
        self.loader.load(records);
        let image = self.loader.image();
        self.begins_without_version = self.begins_without_version || lacks_level(image);
        if let Some(formatted) = &mut self.formatted {
            formatted.replay(records, image);
        }
    }
}

/// Whether there is metadata but no `metadata.version`.
fn lacks_level(image: &MetadataImage) -> bool {
    !image.features.contains_key(versions::FEATURE) && *image != MetadataImage::default()
}

/// The data records of the checkpoint of formatting.
#[derive(Debug)]
pub(super) struct Formatted {
    pub(super) records: Vec<MetadataRecord>,
    /// The log replayed on top of them, as long as the log itself has no `metadata.version`.
    pub(super) loader: Option<Loader>,
}

/// The bytes of one batch.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) path: PathBuf,
    pub(crate) position: u64,
    pub(crate) length: usize,
}

/// An unfinished write at the end of the last segment.
#[derive(Debug)]
pub(super) struct Torn {
    pub(super) path: PathBuf,
    pub(super) position: u64,
    pub(super) bytes: u64,
    pub(super) problem: BadBatch,
}

/// Restores the newest complete snapshot. Damaged ones are skipped if the log goes on after an older one, or has its start.
pub(super) fn restore<F: Files>(
    files: &F,
    directory: &Path,
    found: &Snapshots,
    segments: &[Offset],
    until: Option<Offset>,
) -> Result<(State, Option<SnapshotId>, Snapshots), OpenError> {
    let mut snapshots = found.clone();
    let mut problem = "there is none".to_owned();
    // Between an older snapshot and the first segment, records are missing.
    let is_covered = |id: &SnapshotId| {
        segments.first().is_none_or(|first| id.end_offset >= *first)
            && until.is_none_or(|until| id.end_offset <= until)
    };
    for id in found.keys().rev().filter(|id| is_covered(id)) {
        match checkpoint::restore(files, &directory.join(id.file_name())) {
            Ok(mut restored) => {
                // The checkpoint of formatting was made before there was a log. Later ones repeat the state of the log.
                let is_snapshot = *id != SnapshotId::BOOTSTRAP;
                restored.control.voters_in_log = is_snapshot && !restored.control.voters.is_empty();
                let (image, formatted) = if is_snapshot {
                    (restored.image, None)
                } else {
                    let records = checkpoint::records(files, &directory.join(id.file_name()))?;
                    (
                        MetadataImage::default(),
                        Formatted::of(records, restored.image),
                    )
                };
                let state = State {
                    begins_without_version: lacks_level(&image),
                    loader: Loader::new(image),
                    formatted,
                    control: restored.control,
                    epoch: id.epoch,
                    next: id.end_offset,
                    until,
                    ..State::default()
                };
                return Ok((state, Some(*id), snapshots));
            }
            Err(error) if error.is_damage() => {
                tracing::warn!(snapshot = %id.file_name(), %error, "metadata snapshot is passed over");
                problem = error.to_string();
                snapshots.remove(id);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match segments.first() {
        Some(first) if first.0 > 0 => Err(OpenError::NoSnapshot {
            log_start: *first,
            problem,
        }),
        _ => {
            let state = State {
                until,
                ..State::default()
            };
            Ok((state, None, snapshots))
        }
    }
}

impl Formatted {
    /// Applies records of the log, until `image`, the log's own, has a `metadata.version`.
    fn replay(&mut self, records: &[MetadataRecord], image: &MetadataImage) {
        if image.features.contains_key(versions::FEATURE) {
            self.loader = None;
        } else if let Some(loader) = &mut self.loader {
            loader.load(records);
        }
    }

    /// `None` if formatting left only the voters there, as in Kafka before 4.4 and in Ottla.
    fn of(records: Vec<MetadataRecord>, image: MetadataImage) -> Option<Self> {
        let loader = Some(Loader::new(image));
        (!records.is_empty()).then_some(Self { records, loader })
    }
}

/// Replays the batches after the snapshot. A torn batch at the end is kept in `state`.
pub(super) fn replay<F: Files>(
    files: &F,
    directory: &Path,
    segments: &[Offset],
    state: &mut State,
) -> Result<(), OpenError> {
    let from = state.next;
    let first = segments.iter().rposition(|base| *base <= from).unwrap_or(0);
    let to_read = segments.get(first..).unwrap_or_default();
    let mut end = to_read.first().copied().unwrap_or(from);
    for (number, base) in to_read.iter().enumerate() {
        let path = segment::path(directory, *base);
        if state.until == Some(end) {
            state.applied_again = (*base == end).then_some((path, 0));
            break;
        }
        if *base != end {
            return Err(OpenError::Damaged {
                path,
                position: 0,
                problem: format!("it begins at offset {base}, the segment before ends at {end}"),
            });
        }
        let is_last = number + 1 == to_read.len();
        end = replay_segment(files, &path, end, is_last, state)?;
        if state.applied_again.is_some() {
            break;
        }
    }
    state.log_end = end;
    Ok(())
}

/// Replays one segment, whose first batch must be at `expected`. Returns its end offset.
fn replay_segment<F: Files>(
    files: &F,
    path: &Path,
    expected: Offset,
    is_last: bool,
    state: &mut State,
) -> Result<Offset, OpenError> {
    let file = files.open(path, Open::Read)?;
    let mut reader = BatchReader::new(&file)?;
    let mut end = expected;
    loop {
        let position = reader.position();
        if state.until == Some(end) && position < reader.length() {
            state.applied_again = Some((path.to_path_buf(), position));
            return Ok(end);
        }
        let problem = match reader.next()? {
            Next::End => return Ok(end),
            Next::Bad(problem) => problem,
            Next::Batch(batch) if batch.header().base_offset == end.0 => {
                end = replay_batch(&batch, path, state)?;
                state.last_batch = Some(Stretch {
                    path: path.to_path_buf(),
                    position,
                    length: batch.size(),
                });
                continue;
            }
            Next::Batch(batch) => {
                return Err(OpenError::Damaged {
                    path: path.to_path_buf(),
                    position,
                    problem: format!(
                        "a batch at offset {} where {end} was expected",
                        batch.header().base_offset
                    ),
                });
            }
        };
        if !is_last || has_batch_behind(&mut reader, end)? {
            return Err(OpenError::Damaged {
                path: path.to_path_buf(),
                position,
                problem: problem.to_string(),
            });
        }
        state.torn = Some(Torn {
            path: path.to_path_buf(),
            position,
            bytes: reader.length() - position,
            problem,
        });
        return Ok(end);
    }
}

fn replay_batch(
    batch: &BatchView<'_>,
    path: &Path,
    state: &mut State,
) -> Result<Offset, OpenError> {
    let header = batch.header();
    let offset = Offset(header.base_offset);
    let epoch = LeaderEpoch(header.partition_leader_epoch);
    let end = offset.plus(i64::from(header.last_offset_delta) + 1);
    state.epoch = state.epoch.max(epoch);
    state.epoch_starts.note(epoch, offset);
    state.last_append = Timestamp(header.max_timestamp);
    let content = batches::decode(batch).map_err(|source| OpenError::Record {
        path: path.to_path_buf(),
        offset,
        source,
    })?;
    match content {
        Content::Control(records) => replay_control(&records, end <= state.next, state),
        Content::Data(_) if end <= state.next => {}
        Content::Data(records) => {
            state.load(&records);
        }
    }
    if end > state.next {
        state.next = end;
        state.replayed_bytes += batch.size() as u64;
    }
    Ok(end)
}

/// Voters in a batch before the snapshot are older than those of the snapshot, but show that the log has voters.
fn replay_control(records: &[ControlRecord], is_in_snapshot: bool, state: &mut State) {
    for record in records {
        if matches!(record, ControlRecord::KRaftVoters(_)) {
            state.control.voters_in_log = true;
        }
        if !is_in_snapshot {
            state.control.replay(record);
        }
    }
}

/// Whether there is a valid batch of this log anywhere after the reader's position.
fn has_batch_behind<F: File>(
    reader: &mut BatchReader<'_, F>,
    end: Offset,
) -> Result<bool, FileError> {
    reader.skip(1);
    while reader.position() + (HEADER_UP_TO_MAGIC as u64) < reader.length() {
        match reader.next()? {
            Next::Batch(batch) if batch.header().base_offset > end.0 => return Ok(true),
            _ => {}
        }
        reader.skip(1);
    }
    Ok(false)
}
