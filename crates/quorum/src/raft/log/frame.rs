//! The frames of the file `raft-log`. Integers are big-endian.
//!
//! | frame | bytes |
//! |---|---|
//! | magic, `OtRL` | 4 |
//! | length of the body | 4 |
//! | CRC-32C of the frame's position in the file (8 bytes) and the body | 4 |
//! | body: records, one after the other | n |
//!
//! | record | bytes |
//! |---|---|
//! | 1, start of the file, only and always its first record: version (1); index and term of the entry before the first | 1 + 1 + 8 + 4 |
//! | 2, state: term, Raft id voted for (0: none), commit index | 1 + 4 + 8 + 8 |
//! | 3, entry, see `format.rs` | 1 + n |
//! | 4, applied: index and term of the entry, end offset of the Kafka log, voters | 1 + 8 + 4 + 8 + n |
//! | 5, snapshot: index and term, its end offset, epoch and size, voters | 1 + 8 + 4 + 8 + 4 + 8 + n |
//! | 6, origin: the newest epoch that was known when a log of Apache Kafka was taken over (absent: 0) | 1 + 4 |

use bytes::{Buf, BufMut, Bytes};
use crc_fast::{CrcAlgorithm, Digest};
use ottla_protocol::ids::Offset;
use raft::eraftpb::{Entry, HardState};

use super::super::format::{self, Malformed};
use super::super::message::SnapshotName;
use super::{Applied, Position, Slot, SnapshotState};

const MAGIC: [u8; 4] = *b"OtRL";
const VERSION: u8 = 1;
/// Bytes before the body.
pub(super) const HEADER: usize = 12;

/// A frame that is being built.
pub(super) struct Frame {
    position: u64,
    bytes: Vec<u8>,
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Record {
    Start(Position),
    State(HardState),
    Entry(Entry, Slot),
    Applied(Applied),
    Snapshot(SnapshotState),
    Origin(u64),
}

impl Frame {
    /// A frame that will be at `position` in the file.
    pub(super) fn at(position: u64) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.resize(HEADER, 0);
        Self { position, bytes }
    }

    pub(super) fn start(&mut self, before: Position, snapshot: Option<&SnapshotState>) {
        self.bytes.put_u8(1);
        self.bytes.put_u8(VERSION);
        put_position(&mut self.bytes, before);
        if let Some(snapshot) = snapshot {
            self.bytes.put_u8(5);
            put_position(&mut self.bytes, snapshot.at);
            self.bytes.put_slice(&snapshot.name.to_bytes());
            format::put_voters(&mut self.bytes, &snapshot.voters);
        }
    }

    pub(super) fn origin(&mut self, origin: u64) {
        if origin > 0 {
            self.bytes.put_u8(6);
            format::put_term(&mut self.bytes, origin);
        }
    }

    pub(super) fn state(&mut self, hard_state: &HardState, applied: Option<&Applied>) {
        self.bytes.put_u8(2);
        format::put_term(&mut self.bytes, hard_state.term);
        self.bytes.put_u64(hard_state.vote);
        self.bytes.put_u64(hard_state.commit);
        if let Some(applied) = applied {
            self.bytes.put_u8(4);
            put_position(&mut self.bytes, applied.at);
            self.bytes.put_i64(applied.log_end.0);
            format::put_voters(&mut self.bytes, &applied.voters);
        }
    }

    /// Adds an entry; returns its place in the file.
    pub(super) fn entry(&mut self, entry: &Entry) -> Slot {
        self.bytes.put_u8(3);
        let position = self.position + self.bytes.len() as u64;
        format::put_entry(&mut self.bytes, entry);
        Slot {
            term: entry.term,
            position,
            length: u32::try_from(format::entry_size(entry)).expect("entries are bounded"),
        }
    }

    /// The bytes of the frame.
    pub(super) fn finish(self) -> Vec<u8> {
        let Self {
            position,
            mut bytes,
        } = self;
        let (header, body) = bytes.split_at_mut(HEADER);
        let length = u32::try_from(body.len()).expect("frames are bounded");
        let crc = checksum(position, body);
        let mut to = header.get_mut(MAGIC.len()..).unwrap_or_default();
        to.put_u32(length);
        to.put_u32(crc);
        bytes
    }
}

/// The length of the body of the frame that begins with `header`, and its checksum; `None` if no frame begins so.
pub(super) fn parse_header(header: &[u8]) -> Option<(u32, u32)> {
    let mut rest = header.strip_prefix(&MAGIC)?;
    let length = rest.try_get_u32().ok()?;
    let crc = rest.try_get_u32().ok()?;
    (length > 0).then_some((length, crc))
}

pub(super) fn checksum(position: u64, body: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&position.to_be_bytes());
    digest.update(body);
    u32::try_from(digest.finalize()).expect("a CRC-32C has 32 bits")
}

/// The records of a frame at `position` whose checksum is right.
pub(super) fn records(position: u64, body: Bytes) -> Result<Vec<Record>, Malformed> {
    let end = position + (HEADER + body.len()) as u64;
    let mut rest = body;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let record = match rest.try_get_u8()? {
            1 => {
                if rest.try_get_u8()? != VERSION {
                    return Err(Malformed::Unknown("version"));
                }
                Record::Start(take_position(&mut rest)?)
            }
            2 => Record::State(HardState {
                term: format::take_term(&mut rest)?,
                vote: rest.try_get_u64()?,
                commit: rest.try_get_u64()?,
                ..HardState::default()
            }),
            3 => {
                let position = end - rest.len() as u64;
                let entry = format::take_entry(&mut rest)?;
                let length = u32::try_from(format::entry_size(&entry)).unwrap_or(u32::MAX);
                let term = entry.term;
                Record::Entry(
                    entry,
                    Slot {
                        term,
                        position,
                        length,
                    },
                )
            }
            4 => Record::Applied(Applied {
                at: take_position(&mut rest)?,
                log_end: Offset(rest.try_get_i64()?),
                voters: format::take_voters(&mut rest)?,
            }),
            5 => Record::Snapshot(take_snapshot(&mut rest)?),
            6 => Record::Origin(format::take_term(&mut rest)?),
            _ => return Err(Malformed::Unknown("record")),
        };
        records.push(record);
    }
    Ok(records)
}

fn take_snapshot(from: &mut Bytes) -> Result<SnapshotState, Malformed> {
    let at = take_position(from)?;
    if from.len() < SnapshotName::BYTES {
        return Err(Malformed::Short);
    }
    Ok(SnapshotState {
        at,
        name: SnapshotName::parse(&from.split_to(SnapshotName::BYTES))?,
        voters: format::take_voters(from)?,
    })
}

fn put_position(to: &mut Vec<u8>, position: Position) {
    to.put_u64(position.index);
    format::put_term(to, position.term);
}

fn take_position(from: &mut Bytes) -> Result<Position, Malformed> {
    Ok(Position {
        index: from.try_get_u64()?,
        term: format::take_term(from)?,
    })
}
