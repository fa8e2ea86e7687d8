//! Opening the metadata log: the newest whole snapshot, the batches after it, a new epoch.
//!
//! A torn batch at the very end is what a crash leaves of a proposal that nobody was told of: it is cut off. Damage
//! anywhere else, or with whole batches behind it, is damage to what was committed, and refuses the open.

use super::{MetadataLog, Opened, ProposeError, Settings};
use crate::batches::{self, BadBatch, BatchReader, Content, DecodeError, Next};
use crate::checkpoint::{self, CheckpointError, SnapshotId};
use crate::epoch_checkpoint::EpochStarts;
use crate::quorum_state::{self, Leadership, QuorumStateError};
use crate::segment;
use crate::voter::{DYNAMIC_VOTERS, QuorumControl, Voter};
use ottla_log::files::{self, File, FileError, Files, Open};
use ottla_metadata::{Loader, MetadataImage, MetadataVersion};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchView, HEADER_UP_TO_MAGIC};
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PARTITION_METADATA: &str = "partition.metadata";
/// The metadata topic's id is fixed: the second of the reserved ones.
const PARTITION_METADATA_CONTENT: &[u8] = b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ";

/// Why the metadata log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// `quorum-state` cannot be read.
    #[error(transparent)]
    QuorumState(#[from] QuorumStateError),
    /// No snapshot can be read, and the log does not begin at 0.
    #[error(
        "the metadata log begins at offset {log_start}, and no snapshot covers what was before: {problem}"
    )]
    NoSnapshot {
        /// Where the log begins.
        log_start: Offset,
        /// What is wrong with the newest snapshot.
        problem: String,
    },
    /// Committed batches are damaged or missing.
    #[error(
        "{path} is damaged at position {position} ({problem}), with committed batches behind it; restore the \
         directory from a copy"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// How.
        problem: String,
    },
    /// A snapshot cannot be understood.
    #[error(transparent)]
    Snapshot(#[from] CheckpointError),
    /// A batch cannot be understood.
    #[error(
        "{path} holds a record at offset {offset} that this release does not understand: {source}"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// The batch's offset.
        offset: Offset,
        /// Why.
        source: DecodeError,
    },
    /// The voters in the log are not this node alone.
    #[error(
        "the voters of the metadata quorum are {voters}, not this node alone (node.id {node_id}, directory \
         {directory_id}): quorums of several nodes are not served in this release"
    )]
    OtherVoters {
        /// Who they are.
        voters: String,
        /// This node.
        node_id: i32,
        /// This directory.
        directory_id: String,
    },
    /// `kraft.version` says that the voters are in the log, and they are not.
    #[error("kraft.version is {0}, but no voters stand in the log or a snapshot")]
    NoVoters(i16),
    /// This release does not know the metadata's level.
    #[error(transparent)]
    MetadataVersion(#[from] UnsupportedVersion),
    /// The first batch of the new epoch cannot be written.
    #[error(transparent)]
    StartEpoch(#[from] ProposeError),
}

/// The metadata is of a level that this release does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata.version is {level} in the metadata log, and this release reads {} to {}: start the release that \
     wrote it, or a later Ottla",
    MetadataVersion::MINIMUM.0,
    MetadataVersion::LATEST.0
)]
pub struct UnsupportedVersion {
    /// What the cluster has finalised.
    pub level: i16,
}

/// Refuses metadata of a level that this release does not know.
pub fn check_version(image: &MetadataImage) -> Result<(), UnsupportedVersion> {
    let version = image.metadata_version();
    if (MetadataVersion::MINIMUM..=MetadataVersion::LATEST).contains(&version) {
        return Ok(());
    }
    Err(UnsupportedVersion { level: version.0 })
}

/// Where a metadata log lies, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    /// Its directory (`__cluster_metadata-0`), made if it does not exist.
    pub directory: &'a Path,
    /// The cluster.
    pub cluster_id: &'a str,
}

