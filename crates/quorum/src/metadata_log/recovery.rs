//! Opening the metadata log: the newest whole snapshot, the batches after it, a new epoch.
//!
//! - [`MetadataLog::inspect`] reads and writes nothing: every refusal comes from it, and leaves the directory as it was.
//! - [`Inspected::lead`] then tidies up what a crash left, and begins an epoch.
//!
//! A torn batch at the very end is what a crash leaves of a proposal that nobody was told of: it is cut off. Damage
//! anywhere else, or with whole batches behind it, is damage to what was committed, and refuses the open.
//!
//! The checkpoint that formatting makes (offset 0, epoch 0) is no snapshot: Kafka 4.4 and later put the cluster's first
//! records there, which count only once the first leader has written them into the log.

use super::refusals::{OpenError, check_version};
use super::{MetadataLog, Opened, Settings};
use crate::batches::{self, BadBatch, BatchReader, Content, Next};
use crate::checkpoint::{self, SnapshotId};
use crate::epoch_checkpoint::EpochStarts;
use crate::quorum_state::{self, Leadership};
use crate::segment;
use crate::voter::{DYNAMIC_VOTERS, QuorumControl, Voter};
use ottla_log::files::{self, File, FileError, Files, Open};
use ottla_metadata::{Loader, MetadataImage, versions};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchView, HEADER_UP_TO_MAGIC};
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PARTITION_METADATA: &str = "partition.metadata";
/// The metadata topic's id is fixed: the second of the reserved ones.
const PARTITION_METADATA_CONTENT: &[u8] = b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ";

/// Where a metadata log lies, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    /// Its directory (`__cluster_metadata-0`), made if it does not exist.
    pub directory: &'a Path,
    pub cluster_id: &'a str,
}

/// What has been read so far.
#[derive(Debug, Default)]
struct State {
    loader: Loader,
    control: QuorumControl,
    epoch_starts: EpochStarts,
    /// The highest epoch seen anywhere.
    epoch: LeaderEpoch,
    /// The next offset to replay.
    next: Offset,
    /// Where the log ends, which may be before the snapshot.
    log_end: Offset,
    last_append: Timestamp,
    replayed_bytes: u64,
    /// Whether records stand in front of the first `metadata.version`, in what is replayed.
    begins_late: bool,
    formatted: Option<Formatted>,
    torn: Option<Torn>,
}

impl State {
    /// Takes over data records of the log.
    fn load(&mut self, records: &[MetadataRecord]) {
        self.loader.load(records);
        let image = self.loader.image();
        self.begins_late = self.begins_late || lacks_level(image);
        if let Some(formatted) = &mut self.formatted {
            formatted.replay(records, image);
        }
    }
}

/// Whether there is metadata, and no `metadata.version` that says how to read it.
fn lacks_level(image: &MetadataImage) -> bool {
    !image.features.contains_key(versions::FEATURE) && *image != MetadataImage::default()
}

/// The data records of the checkpoint of formatting.
#[derive(Debug)]
struct Formatted {
    records: Vec<MetadataRecord>,
    /// The log replayed on top of them, while the log itself names no `metadata.version`.
    loader: Option<Loader>,
}

/// An unfinished write at the end of the last segment.
#[derive(Debug)]
struct Torn {
    path: PathBuf,
    position: u64,
    bytes: u64,
    problem: BadBatch,
}

/// A metadata log that was read, and not changed.
#[derive(Debug)]
pub struct Inspected<F> {
    files: F,
    directory: PathBuf,
    cluster_id: String,
    voter: Voter,
    snapshots: Snapshots,
    restored: Option<SnapshotId>,
    segments: Vec<Offset>,
    /// Half-made files.
    leftovers: Vec<PathBuf>,
    stored_epoch: LeaderEpoch,
    state: State,
}

impl<F: Files> MetadataLog<F> {
    /// Reads the log that `voter` is to lead. Nothing is written.
    pub fn inspect(
        files: F,
        Location {
            directory,
            cluster_id,
        }: Location<'_>,
        voter: Voter,
    ) -> Result<Inspected<F>, OpenError> {
        let Found {
            snapshots,
            segments,
            leftovers,
        } = find(&files, directory)?;
        let (mut state, restored, snapshots) = restore(&files, directory, &snapshots, &segments)?;
        replay(&files, directory, &segments, &mut state)?;
        check_version(state.loader.image())?;
        check_voters(&state.control, &voter)?;
        let stored_epoch = quorum_state::read_epoch(&files, directory)?.unwrap_or_default();
        Ok(Inspected {
            files,
            directory: directory.to_path_buf(),
            cluster_id: cluster_id.to_owned(),
            voter,
            snapshots,
            restored,
            segments,
            leftovers,
            stored_epoch,
            state,
        })
    }

    /// Opens the log and leads it in an epoch of its own.
    pub fn open(
        files: F,
        location: Location<'_>,
        voter: Voter,
        settings: Settings,
        now: Timestamp,
    ) -> Result<Opened<F>, OpenError> {
        Self::inspect(files, location, voter)?.lead(settings, now)
    }
}

impl<F: Files> Inspected<F> {
    /// The image of everything in the log.
    pub const fn image(&self) -> &MetadataImage {
        self.state.loader.image()
    }

    /// Whether the log went on before it had a `metadata.version`, and no snapshot behind that place makes up for it.
    pub const fn begins_late(&self) -> bool {
        self.state.begins_late
    }

    /// The cluster's first records, where formatting left them in its checkpoint, as Kafka 4.4 and later do.
    pub fn first_records(&self) -> Option<&[MetadataRecord]> {
        let formatted = self.state.formatted.as_ref()?;
        Some(&formatted.records)
    }

