//! The metadata log as Raft derives it: it holds committed batches only, and its owner syncs it before a checkpoint.
//!
//! - What was written after the last checkpoint may be lost or torn by a crash. It is cut off at the next open, and applied
//!   again from Raft's log, byte for byte as before.
//! - The epoch is that of the last batch.

use super::ahead::{Ahead, AheadEntry};
use super::recovery::{Inspected, cut, cut_off, prepare, settle_segments, write_again};
use super::{MetadataLog, OpenError, Opened, ProposeError, Settings};
use crate::batches::{self, Content, DecodeError};
use crate::checkpoint::{self, CheckpointError, SnapshotId};
use crate::epoch_checkpoint::EpochStarts;
use crate::quorum_state::{self, Election};
use crate::raft::payload::Placed;
use crate::segment;
use crate::voter::QuorumControl;
use ottla_log::files::{File, FileError, Files, Open};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::records::BatchView;
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::time::Timestamp;

/// Why committed batches could not be added.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The disk failed, or is full.
    #[error(transparent)]
    Log(#[from] ProposeError),
    /// A record cannot be understood.
    #[error("the metadata log commits a record that this release does not understand: {0}")]
    Record(#[from] DecodeError),
}

impl<F: Files> Inspected<F> {
    /// Opens the log of a controller, up to where Raft's log goes on, or up to its end. All of it is durable then. What
    /// follows stays as far as it is `ahead`.
    pub(crate) fn open_committed(
        self,
        settings: Settings,
        ahead: &[AheadEntry],
    ) -> Result<Opened<F>, OpenError> {
        let read = self;
        let (files, directory, state) = (read.files, read.directory, read.state);
        let mut segments = read.segments;
        let end = state.until.unwrap_or(state.next);
        if state.next != end {
            return Err(OpenError::Damaged {
                path: directory,
                position: 0,
                problem: format!("the log ends at {}, and {end} is checkpointed", state.next),
            });
        }
        prepare(&files, &directory)?;
        for leftover in &read.leftovers {
            files.remove(leftover)?;
        }
        if let Some(last) = ahead.last() {
            let path = segment::path(&directory, last.segment);
            cut_off(&files, &path, last.end_position())?;
        } else if let Some((path, position)) = &state.applied_again {
            cut_off(&files, path, *position)?;
        } else if let Some(torn) = &state.torn {
            cut(&files, torn)?;
        }
        if state.until.is_none()
            && let Some(last) = &state.last_batch
        {
            write_again(&files, last)?;
        }
        let kept = ahead.last().map_or(end, |last| last.segment);
        while let Some(last) = segments.pop_if(|last| *last > kept) {
            segment::remove(&files, &directory, last)?;
        }
        while let Some(last) = segments.pop_if(|last| *last > end) {
            segment::remove_companions(&files, &directory, last)?;
        }
        settle_segments(&files, &directory, &mut segments, &state)?;
        let base = *segments.last().expect("a segment is left to write to");
        let active = files.open(&segment::path(&directory, base), Open::Write)?;
        let ahead_from = ahead.first().filter(|first| first.segment == base);
        let active_size = match ahead_from {
            Some(first) => first.position,
            None => active.length()?,
        };
        let mut known = EpochStarts::read(&files, &directory, end)?;
        known.merge(&state.epoch_starts);
        let log = MetadataLog {
            files,
            directory,
            settings,
            voter: read.voter,
            control: state.control,
            epoch: state.epoch,
            epoch_starts: known,
            segments,
            active,
            active_size,
            reserved_to: 0,
            end,
            ahead: Ahead::found(ahead, base),
            last_append: state.last_append,
            snapshots: read.snapshots,
            bytes_since_snapshot: state.replayed_bytes,
            failed: None,
        };
        Ok(Opened {
            log,
            loader: state.loader,
            restored: read.restored,
            cut_bytes: state.torn.map_or(0, |torn| torn.bytes),
        })
    }
}

impl<F: Files> MetadataLog<F> {
    /// Notes in `quorum-state`, which Kafka reads, that this node is in another epoch.
    pub(crate) fn note_election(&self, election: &Election<'_>) -> Result<(), FileError> {
        quorum_state::write(&self.files, &self.directory, election)
    }

    /// Whether batches of `bytes` fit, on a full disk into what is reserved already.
    pub(crate) fn has_room(&mut self, bytes: u64) -> Result<(), FileError> {
        match self.reserve(bytes) {
            Err(full) if full.is_full() && self.active_size + bytes <= self.reserved_to => Ok(()),
            reserved => reserved,
        }
    }

    /// Adds the committed batches of the entry at `index`, unsynced, all or none. Returns the data records in them. On a
    /// full disk nothing has changed.
    pub(crate) fn append_committed(
        &mut self,
        index: u64,
        batches: &[Placed],
        epoch: LeaderEpoch,
    ) -> Result<Vec<MetadataRecord>, ApplyError> {
        assert!(epoch >= self.epoch, "epochs never regress");
        let mut data = Vec::new();
        let mut control = Vec::new();
        let mut bytes = Vec::new();
        for batch in batches {
            let view = BatchView::first(&batch.bytes).expect("the payload was checked");
            match batches::decode(&view)? {
                Content::Data(records) => data.extend(records),
                Content::Control(records) => control.extend(records),
            }
            bytes.extend_from_slice(&batch.bytes);
        }
        let is_there = self
            .take_ahead(index)
            .map_err(|error| self.fail_by(error))?;
        if !is_there {
            self.write(&bytes)?;
        }
        self.epoch_starts.note(epoch, self.end);
        self.epoch = epoch;
        for record in &control {
            self.control.replay(record);
            self.control.voters_in_log |= matches!(record, ControlRecord::KRaftVoters(_));
        }
        for batch in batches {
            self.note_written(&batch.bytes, batch.records, Timestamp(batch.timestamp));
        }
        Ok(data)
    }

    /// Makes all batches durable.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        self.active.sync_data()?;
        self.write_epoch_starts()
    }

    /// Writes the epochs, unless the disk is full: then they come from the batches.
    pub(super) fn write_epoch_starts(&mut self) -> Result<(), FileError> {
        let log_start = self.log_start();
        let written = self
            .epoch_starts
            .write(&self.files, &self.directory, log_start);
        match written {
            Err(error) if error.is_full() => Ok(()),
            written => written,
        }
    }

    pub(crate) fn control(&self) -> &QuorumControl {
        &self.control
    }

    /// Whether a whole snapshot `id` is there.
    pub(crate) fn has_snapshot(&self, id: SnapshotId) -> Result<bool, CheckpointError> {
        let path = self.directory.join(id.file_name());
        match checkpoint::restore(&self.files, &path) {
            Ok(_) => Ok(true),
            Err(CheckpointError::File(error)) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins the log again after the snapshot `id`, which Raft has taken over. Returns the metadata in it.
    pub(crate) fn begin_after(&mut self, id: SnapshotId) -> Result<MetadataImage, CheckpointError> {
        let restored = checkpoint::restore(&self.files, &self.directory.join(id.file_name()))?;
        self.drop_ahead()?;
        for base in std::mem::take(&mut self.segments) {
            segment::remove(&self.files, &self.directory, base)?;
        }
        self.active = segment::create(&self.files, &self.directory, id.end_offset)?;
        self.segments.push(id.end_offset);
        (
            self.active_size,
            self.reserved_to,
            self.bytes_since_snapshot,
        ) = (0, 0, 0);
        self.control = restored.control;
        self.control.voters_in_log = true;
        self.snapshots.insert(id, restored.size);
        (self.end, self.epoch) = (id.end_offset, id.epoch);
        self.epoch_starts = EpochStarts::default();
        self.epoch_starts.note(id.epoch, id.end_offset);
        let log_start = self.log_start();
        self.epoch_starts
            .write(&self.files, &self.directory, log_start)?;
        Ok(restored.image)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, formatted, log_directory, small, voter};
    use super::super::{
        Fetched, FollowerEnd, Inspected, Location, MetadataLog, OpenError, Opened, Until,
    };
    use crate::checkpoint::SnapshotId;
    use crate::raft::fixture;
    use crate::raft::payload::Payload;
    use ottla_log::files::simulated::Simulated;
    use ottla_log::files::{read_whole, replace_durably};
    use ottla_protocol::ids::{LeaderEpoch, Offset};

    fn read(files: Simulated, end: Offset) -> Result<Inspected<Simulated>, OpenError> {
        let directory = log_directory();
        let location = Location {
            directory: &directory,
            cluster_id: "cluster",
        };
        let until = Until {
            end,
            goes_on: false,
        };
        MetadataLog::read(files, location, voter(), Some(until))
    }

    fn open(files: Simulated, end: Offset) -> Opened<Simulated> {
        let inspected = read(files, end).unwrap();
        inspected.open_committed(small(), &[]).unwrap()
    }

    fn append(opened: &mut Opened<Simulated>, epoch: i32, name: &str) {
        let payload = fixture::payload(epoch, &[name]).into();
        let epoch = LeaderEpoch(epoch);
        let placed = Payload::parse(&payload)
            .unwrap()
            .place(opened.log.end_offset(), epoch);
        let records = opened.log.append_committed(0, &placed, epoch).unwrap();
        opened.loader.load(&records);
    }

    /// Takes a snapshot, and adopts it.
    fn snapshot(Opened { log, loader, .. }: &mut Opened<Simulated>) -> SnapshotId {
        let job = log.begin_snapshot(loader, NOW).unwrap().unwrap();
        let written = job.write().unwrap();
        log.adopt_snapshot(written).unwrap();
        written.id()
    }

    /// A log with a snapshot of its own that goes on after a later one of its leader.
    fn goes_on_after_a_snapshot_of_its_leader() -> (Opened<Simulated>, SnapshotId) {
        let mut leader = open(formatted(), Offset(0));
        append(&mut leader, 3, "a");
        append(&mut leader, 4, "bb");
        let id = snapshot(&mut leader);
        let path = log_directory().join(id.file_name());
        let bytes = read_whole(&leader.log.files, &path, u64::MAX);
        let mut behind = open(formatted(), Offset(0));
        append(&mut behind, 3, "a");
        snapshot(&mut behind);
        replace_durably(&behind.log.files, &path, &bytes.unwrap().unwrap()).unwrap();
        behind.log.begin_after(id).unwrap();
        (behind, id)
    }

    fn start_again(opened: Opened<Simulated>) -> Opened<Simulated> {
        let mut log = opened.log;
        log.sync().unwrap();
        open(log.files.clone(), log.end_offset())
    }

    fn has_next(opened: &Opened<Simulated>, offset: Offset, epoch: i32) -> bool {
        let end = FollowerEnd {
            offset,
            last_epoch: LeaderEpoch(epoch),
        };
        let fetched = opened.log.view().fetch(end, 10_000).unwrap();
        matches!(&fetched, Fetched::Batches(bytes) if !bytes.is_empty())
    }

    /// An observer in the epoch of the snapshot was told that its log diverges, and its broker ended.
    #[test]
    fn a_log_that_goes_on_after_a_snapshot_knows_the_epoch_of_the_snapshot() {
        for restarts in [false, true] {
            let (mut behind, _) = goes_on_after_a_snapshot_of_its_leader();
            if restarts {
                behind = start_again(behind);
            }
            append(&mut behind, 4, "ccc");
            let end = behind.log.end_offset();
            append(&mut behind, 5, "dddd");
            assert!(has_next(&behind, end, 4), "after a restart: {restarts}");
        }
    }

    /// It was told to load the same snapshot again, without end: the oldest snapshot of the directory was not that at the
    /// start of the log.
    #[test]
    fn an_observer_that_has_loaded_the_snapshot_at_the_start_of_the_log_gets_batches() {
        for restarts in [false, true] {
            let (mut behind, id) = goes_on_after_a_snapshot_of_its_leader();
            if restarts {
                behind = start_again(behind);
            }
            append(&mut behind, 5, "ccc");
            assert!(
                has_next(&behind, id.end_offset, id.epoch.0),
                "after a restart: {restarts}"
            );
        }
    }

    /// The metadata between the two would be missing.
    #[test]
    fn a_snapshot_before_the_start_of_the_log_does_not_stand_in_for_a_damaged_one() {
        let (mut behind, id) = goes_on_after_a_snapshot_of_its_leader();
        append(&mut behind, 5, "ccc");
        let mut log = behind.log;
        log.sync().unwrap();
        replace_durably(&log.files, &log_directory().join(id.file_name()), b"no").unwrap();
        let opened = read(log.files.clone(), log.end_offset());
        let start = id.end_offset;
        assert!(
            matches!(opened, Err(OpenError::NoSnapshot { log_start, .. }) if log_start == start)
        );
    }
}
