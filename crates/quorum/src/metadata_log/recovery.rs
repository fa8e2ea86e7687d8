//! Opens the metadata log: reads the newest complete snapshot and the batches after it, then begins a new epoch.
//!
//! - [`MetadataLog::inspect`] only reads. Every refusal comes from it, and leaves the directory unchanged.
//! - [`Inspected::lead`] then removes what a crash left, and begins an epoch.
//!
//! A torn batch at the end of the log comes from a crash, and no caller was told of its proposal: it is cut off. Damage
//! anywhere else is damage to committed batches, and the log is not opened.
//!
//! The checkpoint that formatting makes (offset 0, epoch 0) is no snapshot. Kafka 4.4 and later put the cluster's first
//! records there, which count only after the first leader has written them to the log.

use super::ahead::Ahead;
use super::refusals::{OpenError, check_version};
use super::replay::{Snapshots, State, Stretch, Torn, replay, restore};
use super::{MetadataLog, Opened, Settings};
use crate::batches::{BatchReader, Next};
use crate::checkpoint::{self, SnapshotId};
use crate::epoch_checkpoint::EpochStarts;
use crate::quorum_state::{self, Election};
use crate::segment;
use crate::voter::{DYNAMIC_VOTERS, QuorumControl, Voter};
use ottla_log::files::{self, File, FileError, Files, Open};
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

const PARTITION_METADATA: &str = "partition.metadata";
/// The metadata topic's id is fixed: the second of the reserved ones.
const PARTITION_METADATA_CONTENT: &[u8] = b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ";

/// A metadata log on disk, and its cluster.
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    /// The directory `__cluster_metadata-0`; `lead` makes it if it does not exist.
    pub directory: &'a Path,
    pub cluster_id: &'a str,
}

/// Where a reader stops.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    pub(crate) end: Offset,
    /// Whether batches that stay follow in the log. Else what is before a snapshot at the end may be torn.
    pub(crate) goes_on: bool,
}

/// A metadata log that was read but not changed.
#[derive(Debug)]
pub struct Inspected<F> {
    pub(super) files: F,
    pub(super) directory: PathBuf,
    pub(super) cluster_id: String,
    pub(crate) voter: Voter,
    pub(super) snapshots: Snapshots,
    pub(super) restored: Option<SnapshotId>,
    pub(super) segments: Vec<Offset>,
    /// Files that were never completed.
    pub(super) leftovers: Vec<PathBuf>,
    /// The epoch of `quorum-state`.
    pub(crate) stored_epoch: LeaderEpoch,
    pub(super) state: State,
}

impl<F: Files> MetadataLog<F> {
    /// Reads the log that `voter` will lead. Writes nothing.
    pub fn inspect(
        files: F,
        location: Location<'_>,
        voter: Voter,
    ) -> Result<Inspected<F>, OpenError> {
        let inspected = Self::read(files, location, voter, None)?;
        check_voters(&inspected.state.control, &inspected.voter)?;
        Ok(inspected)
    }

    /// Reads the log, whoever the voters are, up to `until`.
    pub(crate) fn read(
        files: F,
        Location {
            directory,
            cluster_id,
        }: Location<'_>,
        voter: Voter,
        until: Option<Until>,
    ) -> Result<Inspected<F>, OpenError> {
        let goes_on = until.is_some_and(|until| until.goes_on);
        let until = until.map(|until| until.end);
        let Found {
            snapshots,
            segments,
            leftovers,
        } = find(&files, directory)?;
        let (mut state, restored, snapshots) =
            restore(&files, directory, &snapshots, &segments, until)?;
        let is_snapshot = restored.is_some() && until == Some(state.next);
        if is_snapshot && until != Some(Offset(0)) && !goes_on {
            skip_to_snapshot(directory, &segments, &mut state);
        } else {
            replay(&files, directory, &segments, &mut state)?;
        }
        check_version(state.loader.image())?;
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

    /// Opens the log, and leads it in an epoch that no earlier open of this directory had.
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
    /// The image after the whole log.
    pub const fn image(&self) -> &MetadataImage {
        self.state.loader.image()
    }

    pub(crate) const fn files(&self) -> &F {
        &self.files
    }

    /// The newest snapshot that is not the checkpoint of formatting, and its size in bytes.
    pub(crate) fn newest_snapshot(&self) -> Option<(SnapshotId, u64)> {
        let id = self.restored.filter(|id| *id != SnapshotId::BOOTSTRAP)?;
        Some((id, self.snapshots.get(&id).copied().unwrap_or_default()))
    }

    pub(crate) const fn loader(&self) -> &Loader {
        &self.state.loader
    }

    pub(crate) const fn control(&self) -> &QuorumControl {
        &self.state.control
    }

    pub(crate) fn location(&self) -> Location<'_> {
        Location {
            directory: &self.directory,
            cluster_id: &self.cluster_id,
        }
    }

    /// The highest epoch of a batch or snapshot.
    pub(crate) const fn epoch(&self) -> LeaderEpoch {
        self.state.epoch
    }

    /// The end of the log, as far as it was read.
    pub const fn end(&self) -> Offset {
        self.state.next
    }

    /// The voters in the log or in the checkpoint of formatting; `None` if the configuration names them.
    pub fn voters(&self) -> Option<&[Voter]> {
        let control = &self.state.control;
        (control.kraft_version >= DYNAMIC_VOTERS).then_some(&control.voters)
    }

    /// Whether the log has records before its first `metadata.version`, and no later snapshot covers them.
    pub const fn begins_without_version(&self) -> bool {
        self.state.begins_without_version
    }

