//! The bytes of entries and voters, the same in the file `raft-log` and in messages. Integers are big-endian.
//!
//! | entry | bytes |
//! |---|---|
//! | kind: 0 a payload, 1 a change of one voter | 1 |
//! | term | 4 |
//! | index | 8 |
//! | length of the data, and the data | 4 + n |
//! | length of the context, and the context | 4 + n |
//!
//! | voters | bytes |
//! |---|---|
//! | four lists (voters, learners, outgoing voters, next learners): number of ids, and the ids | 4 x (1 + 8n) |
//! | 1 if the outgoing voters leave by themselves, else 0 | 1 |
//!
//! Terms are Kafka's leader epochs, so they fit 31 bits. No count or length is believed beyond the bytes that are there.

use bytes::{Buf, BufMut, Bytes};
use ottla_protocol::planted::{Bug, is_planted};
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType};

use super::payload::Payload;

/// The most voters and learners in one list.
const MAX_VOTERS: usize = 64;
/// The fewest bytes of an entry.
pub(super) const ENTRY_OVERHEAD: usize = 1 + 4 + 8 + 4 + 4;

/// Why bytes are no valid message, frame or entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end too early.
    #[error("it ends too early")]
    Short,
    /// Bytes are left after the end.
    #[error("bytes are left after its end")]
    Trailing,
    /// A kind, version or flag that this release does not know.
    #[error("it has an unknown {0}")]
    Unknown(&'static str),
    /// A value that no controller sends.
    #[error("its {0} is not possible")]
    Impossible(&'static str),
}

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

/// Fails unless all bytes were read.
pub(super) fn end(from: &Bytes) -> Result<(), Malformed> {
    if from.is_empty() {
        Ok(())
    } else {
        Err(Malformed::Trailing)
    }
}

pub(super) fn put_term(to: &mut Vec<u8>, term: u64) {
    let epoch = i32::try_from(term).expect("a term is an epoch");
    to.put_i32(epoch);
}

pub(super) fn take_term(from: &mut Bytes) -> Result<u64, Malformed> {
    u64::try_from(from.try_get_i32()?).map_err(|_| Malformed::Impossible("term"))
}

pub(super) fn take_bool(from: &mut Bytes) -> Result<bool, Malformed> {
    match from.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::Unknown("flag")),
    }
}

/// Bytes behind their length; they stay where they are.
pub(super) fn take_bytes(from: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = usize::try_from(from.try_get_u32()?).unwrap_or(usize::MAX);
    if length > from.len() {
        return Err(Malformed::Short);
    }
    Ok(from.split_to(length))
}

pub(super) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.put_u32(u32::try_from(bytes.len()).expect("the caller bounds its bytes"));
    to.put_slice(bytes);
}

pub(super) fn entry_size(entry: &Entry) -> usize {
    ENTRY_OVERHEAD + entry.data.len() + entry.context.len()
}

pub(super) fn put_entry(to: &mut Vec<u8>, entry: &Entry) {
    to.put_u8(match entry.get_entry_type() {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => unreachable!("voters change one at a time"),
    });
    put_term(to, entry.term);
    to.put_u64(entry.index);
    put_bytes(to, &entry.data);
    put_bytes(to, &entry.context);
}

/// Reads an entry, and checks what is in it.
pub(super) fn take_entry(from: &mut Bytes) -> Result<Entry, Malformed> {
    let mut entry = Entry::default();
    let kind = match from.try_get_u8()? {
        0 => EntryType::EntryNormal,
        1 => EntryType::EntryConfChange,
        _ => return Err(Malformed::Unknown("kind of entry")),
    };
    entry.set_entry_type(kind);
    entry.term = take_term(from)?;
    entry.index = from.try_get_u64()?;
    if entry.term == 0 || entry.index == 0 || entry.index == u64::MAX {
        return Err(Malformed::Impossible("place of an entry"));
    }
    entry.data = take_bytes(from)?;
    entry.context = take_bytes(from)?;
    match kind {
        EntryType::EntryNormal if !entry.context.is_empty() => {
            return Err(Malformed::Impossible("context"));
        }
        EntryType::EntryNormal if entry.data.is_empty() => {}
        EntryType::EntryNormal => drop(Payload::parse(&entry.data)?),
        _ => {
            conf_change(&entry.data)?;
            if !entry.context.is_empty() {
                Payload::parse(&entry.context)?;
            }
        }
    }
    Ok(entry)
}

