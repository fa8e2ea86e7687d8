//! Raft's own log and state: the file `raft-log` in the directory of the metadata log.
//!
//! The file is a row of frames; `frame.rs` has their bytes. Each [`RaftLog::persist`] appends one frame, and syncs it.
//! [`RaftLog::compact`] and [`RaftLog::install`] replace the file. After a failed write or sync nothing more is written,
//! except that a full disk is tried again.

mod frame;
mod open;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ottla_log::files::{self, File, FileError, Files, Open, Operation};
use ottla_protocol::ids::Offset;
use ottla_protocol::planted::{Bug, is_planted};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use self::frame::Frame;
use super::format;
use super::message::SnapshotName;
pub use open::RaftLogError;
pub(super) use open::ReadLog;

/// The name of the file.
pub(super) const FILE: &str = "raft-log";
/// Bytes of applied entries that stay in memory for followers that are a little behind.
const CACHED_BYTES: usize = 1024 * 1024;
/// Bytes of disk reserved after the end of the file.
const RESERVED_BYTES: u64 = 4 * 1024 * 1024;
/// The part of it that proposals leave for what must be written later.
const KEPT_BYTES: u64 = 64 * 1024;

/// A place in Raft's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) index: u64,
    pub(super) term: u64,
}

/// How far entries are in the synced part of the Kafka log, and the voters there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Applied {
    pub(super) at: Position,
    /// The end of the Kafka log after the entry at `at`.
    pub(super) log_end: Offset,
    pub(super) voters: ConfState,
}

/// Whether one of `ids` is the only voter.
pub(super) fn is_alone(voters: &ConfState, ids: &[u64]) -> bool {
    let [only] = voters.voters.as_slice() else {
        return false;
    };
    ids.contains(only) && voters.voters_outgoing.is_empty()
}

/// The newest snapshot, which Raft offers to followers that need entries that are no longer there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SnapshotState {
    pub(super) at: Position,
    pub(super) name: SnapshotName,
    pub(super) voters: ConfState,
}

/// The content of the file that is no entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Head {
    /// The entry before the first one that is there.
    pub(super) before: Position,
    pub(super) hard_state: HardState,
    pub(super) applied: Applied,
    pub(super) snapshot: Option<SnapshotState>,
    /// The newest epoch that was known when a log of Apache Kafka was taken over; 0 if the log began with Ottla. See
    /// `node/origin.rs`.
    pub(super) origin: u64,
}

/// Makes the file of a node that knows `head` and has `entries`, in place of one that is there. Returns its size.
pub(super) fn write_file<F: Files>(
    files: &F,
    directory: &Path,
    head: &Head,
    entries: &[Entry],
) -> Result<u64, FileError> {
    let mut frame = Frame::at(0);
    frame.start(head.before, head.snapshot.as_ref());
    frame.origin(head.origin);
    frame.state(&head.hard_state, Some(&head.applied));
    for entry in entries {
        frame.entry(entry);
    }
    let bytes = frame.finish();
    files::replace_durably(files, &directory.join(FILE), &bytes)?;
    Ok(bytes.len() as u64)
}

/// Where an entry is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    term: u64,
    position: u64,
    length: u32,
}

/// Raft's log on a disk. Invariants:
///
/// - A frame is written only after all frames before it are synced, so a crash can tear only the last one.
/// - A frame that was synced is never cut off: the term, the vote and the entries that a peer was told of stay.
/// - Indexes of entries are contiguous, and their terms never fall. An entry at an index that is there replaces it and all
///   after it; one that is applied is never replaced.
/// - `before.index <= applied.at.index <= last index`, and there is no entry at or below `before`.
/// - Entries after the applied one are in memory, so that the library never waits for, or fails by, a read of them.
#[derive(Debug)]
pub(super) struct RaftLog<F: Files> {
    files: F,
    path: PathBuf,
    file: F::File,
    /// The end of the last frame.
    size: u64,
    reserved_to: u64,
    head: Head,
    /// The first is that of the entry after `head.before`.
    slots: VecDeque<Slot>,
    /// The last entries of the log.
    cached: VecDeque<Entry>,
    cached_bytes: usize,
    /// The commit index in the file, which may not be synced.
    written_commit: u64,
    failed: bool,
    /// The first failed read. The library is told that the entries are not available.
    failed_read: RefCell<Option<FileError>>,
}

