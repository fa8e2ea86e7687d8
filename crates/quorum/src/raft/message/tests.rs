//! Tests of the messages: each comes back as it was, and nothing that a peer can send does harm.

use super::{KINDS, SnapshotName, decode, encode};
use crate::checkpoint::SnapshotId;
use crate::raft::fixture;
use crate::raft::format::{Malformed, conf_change};
use bytes::Bytes;
use ottla_log::files::simulated::Random;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use proptest::prelude::*;
use raft::eraftpb::{ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode};

/// A message with entries from `index` + 1 on, if its kind has entries.
fn message(kind: MessageType, numbers: [u64; 4], entries: u64) -> Message {
    let [index, commit, hint, term] = numbers;
    let mut message = Message::default();
    message.set_msg_type(kind);
    (message.from, message.to) = (u64::MAX, 7);
    (message.index, message.commit, message.reject_hint) = (index, commit, hint);
    (message.term, message.log_term, message.commit_term) = (term, term / 2, term / 3);
    message.reject = hint % 2 == 1;
    message.context = Bytes::from_static(b"CampaignTransfer");
    match kind {
        MessageType::MsgAppend => {
            let all = (1..=entries).map(|more| match more % 3 {
                0 => voter_change(index + more, term),
                1 => fixture::entry(index + more, term),
                _ => Entry {
                    index: index + more,
                    term,
                    ..Entry::default()
                },
            });
            message.set_entries(all.collect::<Vec<_>>().into());
        }
        MessageType::MsgSnapshot => {
            let snapshot = message.mut_snapshot();
            snapshot.mut_metadata().index = index + 1;
            snapshot.mut_metadata().term = term;
            snapshot
                .mut_metadata()
                .set_conf_state(fixture::voters(&[1, 2, u64::MAX]));
            let id = SnapshotId {
                end_offset: Offset(9),
                epoch: LeaderEpoch(2),
            };
            snapshot.data = SnapshotName { id, size: 77 }.to_bytes().into();
        }
        _ => {}
    }
    message
}

fn voter_change(index: u64, term: u64) -> Entry {
    let mut entry = fixture::entry(index, term);
    entry.set_entry_type(EntryType::EntryConfChange);
    entry.context = std::mem::replace(&mut entry.data, Bytes::from_static(&[0x10, 2, 0x18, 5]));
    entry
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was(
        kind in 0..KINDS.len(),
        numbers in any::<[u64; 4]>(),
        entries in 0..5_u64,
    ) {
        let [index, commit, hint, term] = numbers;
        let possible = [1 + index / 2, commit, hint, 2 + term % 1_000_000];
        let message = message(KINDS[kind].1, possible, entries);
        let bytes = encode(&message, 7);
        prop_assert_eq!(decode(bytes.into()), Ok((message, 7)));
    }

    #[test]
    fn hostile_bytes_are_refused_or_are_a_message(
        kind in 0..KINDS.len(),
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let mut bytes = encode(&message(KINDS[kind].1, [5, 4, 3, 2], 3), 7);
        for _ in 0..=random.below(3) {
            let at = random.index(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, 0xff),
                _ => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            }
            bytes.push(0);
        }
        bytes.pop();
        if let Ok((message, origin)) = decode(bytes.clone().into()) {
            prop_assert_eq!(encode(&message, origin), bytes, "there is one encoding of each message");
        }
    }
}

#[test]
fn a_message_cut_short_or_made_longer_is_refused() {
    for (_, kind) in KINDS {
        let bytes = encode(&message(kind, [5, 4, 3, 2], 3), 7);
        for length in 0..bytes.len() {
            assert!(
                decode(bytes[..length].to_vec().into()).is_err(),
                "{kind:?} cut to {length}"
            );
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode(longer.into()), Err(Malformed::Trailing));
    }
}

#[test]
fn a_huge_count_is_refused_before_anything_is_allocated() {
    let mut bytes = encode(&message(MessageType::MsgAppend, [5, 4, 3, 2], 0), 7);
    let count = bytes.len() - 8;
    bytes[count..count + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(decode(bytes.into()), Err(Malformed::Short));
}

#[test]
fn what_no_controller_sends_is_refused() {
    let refused = |change: fn(&mut Message)| {
        let mut message = message(MessageType::MsgAppend, [5, 4, 3, 2], 3);
        change(&mut message);
        assert!(decode(encode(&message, 7).into()).is_err(), "{message:?}");
    };
    refused(|message| message.term = 0);
    refused(|message| message.from = message.to);
    refused(|message| message.log_term = message.term + 1);
    refused(|message| message.mut_entries()[1].index += 1);
    refused(|message| message.mut_entries()[0].term = 3);
    refused(|message| message.mut_entries()[0].data = Bytes::from_static(b"\x01\0\0\0\x01"));
    refused(|message| message.mut_entries()[2].data = Bytes::from_static(&[0x18, 0x85, 0]));
    refused(|message| message.set_msg_type(MessageType::MsgHeartbeat));
    // The library would take the place before the entries for one that it lacks.
    refused(|message| message.log_term = 0);
    refused(|message| message.index = 0);
    refused(|message| {
        (message.index, message.log_term) = (0, 0);
        for (index, entry) in (1..).zip(message.mut_entries().iter_mut()) {
            (entry.index, entry.term) = (index, 0);
        }
    });
}

#[test]
fn a_snapshot_of_no_term_or_a_later_one_is_refused() {
    for term in [0, 3] {
        let mut message = message(MessageType::MsgSnapshot, [5, 4, 3, 2], 0);
        message.mut_snapshot().mut_metadata().term = term;
        let decoded = decode(encode(&message, 0).into());
        assert_eq!(decoded, Err(Malformed::Impossible("snapshot")));
    }
}

/// The library writes changes of voters with its own codec. They are read without it.
#[test]
fn changes_of_voters_are_read_as_the_library_writes_them() {
    let kinds = [
        ConfChangeType::AddNode,
        ConfChangeType::RemoveNode,
        ConfChangeType::AddLearnerNode,
    ];
    for (kind, id) in kinds.into_iter().zip([1, 300, u64::MAX]) {
        let storage = MemStorage::new_with_conf_state((vec![1], vec![]));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&Config::new(1), storage, &logger).unwrap();
        node.campaign().unwrap();
        let mut change = ConfChange::default();
        change.set_change_type(kind);
        change.node_id = id;
        node.propose_conf_change(Vec::new(), change.clone())
            .unwrap();
        let entry = node
            .raft
            .raft_log
            .unstable_entries()
            .last()
            .unwrap()
            .clone();
        assert_eq!(entry.get_entry_type(), EntryType::EntryConfChange);
        assert_eq!(conf_change(&entry.data), Ok(change));
    }
}
