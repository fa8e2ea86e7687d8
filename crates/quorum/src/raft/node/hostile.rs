//! Messages that are well formed and make no sense: whatever a peer sends, a controller goes on.

use std::path::Path;

use bytes::Bytes;
use ottla_log::files::simulated::{Random, Simulated};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use raft::eraftpb::{Entry, Message, MessageType};

use super::peers::raft_id;
use super::{Member, RaftNode};
use crate::checkpoint::SnapshotId;
use crate::directory::{self, Format, METADATA_DIRECTORY};
use crate::metadata_log::Location;
use crate::metadata_log::tests::{NOW, VERSION, small, topic, voter};
use crate::raft::fixture;
use crate::raft::message::{KINDS, SnapshotName, encode};
use crate::voter::Voter;

pub(super) fn voters() -> Vec<Voter> {
    let other = |number: i32| Voter {
        node_id: NodeId(number),
        directory_id: Uuid::from_parts(5, 5 + u64::from(number.unsigned_abs())),
        ..voter()
    };
    vec![voter(), other(2), other(3)]
}

pub(super) fn formatted(voters: &[Voter]) -> Simulated {
    let (files, data) = (Simulated::new(), Path::new("/data"));
    let format = Format {
        cluster_id: "cluster",
        node_id: NodeId(1),
        directories: &[(data, voters[0].directory_id)],
        metadata_directory: data,
        voters,
        bootstrap: &[],
        version: VERSION,
        now: NOW,
    };
    directory::format(&files, &format).unwrap();
    files
}

pub(super) fn started(files: Simulated, voters: &[Voter]) -> RaftNode<Simulated> {
    let directory = Path::new("/data").join(METADATA_DIRECTORY);
    let location = Location {
        directory: &directory,
        cluster_id: "cluster",
    };
    let member = Member {
        voter: voters[0].clone(),
        voters,
    };
    let (mut node, _) = RaftNode::open(files, location, member, small()).unwrap();
    node.ready(NOW).unwrap();
    node
}

/// A message with small numbers, so that many fit the state of the node nearly.
fn message(random: &mut Random, voters: &[Voter], epoch: LeaderEpoch) -> Message {
    let (_, kind) = KINDS[random.index(KINDS.len())];
    let known = u64::from(epoch.0.unsigned_abs()).max(1);
    let term = match random.below(8) {
        0 => known + 1,
        1 => 1 + random.below(known),
        _ => known,
    };
    let mut message = Message::default();
    message.set_msg_type(kind);
    message.to = raft_id(&voters[0]);
    message.from = raft_id(&voters[1 + random.index(2)]);
    message.term = term;
    message.log_term = random.below(term + 1);
    message.index = number(random);
    message.commit = number(random);
    message.commit_term = random.below(term + 1);
    message.reject = random.one_in(2);
    message.reject_hint = number(random);
    if random.one_in(4) {
        message.context = Bytes::from_static(b"CampaignTransfer");
    }
    if kind == MessageType::MsgAppend {
        let mut of = message.log_term;
        let entries = (1..=random.below(4)).map(|more| {
            of += random.below(term - of + 1);
            entry(random, message.index + more, of)
        });
        let entries: Vec<Entry> = entries.collect();
        message.set_entries(entries.into());
    }
    if kind == MessageType::MsgSnapshot {
        let id = SnapshotId {
            end_offset: Offset(1 + i64::try_from(random.below(9)).unwrap()),
            epoch: LeaderEpoch(i32::try_from(random.below(7)).unwrap()),
        };
        let ids: Vec<u64> = voters.iter().map(raft_id).collect();
        let known = &ids[random.index(3)..];
        let snapshot = message.mut_snapshot();
        snapshot.mut_metadata().index = 1 + random.below(9);
        snapshot.mut_metadata().term = random.below(7);
        snapshot
            .mut_metadata()
            .set_conf_state(fixture::voters(known));
        snapshot.data = SnapshotName {
            id,
            size: random.below(99),
        }
        .to_bytes()
        .into();
    }
    message
}

fn number(random: &mut Random) -> u64 {
    match random.below(20) {
        0 => u64::MAX - 9,
        _ => random.below(9),
    }
}

fn entry(random: &mut Random, index: u64, term: u64) -> Entry {
    match random.below(3) {
        0 if term > 0 => fixture::entry(index, term),
        _ => Entry {
            index,
            term,
            ..Entry::default()
        },
    }
}

/// Has the node campaign, and mostly win.
fn elect(node: &mut RaftNode<Simulated>, random: &mut Random, voters: &[Voter]) {
    for _ in 0..random.below(60) {
        node.on_tick(random.below(1 << 32));
    }
    node.ready(NOW).unwrap();
    for (kind, later) in [
        (MessageType::MsgRequestPreVoteResponse, 1),
        (MessageType::MsgRequestVoteResponse, 0),
    ] {
        let mut granted = message(random, voters, node.epoch());
        granted.set_msg_type(kind);
        granted.clear_entries();
        granted.clear_snapshot();
        granted.term = u64::from(node.epoch().0.unsigned_abs()) + later;
        granted.reject = false;
        let _ = node.on_message(encode(&granted, 0).into());
        node.ready(NOW).unwrap();
    }
}

#[test]
fn whatever_a_peer_sends_a_controller_goes_on() {
    let voters = voters();
    let (mut taken, mut led) = (0, 0);
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut node = started(formatted(&voters), &voters);
        for _ in 0..150 {
            if random.one_in(10) {
                elect(&mut node, &mut random, &voters);
            }
            let bytes = encode(&message(&mut random, &voters, node.epoch()), 0);
            taken += u32::from(node.on_message(bytes.into()).is_ok());
            if let Some(epoch) = node.led_epoch() {
                led += 1;
                // It may be refused.
                let _ = node.propose(epoch, &[topic(seed)], VERSION, NOW);
            }
            node.ready(NOW).unwrap();
        }
    }
    assert!(taken > 5_000 && led > 100, "{taken} taken, {led} led");
}
