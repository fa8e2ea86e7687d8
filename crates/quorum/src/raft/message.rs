//! The encoding of Raft messages between controllers. Integers are big-endian.
//!
//! | message | bytes |
//! |---|---|
//! | version, 2 | 1 |
//! | kind, see [`KINDS`] | 1 |
//! | Raft ids of receiver and sender | 8 + 8 |
//! | term | 4 |
//! | index, and its term | 8 + 4 |
//! | commit index, and its term | 8 + 4 |
//! | 1 if it rejects, else 0; and the hint of a rejection | 1 + 8 |
//! | length of the context, and the context | 1 + n |
//! | number of entries, and the entries | 4 + n |
//! | the origin of the sender's log, see `log.rs` | 4 |
//! | only in kind 7: index and term, end offset, epoch and size of the snapshot, and its voters | 8 + 4 + 8 + 4 + 8 + n |
//!
//! A message comes from a peer, and is not trusted: nothing is allocated beyond its own bytes, and [`decode`] returns only
//! messages that a controller may send. Kinds that the library uses inside of a node are none of them.

use bytes::{Buf, BufMut, Bytes};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use raft::eraftpb::{Message, MessageType, Snapshot};

use super::format::{self, ENTRY_OVERHEAD, Malformed};
use crate::checkpoint::SnapshotId;

const VERSION: u8 = 2;
/// The most bytes of a context: the name of a transfer, or the number of a read.
const MAX_CONTEXT: usize = 32;

/// Where the Raft id of the sender begins: after version, kind and the receiver's id.
const SENDER_AT: usize = 1 + 1 + 8;

/// The kinds of messages that controllers send each other, and their numbers.
pub(super) const KINDS: [(u8, MessageType); 10] = [
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgRequestVote),
    (4, MessageType::MsgRequestVoteResponse),
    (5, MessageType::MsgRequestPreVote),
    (6, MessageType::MsgRequestPreVoteResponse),
    (7, MessageType::MsgSnapshot),
    (8, MessageType::MsgHeartbeat),
    (9, MessageType::MsgHeartbeatResponse),
    (10, MessageType::MsgTimeoutNow),
];

/// A snapshot as a Raft message names it. Its bytes are fetched like those of any file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotName {
    pub(super) id: SnapshotId,
    /// In bytes.
    pub(super) size: u64,
}

impl SnapshotName {
    pub(super) const BYTES: usize = 8 + 4 + 8;

    /// The data of a snapshot in the library's terms.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.put_i64(self.id.end_offset.0);
        bytes.put_i32(self.id.epoch.0);
        bytes.put_u64(self.size);
        bytes
    }

    pub(super) fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut from = bytes.clone();
        let name = Self {
            id: SnapshotId {
                end_offset: Offset(from.try_get_i64()?),
                epoch: LeaderEpoch(from.try_get_i32()?),
            },
            size: from.try_get_u64()?,
        };
        if name.id.end_offset.0 <= 0 || name.id.epoch.0 < 0 {
            return Err(Malformed::Impossible("snapshot"));
        }
        format::end(&from)?;
        Ok(name)
    }
}

/// The bytes of a message of the library, from a controller whose log has this origin.
pub(super) fn encode(message: &Message, origin: u64) -> Vec<u8> {
    let kind = message.get_msg_type();
    let (number, _) = KINDS
        .iter()
        .find(|(_, sent)| *sent == kind)
        .unwrap_or_else(|| panic!("{kind:?} stays inside of a node"));
    let entries: usize = message.entries.iter().map(format::entry_size).sum();
    let mut to = Vec::with_capacity(64 + message.context.len() + entries);
    to.put_u8(VERSION);
    to.put_u8(*number);
    to.put_u64(message.to);
    to.put_u64(message.from);
    format::put_term(&mut to, message.term);
    to.put_u64(message.index);
    format::put_term(&mut to, message.log_term);
    to.put_u64(message.commit);
    format::put_term(&mut to, message.commit_term);
    to.put_u8(u8::from(message.reject));
    to.put_u64(message.reject_hint);
    assert!(message.context.len() <= MAX_CONTEXT, "a context is short");
    to.put_u8(u8::try_from(message.context.len()).expect("bounded above"));
    to.put_slice(&message.context);
    to.put_u32(u32::try_from(message.entries.len()).expect("the library bounds a message"));
    for entry in &message.entries {
        format::put_entry(&mut to, entry);
    }
    format::put_term(&mut to, origin);
    if kind == MessageType::MsgSnapshot {
        let metadata = message.get_snapshot().get_metadata();
        to.put_u64(metadata.index);
        format::put_term(&mut to, metadata.term);
        to.put_slice(&message.get_snapshot().data);
        format::put_voters(&mut to, metadata.get_conf_state());
    }
    to
}

