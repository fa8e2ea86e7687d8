//! Finds the entries after the checkpoint that the Kafka log has already.
//!
//! They are committed: only such entries get there. They stay where they are, so that Kafka never finds less in the log than
//! was answered, also if it takes over after a start of Ottla that did not come far.

use std::path::Path;

use ottla_log::files::{FileError, Files, Open};
use ottla_protocol::ids::Offset;
use raft::eraftpb::ConfChange;

use super::{NodeError, epoch_of};
use crate::batches::{BatchReader, Next};
use crate::metadata_log::{Stretch, segments_from};
use crate::raft::format;
use crate::raft::log::{Position, ReadLog};
use crate::segment;

/// How far the Kafka log has Raft's entries.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The last of them.
    pub(super) at: Position,
    /// The end of the Kafka log after it.
    pub(super) log_end: Offset,
    /// Their batches, which may not be on the disk yet.
    pub(super) unsynced: Vec<Stretch>,
    /// The changes of voters in them.
    pub(super) changes: Vec<ConfChange>,
}

impl Written {
    /// Compares the log after the checkpoint with Raft's entries. Where no voters are known yet, a change of them ends it:
    /// they come from a record that is before it.
    pub(super) fn find<F: Files>(
        files: &F,
        directory: &Path,
        read: &ReadLog<F>,
    ) -> Result<Self, NodeError> {
        let applied = &read.head().applied;
        let mut written = Self {
            at: applied.at,
            log_end: applied.log_end,
            ..Self::default()
        };
        let knows_voters = !applied.voters.voters.is_empty();
        let mut found = batches(files, directory, applied.log_end)?.into_iter();
        for entry in read.after_applied() {
            let mut log_end = written.log_end;
            let mut stretches = Vec::new();
            if let Some(payload) = format::payload(entry)? {
                for placed in payload.place(log_end, epoch_of(entry.term)) {
                    match found.next() {
                        Some((bytes, stretch)) if bytes == placed.bytes => stretches.push(stretch),
                        _ => return Ok(written),
                    }
                }
                log_end = log_end.plus(payload.records());
            }
            let change = format::change(entry)?;
            if change.is_some() && !knows_voters {
                return Ok(written);
            }
            written.changes.extend(change);
            for stretch in stretches {
                written.add(stretch);
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

/// The batches of the log from `from` on, up to the first that is not whole or not in its place.
fn batches<F: Files>(
    files: &F,
    directory: &Path,
    from: Offset,
) -> Result<Vec<(Vec<u8>, Stretch)>, FileError> {
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
                found.push((batch.bytes().to_vec(), stretch));
            }
        }
    }
    Ok(found)
}