/// The payload of an entry, unless it has none or was decided in another term than its own, on other metadata.
pub(super) fn payload(entry: &Entry) -> Result<Option<Payload>, Malformed> {
    let bytes = match entry.get_entry_type() {
        EntryType::EntryNormal => &entry.data,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => &entry.context,
    };
    if bytes.is_empty() {
        // The library's own entry at the start of a term.
        return Ok(None);
    }
    let payload = Payload::parse(bytes)?;
    let is_of_term = i64::from(payload.epoch.0).cast_unsigned() == entry.term;
    Ok((is_of_term || is_planted(Bug::TermFenceSkipped)).then_some(payload))
}

/// The change of a voter by an entry. One whose payload does not count does not count either: Raft and the records of the
/// Kafka log have the same voters, on all controllers.
pub(super) fn change(entry: &Entry) -> Result<Option<ConfChange>, Malformed> {
    let is_change = entry.get_entry_type() != EntryType::EntryNormal;
    if !is_change || (!entry.context.is_empty() && payload(entry)?.is_none()) {
        return Ok(None);
    }
    conf_change(&entry.data).map(Some)
}

pub(super) fn adds_voter(entry: &Entry) -> bool {
    let change = change(entry).ok().flatten();
    change.is_some_and(|change| change.get_change_type() == ConfChangeType::AddNode)
}

/// The change of a voter in an entry. Only the encoding that the library writes for such a change is accepted: field 2, the
/// type, unless it is 0, and field 3, the Raft id.
pub(super) fn conf_change(data: &[u8]) -> Result<ConfChange, Malformed> {
    let impossible = Malformed::Impossible("change of voters");
    let (kind, rest) = match data {
        [0x10, 1, rest @ ..] => (ConfChangeType::RemoveNode, rest),
        [0x10, 2, rest @ ..] => (ConfChangeType::AddLearnerNode, rest),
        rest => (ConfChangeType::AddNode, rest),
    };
    let [0x18, rest @ ..] = rest else {
        return Err(impossible);
    };
    let mut change = ConfChange::default();
    change.set_change_type(kind);
    change.node_id = varint(rest).ok_or(impossible)?;
    Ok(change)
}

/// A varint that fills `bytes`.
fn varint(bytes: &[u8]) -> Option<u64> {
    let (last, before) = bytes.split_last()?;
    if before.len() > 9 || *last == 0 || *last >= 0x80 || before.iter().any(|byte| *byte < 0x80) {
        return None;
    }
    if before.len() == 9 && *last > 1 {
        return None;
    }
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| (value << 7) | u64::from(*byte & 0x7f)),
    )
}

pub(super) fn put_voters(to: &mut Vec<u8>, voters: &ConfState) {
    for list in [
        &voters.voters,
        &voters.learners,
        &voters.voters_outgoing,
        &voters.learners_next,
    ] {
        assert!(
            list.len() <= MAX_VOTERS,
            "the voters are bounded where they change"
        );
        to.put_u8(u8::try_from(list.len()).expect("bounded above"));
        for id in list {
            to.put_u64(*id);
        }
    }
    to.put_u8(u8::from(voters.auto_leave));
}

pub(super) fn take_voters(from: &mut Bytes) -> Result<ConfState, Malformed> {
    let mut list = || {
        let count = usize::from(from.try_get_u8()?);
        if count > MAX_VOTERS {
            return Err(Malformed::Impossible("number of voters"));
        }
        let mut ids = Vec::new();
        for _ in 0..count {
            let id = from.try_get_u64()?;
            if id == 0 || ids.contains(&id) {
                return Err(Malformed::Impossible("voter"));
            }
            ids.push(id);
        }
        Ok(ids)
    };
    Ok(ConfState {
        voters: list()?,
        learners: list()?,
        voters_outgoing: list()?,
        learners_next: list()?,
        auto_leave: take_bool(from)?,
        ..ConfState::default()
    })
}

#[cfg(test)]
mod tests {
    use super::change;
    use crate::raft::fixture::{addition, entry};
    use bytes::Bytes;

    #[test]
    fn a_change_of_voters_counts_as_its_payload_does() {
        let counted = change(&addition(5, 2)).unwrap().unwrap();
        assert_eq!(counted.node_id, 7);
        assert_eq!(change(&addition(5, 1)).unwrap(), None, "another term");
        assert_eq!(change(&entry(5, 2)).unwrap(), None);
        let mut of_observer = addition(5, 2);
        of_observer.context = Bytes::new();
        assert!(change(&of_observer).unwrap().is_some());
    }
}