impl<F: Files> RaftLog<F> {
    /// Makes the file of a node that knows `head` and has no entries.
    pub(super) fn create(files: F, directory: &Path, head: &Head) -> Result<Self, FileError> {
        let path = directory.join(FILE);
        let size = write_file(&files, directory, head, &[])?;
        let file = files.open(&path, Open::Write)?;
        Ok(Self {
            files,
            path,
            file,
            size,
            reserved_to: 0,
            head: head.clone(),
            slots: VecDeque::new(),
            cached: VecDeque::new(),
            cached_bytes: 0,
            written_commit: head.hard_state.commit,
            failed: false,
            failed_read: RefCell::new(None),
        })
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// The first failed read since the last call.
    pub(super) fn take_failed_read(&mut self) -> Option<FileError> {
        self.failed_read.get_mut().take()
    }

    /// The entries after the one at `index`, which is applied or later.
    pub(super) fn after(&self, index: u64) -> Vec<Entry> {
        let entries = self.cached.iter().filter(|entry| entry.index > index);
        entries.cloned().collect()
    }

    pub(super) fn last(&self) -> Position {
        let index = self.head.before.index + self.slots.len() as u64;
        let term = self
            .slots
            .back()
            .map_or(self.head.before.term, |last| last.term);
        Position { index, term }
    }

    /// Takes over a commit index without writing it: it is written with the next frame. After a crash Raft finds it again.
    pub(super) fn note_commit(&mut self, commit: u64) {
        self.head.hard_state.commit = commit;
    }

    /// Writes the commit index where the next frame will be, unsynced: a process that is killed knows it again.
    pub(super) fn write_commit(&mut self) -> Result<(), FileError> {
        let commit = self.head.hard_state.commit;
        if commit <= self.written_commit || self.failed {
            return Ok(());
        }
        let mut frame = Frame::at(self.size);
        frame.state(&self.head.hard_state, None);
        if let Err(error) = self
            .file
            .write_at(&[IoSlice::new(&frame.finish())], self.size)
        {
            let is_undone = error.is_full() && self.file.truncate(self.size).is_ok();
            self.failed = !is_undone;
            return if is_undone { Ok(()) } else { Err(error) };
        }
        self.written_commit = commit;
        Ok(())
    }

    /// Appends entries and the state of the node durably. The first entry replaces what is at its index and after it.
    ///
    /// On a full disk nothing has changed, and the call may be repeated.
    pub(super) fn persist(
        &mut self,
        hard_state: &HardState,
        entries: &[Entry],
    ) -> Result<(), FileError> {
        if let (Some(first), last) = (entries.first(), self.last().index) {
            assert!(
                first.index <= last + 1,
                "a hole before entry {}",
                first.index
            );
            assert!(
                first.index > self.head.applied.at.index,
                "entry {} is applied, and must stay",
                first.index
            );
        }
        let mut frame = Frame::at(self.size);
        let written = if is_planted(Bug::VoteNotPersisted) {
            &self.head.hard_state
        } else {
            hard_state
        };
        frame.state(written, None);
        let slots: Vec<Slot> = entries.iter().map(|entry| frame.entry(entry)).collect();
        self.append(&frame.finish())?;
        self.head.hard_state = hard_state.clone();
        for (entry, slot) in entries.iter().zip(slots) {
            self.push(entry.clone(), slot);
        }
        Ok(())
    }

    /// Whether no entry is of Ottla: at each index is what Apache Kafka had at the offset before it.
    pub(super) fn is_as_taken_over(&self) -> bool {
        self.last().term <= self.head.origin
    }

    /// Takes another origin durably. All entries must be as they were taken over.
    pub(super) fn set_origin(&mut self, origin: u64) -> Result<(), FileError> {
        assert!(self.is_as_taken_over(), "its indexes are its own");
        let mut frame = Frame::at(self.size);
        frame.state(&self.head.hard_state, None);
        frame.origin(origin);
        self.append(&frame.finish())?;
        self.head.origin = origin;
        Ok(())
    }

    /// Notes durably that the Kafka log is synced up to `applied`.
    pub(super) fn checkpoint(&mut self, applied: Applied) -> Result<(), FileError> {
        assert!(
            applied.at.index >= self.head.applied.at.index,
            "applied never goes back"
        );
        let mut frame = Frame::at(self.size);
        frame.state(&self.head.hard_state, Some(&applied));
        self.append(&frame.finish())?;
        self.head.applied = applied;
        self.trim_cache();
        Ok(())
    }

    /// Replaces the file by one that begins near `snapshot`, without the entries that it covers.
    ///
    /// `snapshot` is at or before the applied entry. Up to `keep_bytes` of the entries that it covers stay. If it fails, the
    /// old file goes on.
    pub(super) fn compact(
        &mut self,
        snapshot: SnapshotState,
        keep_bytes: u64,
    ) -> Result<(), FileError> {
        assert!(
            snapshot.at.index <= self.head.applied.at.index,
            "not applied"
        );
        assert!(
            snapshot.at.index >= self.head.before.index,
            "an older snapshot"
        );
        let mut keep = snapshot.at.index;
        let mut kept = 0;
        while keep > self.head.before.index {
            kept += self.slot(keep).map_or(0, |slot| u64::from(slot.length));
            if kept > keep_bytes {
                break;
            }
            keep -= 1;
        }
        let term = self.term_at(keep).expect("the entry is there");
        let before = Position { index: keep, term };
        let entries = self.read(keep + 1, self.last().index + 1, u64::MAX)?;
        let mut frame = Frame::at(0);
        frame.start(before, Some(&snapshot));
        frame.origin(self.head.origin);
        frame.state(&self.head.hard_state, Some(&self.head.applied));
        let slots: VecDeque<Slot> = entries.iter().map(|entry| frame.entry(entry)).collect();
        self.replace(&frame.finish())?;
        self.head.before = before;
        self.head.snapshot = Some(snapshot);
        self.slots = slots;
        let first = before.index + 1;
        while self.cached.front().is_some_and(|entry| entry.index < first) {
            self.uncache_first();
        }
        Ok(())
    }

    /// Replaces the file by one that begins after `snapshot`, which a leader sent. All entries go.
    pub(super) fn install(
        &mut self,
        snapshot: SnapshotState,
        hard_state: &HardState,
    ) -> Result<(), FileError> {
        assert!(
            snapshot.at.index > self.head.applied.at.index,
            "applied never goes back"
        );
        let head = Head {
            before: snapshot.at,
            hard_state: hard_state.clone(),
            applied: Applied {
                at: snapshot.at,
                log_end: snapshot.name.id.end_offset,
                voters: snapshot.voters.clone(),
            },
            snapshot: Some(snapshot),
            origin: self.head.origin,
        };
        let mut frame = Frame::at(0);
        frame.start(head.before, head.snapshot.as_ref());
        frame.origin(head.origin);
        frame.state(&head.hard_state, Some(&head.applied));
        self.replace(&frame.finish())?;
        self.head = head;
        self.slots.clear();
        self.cached.clear();
        self.cached_bytes = 0;
        Ok(())
    }

    /// Reserves disk for a frame of `bytes`. If the disk is full and too little is reserved already, the frame must not
    /// come.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<(), FileError> {
        match self.reserve(bytes) {
            Err(full) if full.is_full() && self.size + bytes + KEPT_BYTES <= self.reserved_to => {
                Ok(())
            }
            reserved => reserved,
        }
    }

