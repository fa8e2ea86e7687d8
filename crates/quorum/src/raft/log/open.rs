//! Reads the file `raft-log`, and opens it to go on.
//!
//! [`RaftLog::read`] only reads, so that a refused start changes nothing. A frame at the end that is not whole, or whose
//! checksum is wrong, is a write that a crash tore: nobody was told of it, and it is cut off. A bad frame with a good one
//! behind it is damage. Then this controller cannot know any more what it promised, and must not vote: it is refused.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ottla_log::files::{File, FileError, Files, Open};
use raft::eraftpb::Entry;

use super::frame::{self, HEADER, Record};
use super::{FILE, Head, Position, RaftLog, is_alone};
use crate::raft::format::{self, Malformed};

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RaftLogError {
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A frame that was synced is damaged.
    #[error(
        "{path} is damaged at position {position}, so this controller may have forgotten its vote; \
         remove it from the voters, and add it anew with an empty directory"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        position: u64,
    },
    /// A frame with the right checksum that this release does not understand.
    #[error("{path} holds at position {position} what this release does not understand: {problem}")]
    Unknown {
        /// The file.
        path: PathBuf,
        position: u64,
        problem: Malformed,
    },
}

/// The file as it was read.
#[derive(Debug)]
pub(in crate::raft) struct ReadLog<F: Files> {
    log: RaftLog<F>,
    /// The last whole frame.
    last_frame: std::ops::Range<u64>,
    length: u64,
}

impl<F: Files> RaftLog<F> {
    /// Reads the file in `directory`; `None` if there is none. Writes nothing.
    pub(in crate::raft) fn read_file(
        files: F,
        directory: &Path,
    ) -> Result<Option<ReadLog<F>>, RaftLogError> {
        let path = directory.join(FILE);
        let file = match files.open(&path, Open::Read) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let length = file.length()?;
        let mut read = ReadLog {
            log: RaftLog {
                files,
                path,
                file,
                size: 0,
                reserved_to: 0,
                head: Head::default(),
                slots: VecDeque::new(),
                cached: VecDeque::new(),
                cached_bytes: 0,
                written_commit: 0,
                failed: false,
                failed_read: std::cell::RefCell::new(None),
            },
            last_frame: 0..0,
            length,
        };
        while let Some(body) = read_frame(&read.log.file, read.log.size, length)? {
            read.replay(body)?;
        }
        if read.log.size == 0 || has_frame_behind(&read.log.file, read.log.size, length)? {
            return Err(RaftLogError::Damaged {
                path: read.log.path,
                position: read.log.size,
            });
        }
        Ok(Some(read))
    }
}

impl<F: Files> ReadLog<F> {
    pub(in crate::raft) fn head(&self) -> &Head {
        self.log.head()
    }

    /// The entries after the applied one that are known to be committed. If this node, one of `ids`, is the only
    /// voter, it has committed all up to the one that adds another.
    pub(in crate::raft) fn pending(&self, ids: &[u64]) -> impl Iterator<Item = &Entry> {
        let head = self.head();
        let mut is_alone = is_alone(&head.applied.voters, ids);
        let commit = head.hard_state.commit;
        self.after_applied().filter(move |entry| {
            let is_committed = is_alone || entry.index <= commit;
            is_alone &= !format::adds_voter(entry);
            is_committed
        })
    }

    /// Those that are as Apache Kafka had them, committed or not.
    pub(in crate::raft) fn taken_over(&self) -> impl Iterator<Item = &Entry> {
        let origin = self.head().origin;
        self.after_applied()
            .filter(move |entry| entry.term <= origin)
    }

    /// The entries after the applied one.
    pub(in crate::raft) fn after_applied(&self) -> impl Iterator<Item = &Entry> {
        let applied = self.head().applied.at.index;
        let entries = self.log.cached.iter();
        entries.filter(move |entry| entry.index > applied)
    }

    /// The entries up to `index` are committed.
    pub(in crate::raft) fn raise_commit(&mut self, index: u64) {
        let state = &mut self.log.head.hard_state;
        state.commit = state.commit.max(index);
    }

    /// Raises the term, and the vote in it, to those of `quorum-state`, which is written first.
    pub(in crate::raft) fn raise_term(&mut self, (term, vote): (u64, u64)) {
        let state = &mut self.log.head.hard_state;
        if state.term < term {
            (state.term, state.vote) = (term, vote);
        }
    }