    /// The cluster's first records, if they are in the checkpoint of formatting, as in Kafka 4.4 and later.
    pub fn first_records(&self) -> Option<&[MetadataRecord]> {
        let formatted = self.state.formatted.as_ref()?;
        Some(&formatted.records)
    }

    /// The image of the first records with the log on top of them, as long as the log itself has no `metadata.version`.
    ///
    /// Earlier releases of Ottla used it as the cluster's image, and never wrote the first records to the log.
    pub fn image_over_first_records(&self) -> Option<&MetadataImage> {
        let formatted = self.state.formatted.as_ref()?;
        formatted.loader.as_ref().map(Loader::image)
    }

    /// Leads the log in a new epoch.
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
        if let Some(last) = &state.last_batch {
            write_again(&files, last)?;
        }
        settle_segments(&files, &directory, &mut segments, &state)?;
        let epoch = LeaderEpoch(state.epoch.max(self.stored_epoch).0 + 1);
        let election = Election {
            leader: Some(self.voter.node_id),
            epoch,
            voted: None,
            kraft_version: state.control.kraft_version,
            cluster_id: &self.cluster_id,
            voters: &[self.voter.node_id],
        };
        quorum_state::write(&files, &directory, &election)?;

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
            ahead: Ahead::default(),
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

pub(super) fn prepare<F: Files>(files: &F, directory: &Path) -> Result<(), FileError> {
    let parent = directory.parent().unwrap_or(Path::new("."));
    files.create_directory(directory)?;
    files.sync_directory(parent)?;
    let path = directory.join(PARTITION_METADATA);
    if files.status(&path)?.is_none() {
        files::replace_durably(files, &path, PARTITION_METADATA_CONTENT)?;
    }
    Ok(())
}

/// The log goes on right after the snapshot. What is before it may be torn, if the snapshot came from a leader and the
/// start of the new log was cut short: without a segment that begins there, the log begins anew.
fn skip_to_snapshot(directory: &Path, segments: &[Offset], state: &mut State) {
    if segments.contains(&state.next) {
        state.log_end = state.next;
        state.applied_again = Some((segment::path(directory, state.next), 0));
    }
}

/// The files of a metadata log.
struct Found {
    snapshots: Snapshots,
    /// The base offsets, in order.
    segments: Vec<Offset>,
    /// Files that were never completed.
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

/// Makes sure that there is a segment to append to, after what was replayed.
pub(super) fn settle_segments<F: Files>(
    files: &F,
    directory: &Path,
    segments: &mut Vec<Offset>,
    state: &State,
) -> Result<(), FileError> {
    match segments.last() {
        Some(last) if state.log_end >= state.next => {
            // Kafka's indexes of the segment would become stale. Kafka rebuilds them.
            segment::remove_companions(files, directory, *last)
        }
        _ => {
            // The snapshot is ahead of the log, as after Kafka has fetched one: the log starts again after it.
            for base in segments.drain(..) {
                segment::remove(files, directory, base)?;
            }
            segment::create(files, directory, state.next)?;
            segments.push(state.next);
            Ok(())
        }
    }
}

/// The base offsets of the segments that have `offset` and what follows.
pub(crate) fn segments_from<F: Files>(
    files: &F,
    directory: &Path,
    offset: Offset,
) -> Result<Vec<Offset>, FileError> {
    let mut segments = find(files, directory)?.segments;
    let first = segments.iter().rposition(|base| *base <= offset);
    segments.drain(..first.unwrap_or(0));
    Ok(segments)
}

/// The highest epoch in the log or among the snapshots in `directory`. Epochs never fall, so that of the last batch counts.
pub(crate) fn newest_epoch<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<LeaderEpoch, FileError> {
    let found = find(files, directory)?;
    let newest = found.snapshots.keys().map(|id| id.epoch).max();
    let mut newest = newest.unwrap_or_default();
    for base in found.segments.iter().rev() {
        let file = files.open(&segment::path(directory, *base), Open::Read)?;
        let mut reader = BatchReader::new(&file)?;
        let mut has_batches = false;
        while let Next::Batch(batch) = reader.next()? {
            newest = newest.max(LeaderEpoch(batch.header().partition_leader_epoch));
            has_batches = true;
        }
        if has_batches {
            break;
        }
    }
    Ok(newest)
}

pub(super) fn cut<F: Files>(files: &F, torn: &Torn) -> Result<(), FileError> {
    tracing::info!(
        bytes = torn.bytes,
        problem = %torn.problem,
        "an unfinished write was cut off the metadata log"
    );
    cut_off(files, &torn.path, torn.position)
}

/// Cuts off what a segment has from `position` on.
pub(super) fn cut_off<F: Files>(files: &F, path: &Path, position: u64) -> Result<(), FileError> {
    let file = files.open(path, Open::Write)?;
    file.truncate(position)?;
    file.sync_data()
}

/// Writes the last batch again, and syncs it. If its sync failed, the system may count it as written although it is not on
/// disk (assumption 2 of `docs/formats.md`): what follows it would be synced, and it would not.
pub(crate) fn write_again<F: Files>(files: &F, last: &Stretch) -> Result<(), FileError> {
    let file = files.open(&last.path, Open::Write)?;
    let mut batch = vec![0; last.length];
    let read = file.read_at(&mut batch, last.position)?;
    batch.truncate(read);
    file.write_at(&[IoSlice::new(&batch)], last.position)?;
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