    fn append(&mut self, frame: &[u8]) -> Result<(), FileError> {
        self.check_alive()?;
        match self.reserve(frame.len() as u64) {
            // The frame may still fit into what is reserved already.
            Err(error) if !error.is_full() => return Err(error),
            _ => {}
        }
        if let Err(error) = self.file.write_at(&[IoSlice::new(frame)], self.size) {
            let is_undone = error.is_full() && self.file.truncate(self.size).is_ok();
            self.failed = !is_undone;
            return Err(error);
        }
        if !is_planted(Bug::RaftEntryNotSynced)
            && let Err(error) = self.file.sync_data()
        {
            self.failed = true;
            return Err(error);
        }
        self.size += frame.len() as u64;
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), FileError> {
        if self.size + bytes + RESERVED_BYTES / 2 <= self.reserved_to {
            return Ok(());
        }
        let reserved = self.file.reserve(self.size, bytes + RESERVED_BYTES);
        match &reserved {
            Ok(()) => self.reserved_to = self.size + bytes + RESERVED_BYTES,
            Err(error) => self.failed |= !error.is_full(),
        }
        reserved
    }

    fn replace(&mut self, content: &[u8]) -> Result<(), FileError> {
        self.check_alive()?;
        let replaced = files::replace_durably(&self.files, &self.path, content)
            .and_then(|()| self.files.open(&self.path, Open::Write));
        match replaced {
            Ok(file) => {
                self.file = file;
                self.size = content.len() as u64;
                self.reserved_to = 0;
                Ok(())
            }
            // Only the temporary file can be short of space: the old file is as it was.
            Err(error) if error.is_full() => Err(error),
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    fn check_alive(&self) -> Result<(), FileError> {
        if self.failed {
            let source = std::io::Error::other("an earlier write failed");
            return Err(FileError::new(Operation::Write, &self.path, source));
        }
        Ok(())
    }

    /// Adds an entry that is on the disk, in place of the entries from its index on.
    fn push(&mut self, entry: Entry, slot: Slot) {
        let at = usize::try_from(entry.index - self.head.before.index - 1).unwrap_or(usize::MAX);
        self.slots.truncate(at);
        while self
            .cached
            .back()
            .is_some_and(|last| last.index >= entry.index)
        {
            let last = self.cached.pop_back().expect("there is one");
            self.cached_bytes -= format::entry_size(&last);
        }
        let last = self
            .slots
            .back()
            .map_or(self.head.before.term, |last| last.term);
        assert!(slot.term >= last, "terms never fall");
        self.slots.push_back(slot);
        self.cached_bytes += format::entry_size(&entry);
        self.cached.push_back(entry);
        self.trim_cache();
    }

    fn trim_cache(&mut self) {
        while self.cached_bytes > CACHED_BYTES
            && let Some(first) = self.cached.front()
            && first.index <= self.head.applied.at.index
        {
            self.uncache_first();
        }
    }

    fn uncache_first(&mut self) {
        if let Some(first) = self.cached.pop_front() {
            self.cached_bytes -= format::entry_size(&first);
        }
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        let at = index.checked_sub(self.head.before.index + 1)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    /// The term of the entry at `index`, if it is there, or just before the first.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.head.before.index {
            return Some(self.head.before.term);
        }
        self.slot(index).map(|slot| slot.term)
    }

    /// The entries from `low` to before `high`, at least one, and no further one that makes them larger than `limit`.
    fn read(&self, low: u64, high: u64, limit: u64) -> Result<Vec<Entry>, FileError> {
        let first_cached = self.cached.front().map_or(u64::MAX, |entry| entry.index);
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in low..high {
            let slot = self
                .slot(index)
                .expect("the caller asks for entries that are there");
            bytes += u64::from(slot.length);
            if bytes > limit && !entries.is_empty() {
                break;
            }
            let cached = index.checked_sub(first_cached).and_then(|at| {
                let at = usize::try_from(at).ok()?;
                self.cached.get(at).cloned()
            });
            entries.push(match cached {
                Some(entry) => entry,
                None => self.read_slot(index, *slot)?,
            });
        }
        Ok(entries)
    }

    fn read_slot(&self, index: u64, slot: Slot) -> Result<Entry, FileError> {
        let mut bytes = vec![0; slot.length as usize];
        let read = self.file.read_at(&mut bytes, slot.position)?;
        bytes.truncate(read);
        let entry = format::take_entry(&mut Bytes::from(bytes));
        match entry {
            Ok(entry) if entry.index == index && entry.term == slot.term => Ok(entry),
            _ => {
                let source = std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!("entry {index} at position {} is damaged", slot.position),
                );
                Err(FileError::new(Operation::Read, &self.path, source))
            }
        }
    }
}

/// The log as the library reads it.
impl<F: Files> Storage for RaftLog<F> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let head = &self.head;
        Ok(RaftState::new(
            head.hard_state.clone(),
            head.applied.voters.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.head.before.index {
            return Err(StorageError::Compacted.into());
        }
        assert!(
            high <= self.last().index + 1,
            "entries up to {high} are not there"
        );
        let limit = max_size.into().unwrap_or(u64::MAX);
        self.read(low, high, limit).map_err(|error| {
            self.failed_read.borrow_mut().get_or_insert(error);
            StorageError::LogTemporarilyUnavailable.into()
        })
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = if index < self.head.before.index {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        };
        self.term_at(index).ok_or(missing.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.head.before.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match &self.head.snapshot {
            Some(state) if state.at.index >= request_index => Ok(state.to_snapshot()),
            _ => Err(StorageError::SnapshotTemporarilyUnavailable.into()),
        }
    }
}

impl SnapshotState {
    fn to_snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = self.at.index;
        snapshot.mut_metadata().term = self.at.term;
        snapshot.mut_metadata().set_conf_state(self.voters.clone());
        snapshot.data = self.name.to_bytes().into();
        snapshot
    }
}
