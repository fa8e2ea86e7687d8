//! A controller alone: it leads at once, loses nothing to a power cut, sees that Kafka went on with its log, and waits for
//! room on a full disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ottla_log::files::Operation;
use ottla_log::files::simulated::Simulated;
use ottla_metadata::Loader;
use ottla_protocol::ids::{LeaderEpoch, Offset};

use super::{InspectedNode, Member, NodeError, NotProposed, QuorumNews, RaftNode};
use crate::directory::METADATA_DIRECTORY;
use crate::metadata_log::tests::{NOW, VERSION, formatted, open, small, topic, topics, voter};
use crate::metadata_log::{Location, Settings};

fn settings() -> Settings {
    Settings {
        checkpoint_bytes: 700,
        kept_entry_bytes: 200,
        ..small()
    }
}

fn directory() -> PathBuf {
    Path::new("/data").join(METADATA_DIRECTORY)
}

fn inspect(files: &Simulated) -> Result<InspectedNode<Simulated>, NodeError> {
    let directory = directory();
    let location = Location {
        directory: &directory,
        cluster_id: "cluster",
    };
    RaftNode::inspect(files.clone(), location, voter())
}

/// A controller alone, and the metadata that its driver has from the news.
struct Node {
    raft: RaftNode<Simulated>,
    loader: Loader,
}

impl Node {
    fn start(files: &Simulated) -> Result<Self, NodeError> {
        let voters = [voter()];
        let member = Member {
            voter: voter(),
            voters: &voters,
        };
        let (raft, loader) = inspect(files)?.open(member, settings())?;
        let mut node = Self { raft, loader };
        node.ready()?;
        Ok(node)
    }

    fn ready(&mut self) -> Result<(), NodeError> {
        for news in self.raft.ready(NOW)?.news {
            if let QuorumNews::Committed { records, .. } = news {
                self.loader.load(&records);
            }
        }
        Ok(())
    }

    fn propose(&mut self, number: u64) -> Result<Offset, NotProposed> {
        let epoch = self.raft.led_epoch().ok_or(NotProposed::NotLeader)?;
        self.raft.propose(epoch, &[topic(number)], VERSION, NOW)
    }

    /// Whether the topic is committed.
    fn create(&mut self, number: u64) -> Result<bool, NodeError> {
        let end = self.propose(number);
        self.ready()?;
        if self.raft.is_snapshot_due()
            && let Some(job) = self.raft.begin_snapshot(&self.loader, NOW)?
            && let Ok(written) = job.write()
        {
            self.raft.adopt_snapshot(written)?;
        }
        Ok(end.is_ok_and(|end| end <= self.raft.end_offset()))
    }
}

/// What is known at a power cut.
#[derive(Debug, Default)]
struct Known {
    answered: u64,
    proposed: u64,
    epoch: LeaderEpoch,
}

/// Starts of Ottla, and of another program that leads the log without Raft. `None` if the power went before the end.
fn run(files: &Simulated, known: &mut Known) -> Option<()> {
    for is_ottla in [false, true, true, false, true, false, false, true] {
        if is_ottla {
            let mut node = Node::start(files).ok()?;
            known.epoch = node.raft.led_epoch()?;
            for _ in 0..8 {
                known.proposed += 1;
                if !node.create(known.answered).ok()? {
                    return None;
                }
                known.answered += 1;
            }
        } else {
            let mut log = open(files, settings()).ok()?.log;
            known.epoch = log.epoch();
            for _ in 0..3 {
                known.proposed += 1;
                log.propose(&[topic(known.answered)], VERSION, NOW).ok()?;
                known.answered += 1;
            }
        }
    }
    Some(())
}