    /// The image of the first records and the log on top of them, while the log itself names no `metadata.version`.
    ///
    /// Earlier releases of Ottla took it for the cluster's image, and wrote on without the first records.
    pub fn image_over_first_records(&self) -> Option<&MetadataImage> {
        let formatted = self.state.formatted.as_ref()?;
        formatted.loader.as_ref().map(Loader::image)
    }

    /// Leads the log in an epoch of its own.
    pub fn lead(self, settings: Settings, now: Timestamp) -> Result<Opened<F>, OpenError> {
        let Self {
            files,
            directory,
            mut segments,
            state,
            ..
        } = self;
        prepare(&files, &directory)?;
        for leftover in &self.leftovers {
            files.remove(leftover)?;
        }
        let cut_bytes = state.torn.as_ref().map_or(0, |torn| torn.bytes);
        if let Some(torn) = &state.torn {
            cut(&files, torn)?;
        }
        settle_segments(&files, &directory, &mut segments, &state)?;
        let epoch = LeaderEpoch(state.epoch.max(self.stored_epoch).0 + 1);
        let leadership = Leadership {
            leader: self.voter.node_id,
            epoch,
            kraft_version: state.control.kraft_version,
            cluster_id: &self.cluster_id,
        };
        quorum_state::write(&files, &directory, &leadership)?;

        let base = *segments.last().expect("a segment is left to write to");
        let active = files.open(&segment::path(&directory, base), Open::Write)?;
        let active_size = active.length()?;
        let mut known = EpochStarts::read(&files, &directory, state.next)?;
        known.merge(&state.epoch_starts);
        known.note(epoch, state.next);
        let mut log = MetadataLog {
            files,
            directory,
            settings,
            voter: self.voter,
            control: state.control,
            epoch,
            epoch_starts: known,
            segments,
            active,
            active_size,
            reserved_to: 0,
            end: state.next,
            last_append: state.last_append,
            snapshots: self.snapshots,
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
            restored: self.restored,
            cut_bytes,
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

/// The files of a metadata log.
struct Found {
    /// With their sizes.
    snapshots: Snapshots,
    /// Their base offsets, in order.
    segments: Vec<Offset>,
    /// Half-made files.
    leftovers: Vec<PathBuf>,
}

fn find<F: Files>(files: &F, directory: &Path) -> Result<Found, FileError> {
    let entries = match files.list(directory) {
        Err(error) if error.is_not_found() => Vec::new(),
        entries => entries?,
    };
    let mut snapshots = BTreeMap::new();
    let mut leftovers = Vec::new();
    for entry in &entries {
        let path = directory.join(&entry.name);
        if checkpoint::is_leftover(&entry.name) {
            leftovers.push(path);
        } else if let Some(id) = SnapshotId::parse(&entry.name) {
            let size = files.status(&path)?.map_or(0, |status| status.length);
            snapshots.insert(id, size);
        }
    }
    Ok(Found {
        snapshots,
        segments: segment::base_offsets(&entries),
        leftovers,
    })
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
    let is_covered = |id: &SnapshotId| {
        // Records before the log are in a snapshot, which the checkpoint of formatting is not.
        *id != SnapshotId::BOOTSTRAP || segments.first().is_none_or(|first| first.0 == 0)
    };
    for id in found.keys().rev().filter(|id| is_covered(id)) {
        match checkpoint::restore(files, &directory.join(id.file_name())) {
            Ok(mut restored) => {
                // The checkpoint of formatting stands for no log yet; every later one repeats what the log says.
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
                    begins_late: lacks_level(&image),
                    loader: Loader::new(image),
                    formatted,
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

impl Formatted {
    /// Takes over records of the log, until `image`, which is the log's own, has a level.
    fn replay(&mut self, records: &[MetadataRecord], image: &MetadataImage) {
        if image.features.contains_key(versions::FEATURE) {
            self.loader = None;
        } else if let Some(loader) = &mut self.loader {
            loader.load(records);
        }
    }

    /// None where formatting left only the voters there, as Kafka before 4.4 and Ottla do.
    fn of(records: Vec<MetadataRecord>, image: MetadataImage) -> Option<Self> {
        let loader = Some(Loader::new(image));
        (!records.is_empty()).then_some(Self { records, loader })
    }
}

/// Replays the batches behind the snapshot. A torn end is noted.
fn replay<F: Files>(
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
    state.log_end = end;
    Ok(())
}

/// Leaves a segment to write to behind what was replayed.
fn settle_segments<F: Files>(
    files: &F,
    directory: &Path,
    segments: &mut Vec<Offset>,
    state: &State,
) -> Result<(), FileError> {
    match segments.last() {
        Some(last) if state.log_end >= state.next => {
            // Kafka's indexes of the segment we write to would go stale; it makes them again.
            segment::remove_companions(files, directory, *last)
        }
        _ => {
            // The snapshot is ahead of the log, as after Kafka fetched one: the log begins anew behind it.
            for base in segments.drain(..) {
                segment::remove(files, directory, base)?;
            }
            segment::create(files, directory, state.next)?;
            segments.push(state.next);
            Ok(())
        }
    }
}

/// Replays one segment from its first batch, which must be at `expected`; returns where it ends.
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

fn cut<F: Files>(files: &F, torn: &Torn) -> Result<(), FileError> {
    tracing::info!(
        bytes = torn.bytes,
        problem = %torn.problem,
        "an unfinished write was cut off the metadata log"
    );
    let file = files.open(&torn.path, Open::Write)?;
    file.truncate(torn.position)?;
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
