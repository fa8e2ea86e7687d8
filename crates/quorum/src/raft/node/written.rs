//! Finds the entries after the checkpoint that the Kafka log has already.
//!
//! They stay where they are, so that Kafka never finds less in the log than was answered, also if it takes over after a
//! start of Ottla that did not come far. Those that are known to be committed are applied; the others are ahead of the log.

use std::path::Path;

use ottla_log::files::{FileError, Files, Open};
use ottla_protocol::ids::Offset;
use raft::eraftpb::{ConfChange, Entry};

use super::{NodeError, epoch_of};
use crate::batches::{BatchReader, Next};
use crate::metadata_log::{AheadEntry, Stretch, segments_from};
use crate::raft::format;
use crate::raft::log::{Position, ReadLog};
use crate::segment;

/// How far the Kafka log has Raft's entries.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The last of them that is known to be committed.
    pub(super) at: Position,
    /// The end of the Kafka log after it.
    pub(super) log_end: Offset,
    /// The batches up to there, which may not be on the disk yet.
    pub(super) unsynced: Vec<Stretch>,
    /// The changes of voters in them.
    pub(super) changes: Vec<ConfChange>,
    /// The entries after it.
    pub(super) ahead: Vec<AheadEntry>,
    /// The index of the last entry that is there.
    pub(super) last: u64,
}

impl Written {
    /// Compares the log after the checkpoint with Raft's entries. Where no voters are known yet, a change of them must be
    /// applied: they come from a record that is before it. `ids` are those of this node.
    pub(super) fn find<F: Files>(
        files: &F,
        directory: &Path,
        read: &ReadLog<F>,
        ids: &[u64],
    ) -> Result<Self, NodeError> {
        let applied = &read.head().applied;
        let mut written = Self {
            at: applied.at,
            log_end: applied.log_end,
            last: applied.at.index,
            ..Self::default()
        };
        let knows_voters = !applied.voters.voters.is_empty();
        let committed = read.pending(ids).last().map_or(0, |entry| entry.index);
        let is_committed = |entry: &Entry| entry.index <= committed;
        let mut found = batches(files, directory, applied.log_end)?.into_iter();
        let mut log_end = applied.log_end;
        let mut is_ahead = false;
        for entry in read.after_applied() {
            let start = log_end;
            let mut stretches = Vec::new();
            if let Some(payload) = format::payload(entry)? {
                for placed in payload.place(start, epoch_of(entry.term)) {
                    match found.next() {
                        Some(there) if there.bytes == placed.bytes => stretches.push(there),
                        _ => return Ok(written),
                    }
                }
                log_end = log_end.plus(payload.records());
            }
            let change = format::change(entry)?;
            let must_be_applied = change.is_some() && !knows_voters;
            is_ahead = is_ahead || must_be_applied || !is_committed(entry);
            written.last = entry.index;
            if is_ahead {
                written
                    .ahead
                    .extend(ahead(entry.index, (start, log_end), &stretches));
                continue;
            }
            written.changes.extend(change);
            for there in stretches {
                written.add(there.stretch);
            }
            written.log_end = log_end;
            written.at = Position {
                index: entry.index,
                term: entry.term,
            };
        }
        Ok(written)
    }

    fn add(&mut self, stretch: Stretch) {
        match self.unsynced.last_mut() {
            Some(last)
                if last.path == stretch.path
                    && last.position + last.length as u64 == stretch.position =>
            {
                last.length += stretch.length;
            }
            _ => self.unsynced.push(stretch),
        }
    }
}

/// The entry at `index`, which has these batches between two offsets; `None` if it has none.
fn ahead(index: u64, (start, end): (Offset, Offset), batches: &[There]) -> Option<AheadEntry> {
    let first = batches.first()?;
    Some(AheadEntry {
        index,
        start,
        end,
        segment: first.segment,
        position: first.stretch.position,
        length: batches.iter().map(|there| there.stretch.length).sum(),
    })
}

/// A batch in the log.
pub(super) struct There {
    pub(super) bytes: Vec<u8>,
    /// The base offset of its segment.
    segment: Offset,
    stretch: Stretch,
}

/// The batches of the log from `from` on, up to the first that is not whole or not in its place.
pub(super) fn batches<F: Files>(
    files: &F,
    directory: &Path,
    from: Offset,
) -> Result<Vec<There>, FileError> {
    let mut found = Vec::new();
    let mut next = from;
    for base in segments_from(files, directory, from)? {
        let path = segment::path(directory, base);
        let file = files.open(&path, Open::Read)?;
        let mut reader = BatchReader::new(&file)?;
        loop {
            let position = reader.position();
            let Next::Batch(batch) = reader.next()? else {
                break;
            };
            if batch.header().base_offset == next.0 {
                next = batch.header().next_offset();
                let stretch = Stretch {
                    path: path.clone(),
                    position,
                    length: batch.size(),
                };
                found.push(There {
                    bytes: batch.bytes().to_vec(),
                    segment: base,
                    stretch,
                });
            }
        }
    }
    Ok(found)
}