/// What has been read so far.
#[derive(Default)]
struct State {
    loader: Loader,
    control: QuorumControl,
    epoch_starts: EpochStarts,
    /// The highest epoch seen anywhere.
    epoch: LeaderEpoch,
    /// The next offset to replay.
    next: Offset,
    last_append: Timestamp,
    replayed_bytes: u64,
    cut_bytes: u64,
}

impl<F: Files> MetadataLog<F> {
    /// Opens the log and leads it in an epoch of its own.
    pub fn open(
        files: F,
        Location {
            directory,
            cluster_id,
        }: Location<'_>,
        voter: Voter,
        settings: Settings,
        now: Timestamp,
    ) -> Result<Opened<F>, OpenError> {
        prepare(&files, directory)?;
        let (snapshots, mut segments) = remove_leftovers(&files, directory)?;
        let (mut state, restored, snapshots) = restore(&files, directory, &snapshots, &segments)?;
        replay(&files, directory, &mut segments, &mut state)?;
        // Before anything new is written. What a crash had left half done is tidied up by now, as any start does.
        check_version(state.loader.image())?;
        check_voters(&state.control, &voter)?;

        let stored = quorum_state::read_epoch(&files, directory)?;
        let epoch = LeaderEpoch(state.epoch.max(stored.unwrap_or_default()).0 + 1);
        let leadership = Leadership {
            leader: voter.node_id,
            epoch,
            kraft_version: state.control.kraft_version,
            cluster_id,
        };
        quorum_state::write(&files, directory, &leadership)?;

        let base = *segments.last().expect("replay leaves a segment");
        let active = files.open(&segment::path(directory, base), Open::Write)?;
        let active_size = active.length()?;
        let mut known = EpochStarts::read(&files, directory, state.next)?;
        known.merge(&state.epoch_starts);
        known.note(epoch, state.next);
        let mut log = Self {
            files,
            directory: directory.to_path_buf(),
            settings,
            voter,
            control: state.control,
            epoch,
            epoch_starts: known,
            segments,
            active,
            active_size,
            reserved_to: 0,
            end: state.next,
            last_append: state.last_append,
            snapshots,
            bytes_since_snapshot: state.replayed_bytes,
            failed: None,
        };
        log.start_epoch(now)?;
        let log_start = log.log_start();
        log.epoch_starts
            .write(&log.files, &log.directory, log_start)?;
        Ok(Opened {
            log,
            loader: state.loader,
            restored,
            cut_bytes: state.cut_bytes,
        })
    }
}

fn prepare<F: Files>(files: &F, directory: &Path) -> Result<(), FileError> {
    let parent = directory.parent().unwrap_or(Path::new("."));
    files.create_directory(directory)?;
    files.sync_directory(parent)?;
    let path = directory.join(PARTITION_METADATA);
    if files.status(&path)?.is_none() {
        files::replace_durably(files, &path, PARTITION_METADATA_CONTENT)?;
    }
    Ok(())
}

/// The snapshots with their sizes and the base offsets of the segments; half-made files are gone.
fn remove_leftovers<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<(Snapshots, Vec<Offset>), FileError> {
    let entries = files.list(directory)?;
    let mut snapshots = BTreeMap::new();
    for entry in &entries {
        let path = directory.join(&entry.name);
        if checkpoint::is_leftover(&entry.name) {
            files.remove(&path)?;
        } else if let Some(id) = SnapshotId::parse(&entry.name) {
            let size = files.status(&path)?.map_or(0, |status| status.length);
            snapshots.insert(id, size);
        }
    }
    Ok((snapshots, segment::base_offsets(&entries)))
}

type Snapshots = BTreeMap<SnapshotId, u64>;