/// The Raft id of the sender, if the message has one.
pub(super) fn sender(message: &[u8]) -> Option<u64> {
    let id = message.get(SENDER_AT..)?.first_chunk()?;
    Some(u64::from_be_bytes(*id))
}

/// Reads a message that a peer sent, and the origin of its log.
pub(super) fn decode(bytes: Bytes) -> Result<(Message, u64), Malformed> {
    let mut from = bytes;
    if from.try_get_u8()? != VERSION {
        return Err(Malformed::Unknown("version"));
    }
    let number = from.try_get_u8()?;
    let (_, kind) = KINDS
        .iter()
        .find(|(known, _)| *known == number)
        .ok_or(Malformed::Unknown("kind"))?;
    let mut message = Message::default();
    message.set_msg_type(*kind);
    message.to = from.try_get_u64()?;
    message.from = from.try_get_u64()?;
    message.term = format::take_term(&mut from)?;
    message.index = from.try_get_u64()?;
    message.log_term = format::take_term(&mut from)?;
    message.commit = from.try_get_u64()?;
    message.commit_term = format::take_term(&mut from)?;
    message.reject = format::take_bool(&mut from)?;
    message.reject_hint = from.try_get_u64()?;
    let context = usize::from(from.try_get_u8()?);
    if context > MAX_CONTEXT || context > from.len() {
        return Err(Malformed::Impossible("context"));
    }
    message.context = from.split_to(context);
    take_entries(&mut from, &mut message)?;
    let origin = format::take_term(&mut from)?;
    if *kind == MessageType::MsgSnapshot {
        message.set_snapshot(take_snapshot(&mut from)?);
    }
    format::end(&from)?;
    check(&message)?;
    Ok((message, origin))
}

fn take_entries(from: &mut Bytes, message: &mut Message) -> Result<(), Malformed> {
    let count = usize::try_from(from.try_get_u32()?).unwrap_or(usize::MAX);
    if count > from.len() / ENTRY_OVERHEAD {
        return Err(Malformed::Short);
    }
    let entries: Result<Vec<_>, Malformed> = (0..count).map(|_| format::take_entry(from)).collect();
    message.set_entries(entries?.into());
    Ok(())
}

fn take_snapshot(from: &mut Bytes) -> Result<Snapshot, Malformed> {
    let mut snapshot = Snapshot::default();
    snapshot.mut_metadata().index = from.try_get_u64()?;
    snapshot.mut_metadata().term = format::take_term(from)?;
    if from.len() < SnapshotName::BYTES {
        return Err(Malformed::Short);
    }
    let name = from.split_to(SnapshotName::BYTES);
    SnapshotName::parse(&name)?;
    snapshot.data = name;
    let voters = format::take_voters(from)?;
    let is_placed = snapshot.get_metadata().index > 0 && snapshot.get_metadata().term > 0;
    if !is_placed || voters.voters.is_empty() {
        return Err(Malformed::Impossible("snapshot"));
    }
    snapshot.mut_metadata().set_conf_state(voters);
    Ok(snapshot)
}

/// What must hold for a message on its own.
fn check(message: &Message) -> Result<(), Malformed> {
    let from_other = message.from != 0 && message.to != 0 && message.from != message.to;
    if !from_other || message.term == 0 {
        return Err(Malformed::Impossible("sender or term"));
    }
    if message.index == u64::MAX || message.log_term > message.term {
        return Err(Malformed::Impossible("index"));
    }
    if message.get_snapshot().get_metadata().term > message.term {
        return Err(Malformed::Impossible("snapshot"));
    }
    if message.get_msg_type() != MessageType::MsgAppend && !message.entries.is_empty() {
        return Err(Malformed::Impossible("entries"));
    }
    // The library takes an entry that it lacks for one of term 0.
    let is_append = message.get_msg_type() == MessageType::MsgAppend;
    if is_append && (message.index == 0) != (message.log_term == 0) {
        return Err(Malformed::Impossible("index"));
    }
    let mut before = (message.index, message.log_term);
    for entry in &message.entries {
        let follows = entry.index == before.0 + 1 && entry.term >= before.1.max(1);
        if !follows || entry.term > message.term {
            return Err(Malformed::Impossible("entries"));
        }
        before = (entry.index, entry.term);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