    pub(in crate::raft) fn last(&self) -> Position {
        self.log.last()
    }

    /// The last entry; `None` if there is none, or it is not in memory.
    pub(in crate::raft) fn last_entry(&self) -> Option<&Entry> {
        self.log.cached.back()
    }

    /// Opens the file to go on. Cuts off a torn frame, and writes the last whole one again: if its sync failed, the system
    /// may count it as written although it is not on the disk (assumption 2 of `docs/formats.md`).
    pub(in crate::raft) fn open(self) -> Result<RaftLog<F>, FileError> {
        let Self {
            mut log,
            last_frame,
            length,
        } = self;
        log.file = log.files.open(&log.path, Open::Write)?;
        if length > log.size {
            log.file.truncate(log.size)?;
        }
        let size = usize::try_from(last_frame.end - last_frame.start).unwrap_or(usize::MAX);
        let mut frame = vec![0; size];
        log.file.read_at(&mut frame, last_frame.start)?;
        log.file
            .write_at(&[IoSlice::new(&frame)], last_frame.start)?;
        log.file.sync_data()?;
        Ok(log)
    }

    fn replay(&mut self, body: Vec<u8>) -> Result<(), RaftLogError> {
        let position = self.log.size;
        let end = position + (HEADER + body.len()) as u64;
        let records = frame::records(position, Bytes::from(body));
        let taken = records.and_then(|records| {
            let starts = matches!(records.first(), Some(Record::Start(_)));
            if starts != (position == 0) {
                return Err(Malformed::Impossible("start"));
            }
            records.into_iter().try_for_each(|record| self.take(record))
        });
        taken.map_err(|problem| RaftLogError::Unknown {
            path: self.log.path.clone(),
            position,
            problem,
        })?;
        self.last_frame = position..end;
        self.log.size = end;
        Ok(())
    }

    fn take(&mut self, record: Record) -> Result<(), Malformed> {
        let log = &mut self.log;
        match record {
            Record::Start(before) => {
                log.head.before = before;
                log.head.applied.at = before;
            }
            Record::State(state) => log.head.hard_state = state,
            Record::Origin(origin) => log.head.origin = origin,
            Record::Snapshot(snapshot) => log.head.snapshot = Some(snapshot),
            Record::Applied(applied) => {
                let is_there = log.term_at(applied.at.index) == Some(applied.at.term)
                    // The start of the file, whose entries follow.
                    || log.size == 0;
                if !is_there || applied.at.index < log.head.before.index {
                    return Err(Malformed::Impossible("applied entry"));
                }
                log.head.applied = applied;
                log.trim_cache();
            }
            Record::Entry(entry, slot) => {
                let last = log.last();
                let is_place = entry.index <= last.index + 1
                    && log
                        .term_at(entry.index.saturating_sub(1))
                        .is_some_and(|term| term <= entry.term);
                let is_applied = log.size > 0 && entry.index <= log.head.applied.at.index;
                if !is_place || is_applied {
                    return Err(Malformed::Impossible("place of an entry"));
                }
                log.push(entry, slot);
            }
        }
        Ok(())
    }
}

/// The body of the frame at `position`; `None` if there is no whole frame with the right checksum.
fn read_frame<H: File>(file: &H, position: u64, length: u64) -> Result<Option<Vec<u8>>, FileError> {
    let mut header = [0; HEADER];
    if file.read_at(&mut header, position)? < HEADER {
        return Ok(None);
    }
    let Some((size, crc)) = frame::parse_header(&header) else {
        return Ok(None);
    };
    let from = position + HEADER as u64;
    if from + u64::from(size) > length {
        return Ok(None);
    }
    let mut body = vec![0; size as usize];
    let read = file.read_at(&mut body, from)?;
    let is_whole = read == body.len() && frame::checksum(position, &body) == crc;
    Ok(is_whole.then_some(body))
}

/// Whether there is a whole frame anywhere after `position`.
fn has_frame_behind<H: File>(file: &H, position: u64, length: u64) -> Result<bool, FileError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut from = position + 1;
    while from + (HEADER as u64) < length {
        let read = file.read_at(&mut buffer, from)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        for (at, header) in bytes.windows(HEADER).enumerate() {
            let is_header = frame::parse_header(header).is_some();
            if is_header && read_frame(file, from + at as u64, length)?.is_some() {
                return Ok(true);
            }
        }
        from += (bytes.len() - HEADER + 1) as u64;
    }
    Ok(false)
}