/// Restores the newest snapshot that is whole. Damaged ones are passed over where the log makes up for them.
fn restore<F: Files>(
    files: &F,
    directory: &Path,
    found: &Snapshots,
    segments: &[Offset],
) -> Result<(State, Option<SnapshotId>, Snapshots), OpenError> {
    let mut snapshots = found.clone();
    let mut problem = "there is none".to_owned();
    for id in found.keys().rev() {
        match checkpoint::restore(files, &directory.join(id.file_name())) {
            Ok(mut restored) => {
                // The snapshot of formatting stands for no log yet; every later one repeats what the log says.
                restored.control.voters_in_log =
                    id.end_offset.0 > 0 && !restored.control.voters.is_empty();
                let state = State {
                    loader: Loader::new(restored.loader_image),
                    control: restored.control,
                    epoch: id.epoch,
                    next: id.end_offset,
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
        _ => Ok((State::default(), None, snapshots)),
    }
}

/// Replays the batches behind the snapshot, cuts a torn end off, and leaves a segment to write to.
fn replay<F: Files>(
    files: &F,
    directory: &Path,
    segments: &mut Vec<Offset>,
    state: &mut State,
) -> Result<(), OpenError> {
    let from = state.next;
    let first = segments.iter().rposition(|base| *base <= from).unwrap_or(0);
    let to_read: Vec<Offset> = segments.iter().skip(first).copied().collect();
    let mut end = to_read.first().copied().unwrap_or(from);
    for (number, base) in to_read.iter().enumerate() {
        let path = segment::path(directory, *base);
        if *base != end {
            return Err(OpenError::Damaged {
                path,
                position: 0,
                problem: format!("it begins at offset {base}, the segment before ends at {end}"),
            });
        }
        let is_last = number + 1 == to_read.len();
        end = replay_segment(files, &path, end, is_last, state)?;
    }
    if end < from || segments.is_empty() {
        // The snapshot is ahead of the log, as after Kafka fetched one: the log begins anew behind it.
        for base in segments.drain(..) {
            segment::remove(files, directory, base)?;
        }
        segment::create(files, directory, from)?;
        segments.push(from);
    } else if let Some(last) = segments.last() {
        // Kafka's indexes of the segment we write to would go stale; it makes them again.
        segment::remove_companions(files, directory, *last)?;
        state.next = end;
    }
    Ok(())
}

/// Replays one segment from its first batch, which must be at `expected`; returns where it ends.
fn replay_segment<F: Files>(
    files: &F,
    path: &Path,
    expected: Offset,
    is_last: bool,
    state: &mut State,
) -> Result<Offset, OpenError> {
    let file = files.open(path, if is_last { Open::Write } else { Open::Read })?;
    let mut reader = BatchReader::new(&file)?;
    let mut end = expected;
    loop {
        let position = reader.position();
        let problem = match reader.next()? {
            Next::End => return Ok(end),
            Next::Bad(problem) => problem,
            Next::Batch(batch) if batch.header().base_offset == end.0 => {
                end = replay_batch(&batch, path, state)?;
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
        cut(&file, position, reader.length(), problem, state)?;
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
            state.loader.load(&records);
        }
    }
    if end > state.next {
        state.next = end;
        state.replayed_bytes += batch.size() as u64;
    }
    Ok(end)
}

/// Voters in front of the snapshot are older than its own, but they show that they stand in the log.
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

/// Whether a whole batch of this log stands anywhere behind the reader's position.
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

fn cut<F: File>(
    file: &F,
    position: u64,
    length: u64,
    problem: BadBatch,
    state: &mut State,
) -> Result<(), FileError> {
    tracing::info!(
        bytes = length - position,
        %problem,
        "an unfinished write was cut off the metadata log"
    );
    state.cut_bytes += length - position;
    file.truncate(position)?;
    file.sync_data()
}

fn check_voters(control: &QuorumControl, voter: &Voter) -> Result<(), OpenError> {
    if control.kraft_version < DYNAMIC_VOTERS {
        return Ok(());
    }
    match control.voters.as_slice() {
        [] => Err(OpenError::NoVoters(control.kraft_version)),
        [only] if only.is_same_voter(voter) => Ok(()),
        voters => {
            let named: Vec<String> = voters
                .iter()
                .map(|voter| format!("{} ({})", voter.node_id, voter.directory_id))
                .collect();
            Err(OpenError::OtherVoters {
                voters: named.join(", "),
                node_id: voter.node_id.0,
                directory_id: voter.directory_id.to_string(),
            })
        }
    }
}
