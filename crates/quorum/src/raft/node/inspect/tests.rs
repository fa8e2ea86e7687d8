//! Whether Raft's log or the Kafka log counts.

use std::io::IoSlice;
use std::path::Path;

use ottla_log::files::simulated::Simulated;
use ottla_log::files::{File as _, Files as _, Open};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use raft::eraftpb::{Message, MessageType};

use crate::batches::Place;
use crate::directory::METADATA_DIRECTORY;
use crate::metadata_log::tests::{NOW, VERSION, topic};
use crate::metadata_log::{Location, proposal};
use crate::raft::message::encode;
use crate::raft::node::RaftNode;
use crate::raft::node::hostile::{formatted, started, voters};
use crate::raft::node::peers::raft_id;

/// A node of three that has been a candidate in epoch 2, and got no vote.
fn after_a_candidacy() -> Simulated {
    let voters = voters();
    let files = formatted(&voters);
    let mut node = started(files.clone(), &voters);
    let mut now = Message::default();
    now.set_msg_type(MessageType::MsgTimeoutNow);
    (now.to, now.from, now.term) = (raft_id(&voters[0]), raft_id(&voters[1]), 1);
    node.on_message(encode(&now, 0).into()).unwrap();
    node.ready(NOW).unwrap();
    assert_eq!(node.epoch(), LeaderEpoch(2));
    drop(node);
    files.process_killed()
}

/// A leader of Apache Kafka writes the first batch of the log.
fn write_as_kafka(files: &Simulated, epoch: i32) {
    let place = Place {
        offset: Offset(0),
        epoch: LeaderEpoch(epoch),
        timestamp: NOW,
    };
    let built = proposal::build(&[topic(1)], VERSION, place, 1 << 20).unwrap();
    let path = Path::new("/data").join(METADATA_DIRECTORY);
    let path = path.join("00000000000000000000.log");
    let file = files.open(&path, Open::Create).unwrap();
    file.write_at(&[IoSlice::new(&built[0].0)], 0).unwrap();
    file.sync_data().unwrap();
}

/// Whether Raft's log counts.
fn is_of_raft(files: Simulated) -> bool {
    let directory = Path::new("/data").join(METADATA_DIRECTORY);
    let location = Location {
        directory: &directory,
        cluster_id: "cluster",
    };
    let inspected = RaftNode::inspect(files, location, voters()[0].clone()).unwrap();
    inspected.raft.is_some()
}

#[test]
fn kafka_has_gone_on_where_it_wrote_in_the_epoch_of_a_candidate_that_was_not_elected() {
    assert!(is_of_raft(after_a_candidacy()));
    for epoch in [2, 3] {
        let files = after_a_candidacy();
        write_as_kafka(&files, epoch);
        assert!(!is_of_raft(files), "epoch {epoch}");
    }
}