#[test]
fn a_power_cut_at_any_change_loses_nothing_whoever_wrote_it() {
    let mut cut_after = 0;
    loop {
        let files = formatted();
        files.cut_power_after(cut_after);
        let mut known = Known::default();
        let is_done = run(&files, &mut known).is_some();
        let after = files.power_cut(cut_after * 31 + 7);
        let inspected = inspect(&after).unwrap_or_else(|error| panic!("cut {cut_after}: {error}"));
        let seen = topics(inspected.image());
        let node = Node::start(&after).unwrap_or_else(|error| panic!("cut {cut_after}: {error}"));
        let found = topics(node.loader.image());
        assert_eq!(
            seen, found,
            "cut {cut_after}: inspection sees what a start has"
        );
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
        let count = found.len() as u64;
        assert!(
            known.answered <= count && count <= known.proposed,
            "cut {cut_after}: {count} of {known:?}"
        );
        assert!(node.raft.led_epoch() > Some(known.epoch), "cut {cut_after}");
        if is_done {
            break;
        }
        cut_after += 1;
    }
    assert!(cut_after > 300, "only {cut_after} changes were cut");
}

#[test]
fn kafka_may_take_over_after_a_kill_at_any_change() {
    let mut cut_after = 0;
    loop {
        let files = formatted();
        files.cut_power_after(cut_after);
        let mut known = Known::default();
        let is_done = run(&files, &mut known).is_some();
        let after = files.process_killed();
        let opened = open(&after, settings()).unwrap_or_else(|error| panic!("{error}"));
        let mut of_kafka = topics(opened.loader.image());
        assert!(of_kafka.len() as u64 >= known.answered, "cut {cut_after}");
        let mut log = opened.log;
        log.propose(&[topic(500)], VERSION, NOW).unwrap();
        of_kafka.push(500);
        let epoch = log.epoch();
        drop(log);
        let node = Node::start(&after).unwrap_or_else(|error| panic!("cut {cut_after}: {error}"));
        assert_eq!(topics(node.loader.image()), of_kafka, "cut {cut_after}");
        assert!(node.raft.led_epoch() > Some(epoch), "cut {cut_after}");
        if is_done {
            break;
        }
        cut_after += 1;
    }
}

#[test]
fn the_kafka_log_has_all_that_was_committed_when_the_process_is_killed() {
    let files = formatted();
    let mut node = Node::start(&files).unwrap();
    for number in 0..20 {
        assert!(node.create(number).unwrap());
    }
    drop(node);
    let opened = open(&files.process_killed(), settings()).unwrap();
    assert_eq!(topics(opened.loader.image()), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_voter_at_a_new_address_is_put_into_the_log_again() {
    let files = formatted();
    drop(Node::start(&files).unwrap());
    let mut moved = voter();
    moved.endpoints[0].port += 1;
    let voters = [voter()];
    let member = Member {
        voter: moved.clone(),
        voters: &voters,
    };
    let (mut node, _) = inspect(&files).unwrap().open(member, settings()).unwrap();
    node.ready(NOW).unwrap();
    assert_eq!(node.voters(), [moved.clone()]);
    drop(node);
    assert_eq!(inspect(&files).unwrap().voters(), Some([moved].as_slice()));
}

#[test]
fn a_full_disk_refuses_proposals_and_recovers() {
    let files = formatted();
    let mut node = Node::start(&files).unwrap();
    let refuse = || files.fail_nth(Operation::Reserve, 1, ErrorKind::StorageFull);
    let mut refused = 0;
    for number in 0..20 {
        refuse();
        let created = node.create(number).unwrap();
        refused += u64::from(!created);
        assert!(created || node.create(number).unwrap());
    }
    assert!(refused > 0, "no reservation was due");
    assert_eq!(topics(node.loader.image()), (0..20).collect::<Vec<_>>());
}

#[test]
fn what_is_agreed_waits_for_room_wherever_the_disk_fills_up() {
    for space in (0..4_000).step_by(16) {
        let files = formatted();
        let mut node = Node::start(&files).unwrap();
        files.limit_space(Some(space));
        let mut taken = Vec::new();
        for number in 0..10 {
            taken.extend(node.propose(number).ok().map(|_| number));
            node.ready().unwrap();
        }
        assert!(space > 1_500 || taken.len() < 10, "the disk was not full");
        files.limit_space(None);
        node.ready().unwrap();
        assert!(node.create(99).unwrap(), "with {space} bytes");
        taken.push(99);
        assert_eq!(topics(node.loader.image()), taken, "with {space} bytes");
        drop(node);
        let after = files.power_cut(space);
        let found = Node::start(&after).unwrap().loader;
        assert_eq!(topics(found.image()), taken, "with {space} bytes");
    }
}
