//! The rules of leaders and followers, one by one, on two or three nodes.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_log::{Bound, FirstBatch};
use ottla_metadata::{BrokerRegistration, MetadataImage, Partition as Metadata};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use ottla_replica::partition::{AnsweredBy, FollowerRead, LeaderAnswer, NextFetch, ReadAt};
use ottla_replica::{Durability, Loss, LossReason, Reader, Unavailable};
use ottla_replication::{Answer as IsrAnswer, Committed, IsrChange, Replica};

use super::machine::{Answer, Machine, new_disk};
use super::metadata::{NODES, broker, image, new_partition};

type Told = (usize, Result<(), Unavailable>);

/// Three nodes; the first leads.
pub(super) struct Stage {
    machines: Vec<Machine>,
    disks: Vec<Simulated>,
    pub(super) metadata: Metadata,
    brokers: Vec<BrokerRegistration>,
    durability: Durability,
    pub(super) now: Now,
    sender: Sender<Told>,
    told: Receiver<Told>,
}

impl Stage {
    pub(super) fn new(durability: Durability) -> Self {
        let now = Now {
            monotonic: MonotonicTime(Duration::from_secs(100)),
            wall: Timestamp(1_700_000_000_000),
        };
        let (sender, told) = mpsc::channel();
        let metadata = new_partition();
        let brokers: Vec<_> = NODES.iter().map(|id| broker(*id, 7)).collect();
        let image = image(&metadata, &brokers, durability);
        let disks = NODES.map(|_| new_disk());
        let machines = NODES.iter().zip(&disks);
        let machines = machines.map(|(id, disk)| Machine::start(*id, disk, &image, now));
        Self {
            machines: machines.collect(),
            disks: disks.to_vec(),
            metadata,
            brokers,
            durability,
            now,
            sender,
            told,
        }
    }

    fn image(&self) -> MetadataImage {
        image(&self.metadata, &self.brokers, self.durability)
    }

    fn node(&mut self, id: i32) -> &mut Machine {
        &mut self.machines[usize::try_from(id).unwrap() - 1]
    }

    /// A change of the metadata, which these nodes learn.
    pub(super) fn change(&mut self, by: impl FnOnce(&mut Metadata), learn: &[i32]) {
        by(&mut self.metadata);
        self.metadata.partition_epoch += 1;
        self.learn(learn);
    }

    fn learn(&mut self, nodes: &[i32]) {
        let (image, now) = (self.image(), self.now);
        for id in nodes {
            self.node(*id).apply(&image, now);
        }
    }

    /// `leader` leads in the next epoch.
    pub(super) fn elect(&mut self, leader: i32, learn: &[i32]) {
        let elect = |partition: &mut Metadata| {
            partition.leader = Some(NodeId(leader));
            partition.leader_epoch.0 += 1;
        };
        self.change(elect, learn);
    }

    pub(super) fn produce(&mut self, at: i32, values: &[u64]) -> Result<Offset, ErrorCode> {
        let (sender, now) = (self.sender.clone(), self.now);
        let produced = self.node(at).produce(values, (0, sender), now);
        produced.map_err(|refused| refused.code())
    }

    fn answered(&self) -> Vec<Result<(), ErrorCode>> {
        let told = self.told.try_iter();
        told.map(|(_, outcome)| outcome.map_err(|refused| refused.code()))
            .collect()
    }

    pub(super) fn flush(&mut self, id: i32) {
        let now = self.now;
        self.node(id).flush(now);
    }

    pub(super) fn next(&mut self, follower: i32) -> Option<NextFetch> {
        let now = self.now;
        let machine = self.node(follower);
        machine.node.next_fetch(&machine.partition(), now)
    }

    fn serve(&mut self, follower: i32, next: &NextFetch) -> (Answer, Option<IsrChange>) {
        let now = self.now;
        let read = FollowerRead {
            from: Replica {
                node: NodeId(follower),
                broker_epoch: Some(7),
            },
            fetch: next.fetch,
            has_leader_epoch: true,
            max_bytes: 4096,
            first_batch: FirstBatch::MayExceed,
            is_counted: false,
        };
        let leader = self.node(next.leader.0);
        if next.wants_offsets {
            (leader.list_offsets(&read), None)
        } else {
            let (reading, change) = leader.plan(&read, now);
            (reading.read(), change)
        }
    }

    fn take(&mut self, follower: i32, next: &NextFetch, answer: &LeaderAnswer<'_>) -> Option<Loss> {
        let now = self.now;
        let place = NODES.iter().position(|id| id.0 == follower).unwrap();
        let disk = &self.disks[place];
        let partition = self.machines[place].partition();
        let (changes, mut lost) = (disk.changes(), None);
        let mut record = |loss: &Loss| {
            assert_eq!(disk.changes(), changes, "it is told before records go");
            assert_eq!(lost.replace(loss.clone()), None, "it is told once");
        };
        let taken = partition.on_fetched(&next.fetch, answer, now, &mut record);
        taken.unwrap();
        lost
    }

    /// A fetch with its answer; returns what is lost by it, and the leader's change of the ISR.
    pub(super) fn fetch(&mut self, follower: i32) -> (Option<Loss>, Option<IsrChange>) {
        let next = self.next(follower).expect("it follows");
        let (answer, change) = self.serve(follower, &next);
        (self.take(follower, &next, &answer.as_answer()), change)
    }

    pub(super) fn ends(&mut self, id: i32) -> (i64, i64) {
        let offsets = self.node(id).partition().offsets().unwrap();
        (offsets.high_watermark.0, offsets.log_end.0)
    }

    pub(super) fn values(&mut self, id: i32) -> Vec<u64> {
        let values = self.node(id).values(Offset(0), Offset(i64::MAX));
        values.into_iter().map(|(_, value)| value).collect()
    }
}

#[test]
fn a_record_is_acknowledged_when_all_in_sync_replicas_have_flushed_it() {
    let mut stage = Stage::new(Durability::Fsync);
    stage.produce(1, &[1, 2]).unwrap();
    for follower in [2, 3] {
        stage.fetch(follower);
        assert_eq!(stage.values(follower), [1, 2]);
        stage.fetch(follower);
    }
    stage.flush(1);
    assert_eq!(stage.ends(1), (0, 2), "no follower has flushed");
    stage.flush(2);
    stage.flush(3);
    stage.fetch(2);
    assert_eq!(
        stage.ends(1),
        (0, 2),
        "one has not told that it has flushed"
    );
    assert_eq!(stage.answered(), []);
    stage.fetch(3);
    assert_eq!(stage.ends(1), (2, 2));
    assert_eq!(stage.answered(), [Ok(())]);
    assert_eq!(stage.ends(3), (0, 2), "its next fetch tells it");
    stage.fetch(3);
    assert_eq!(stage.ends(3), (2, 2));
}

#[test]
fn an_apache_follower_counts_as_far_as_it_fetches() {
    let mut stage = Stage::new(Durability::Fsync);
    stage.produce(1, &[1]).unwrap();
    stage.flush(1);
    for follower in [2, 3] {
        stage.fetch(follower);
        let mut next = stage.next(follower).unwrap();
        next.fetch.flushed = None;
        stage.serve(follower, &next);
    }
    assert_eq!(stage.ends(1), (1, 1));
}

#[test]
fn a_follower_joins_the_isr_when_the_controller_has_agreed() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.change(
        |partition| partition.isr = vec![NodeId(1), NodeId(2)],
        &[1, 2, 3],
    );
    stage.produce(1, &[1]).unwrap();
    stage.fetch(2);
    stage.fetch(2);
    assert_eq!(stage.ends(1), (1, 1));
    stage.fetch(3);
    let (_, change) = stage.fetch(3);
    let change = change.expect("it has caught up");
    assert_eq!(
        stage.node(1).partition().pending_isr_change(),
        Some(change.clone())
    );
    stage.produce(1, &[2]).unwrap();
    stage.fetch(2);
    stage.fetch(2);
    assert_eq!(
        stage.ends(1),
        (1, 2),
        "the new member is waited for already"
    );
    let committed = Committed {
        leader_epoch: change.leader_epoch,
        partition_epoch: change.partition_epoch + 1,
        isr: change.isr.iter().map(|member| member.node).collect(),
    };
    let now = stage.now.monotonic;
    let leader = stage.node(1).partition();
    leader.isr_answered(&change, IsrAnswer::Committed(committed), now);
    assert_eq!(leader.role().isr, NODES);
    assert_eq!(leader.pending_isr_change(), None);
}

#[test]
fn a_follower_that_lags_leaves_and_too_few_replicas_refuse_acks_of_all() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1]).unwrap();
    stage.now.monotonic = stage.now.monotonic.after(Duration::from_secs(31));
    let now = stage.now.monotonic;
    let change = stage.node(1).partition().shrink_isr(now).unwrap();
    let isr: Vec<_> = change.isr.iter().map(|member| member.node.0).collect();
    assert_eq!(isr, [1]);
    assert_eq!(stage.ends(1), (0, 1), "it is not committed");
    stage.change(|partition| partition.isr = vec![NodeId(1)], &[1]);
    assert_eq!(stage.ends(1), (0, 1), "below the min ISR nothing is");
    assert_eq!(stage.produce(1, &[2]), Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(stage.answered(), []);
}

#[test]
fn records_that_are_committed_while_the_isr_becomes_too_small_are_reported_as_such() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.change(
        |partition| partition.replicas = vec![NodeId(1), NodeId(2)],
        &[1],
    );
    stage.produce(1, &[1]).unwrap();
    stage.fetch(2);
    stage.fetch(2);
    assert_eq!(stage.answered(), [Ok(())]);
    stage.change(|partition| partition.isr = vec![NodeId(1)], &[1]);
    let sender = stage.sender.clone();
    let leader = stage.node(1).partition();
    assert!(!leader.replicated(Offset(1), || (0, sender)));
    assert_eq!(
        stage.answered(),
        [Err(ErrorCode::NotEnoughReplicasAfterAppend)]
    );
}

#[test]
fn fetches_of_other_epochs_and_nodes_are_refused_as_kafka_does() {
    let mut stage = Stage::new(Durability::PageCache);
    let mut next = stage.next(2).unwrap();
    let code = |(answer, _): (Answer, Option<IsrChange>)| match answer {
        Answer::Failed(code) => code,
        _ => ErrorCode::None,
    };
    assert_eq!(code(stage.serve(9, &next)), ErrorCode::UnknownLeaderEpoch);
    stage.brokers[1].epoch = 8;
    stage.learn(&[1]);
    assert_eq!(code(stage.serve(2, &next)), ErrorCode::NotLeaderOrFollower);
    stage.elect(1, &[1]);
    assert_eq!(code(stage.serve(3, &next)), ErrorCode::FencedLeaderEpoch);
    next.fetch.leader_epoch = LeaderEpoch(2);
    assert_eq!(code(stage.serve(3, &next)), ErrorCode::UnknownLeaderEpoch);
    stage.elect(2, &[1]);
    assert_eq!(code(stage.serve(3, &next)), ErrorCode::NotLeaderOrFollower);
}

#[test]
fn a_producer_whose_leader_is_deposed_is_told_so() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1]).unwrap();
    stage.elect(2, &[1]);
    assert_eq!(stage.answered(), [Err(ErrorCode::NotLeaderOrFollower)]);
}

#[test]
fn a_former_leader_removes_what_the_new_one_does_not_have() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1, 2]).unwrap();
    stage.fetch(2);
    stage.produce(1, &[3]).unwrap();
    stage.elect(2, &[1, 2, 3]);
    stage.produce(2, &[4]).unwrap();
    let (lost, _) = stage.fetch(1);
    assert_eq!(lost, None, "it was not committed");
    assert_eq!(stage.values(1), [1, 2]);
    stage.fetch(1);
    assert_eq!(stage.values(1), [1, 2, 4]);
}

#[test]
fn a_divergence_that_is_told_twice_removes_nothing_more() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1]).unwrap();
    stage.fetch(2);
    stage.produce(1, &[2]).unwrap();
    stage.elect(2, &[1, 2]);
    stage.produce(2, &[3]).unwrap();
    let next = stage.next(1).unwrap();
    let (diverging, _) = stage.serve(1, &next);
    stage.take(1, &next, &diverging.as_answer());
    stage.fetch(1);
    assert_eq!(stage.values(1), [1, 3]);
    stage.take(1, &next, &diverging.as_answer());
    assert_eq!(stage.values(1), [1, 3]);
}

#[test]
fn an_epoch_without_records_diverges_once_and_no_more() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1]).unwrap();
    stage.fetch(2);
    stage.fetch(3);
    // Node 3 leads and appends nothing; nobody else hears of it.
    stage.elect(3, &[3]);
    stage.elect(2, &[1, 2, 3]);
    stage.fetch(3);
    stage.produce(2, &[2]).unwrap();
    stage.fetch(3);
    assert_eq!(stage.values(3), [1, 2]);
}

#[test]
fn readers_wait_for_the_leaders_flush_but_not_for_followers() {
    for durability in [Durability::Fsync, Durability::PageCache] {
        let mut stage = Stage::new(durability);
        stage.produce(1, &[1, 2]).unwrap();
        let read = ReadAt {
            offset: Offset(0),
            max_bytes: 4096,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::HighWatermark,
            answered_by: AnsweredBy::Leader,
            current_epoch: None,
            last_fetched_epoch: None,
        };
        let now = stage.now.monotonic;
        let partition = stage.node(1).partition();
        let waits = || {
            let is_readable = partition.is_readable_to(Offset(2), &Reader::new(()));
            let unflushed = partition.plan(&read, now).unwrap().unflushed;
            (!is_readable.unwrap(), unflushed > 0)
        };
        let is_fsync = durability == Durability::Fsync;
        assert_eq!(waits(), (is_fsync, is_fsync), "its own flush is missing");
        stage.flush(1);
        assert_eq!(stage.ends(1), (0, 2), "the followers have nothing");
        assert_eq!(waits(), (false, false));
    }
}

#[test]
fn a_new_leader_is_behind_until_its_followers_have_what_it_began_with() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1]).unwrap();
    stage.fetch(2);
    assert!(!stage.node(1).partition().is_behind_its_epoch());
    stage.elect(2, &[1, 2, 3]);
    let new = stage.node(2).partition();
    assert!(new.is_behind_its_epoch(), "record 1 may be committed");
    stage.fetch(1);
    stage.fetch(3);
    assert!(new.is_behind_its_epoch());
    stage.fetch(3);
    assert!(!new.is_behind_its_epoch());
}

#[test]
fn records_removed_below_the_high_watermark_are_reported() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1, 2, 3]).unwrap();
    stage.produce(1, &[4]).unwrap();
    stage.change(|partition| partition.isr = vec![NodeId(1), NodeId(3)], &[1]);
    stage.now.monotonic = stage.now.monotonic.after(Duration::from_mins(1));
    stage.fetch(3);
    stage.fetch(3);
    assert_eq!(stage.ends(1), (4, 4));
    // Node 2 has nothing, and is elected uncleanly.
    stage.elect(2, &[1, 2, 3]);
    let (lost, _) = stage.fetch(1);
    let lost = lost.unwrap();
    let expected = Loss {
        topic: Arc::clone(&lost.topic),
        partition: lost.partition,
        from: Offset(0),
        to: Offset(4),
        end: Offset(4),
        removed_epoch: Some(LeaderEpoch(0)),
        leader: NodeId(2),
        leader_epoch: LeaderEpoch(1),
        reason: LossReason::Diverged,
    };
    assert_eq!(lost, expected);
    assert_eq!(stage.ends(1), (0, 0));
}

#[test]
fn an_answer_of_an_earlier_epoch_or_place_changes_nothing() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1]).unwrap();
    let next = stage.next(2).unwrap();
    let (answer, _) = stage.serve(2, &next);
    stage.elect(3, &[2]);
    stage.take(2, &next, &answer.as_answer());
    assert_eq!(stage.values(2), []);
    stage.elect(1, &[1, 2]);
    stage.fetch(2);
    let again = NextFetch {
        fetch: ottla_replication::FollowerFetch {
            leader_epoch: LeaderEpoch(2),
            ..next.fetch
        },
        ..next
    };
    stage.take(2, &again, &answer.as_answer());
    assert_eq!(stage.values(2), [1]);
}

#[test]
fn batches_of_a_later_epoch_are_left_to_the_next_fetch() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.produce(1, &[1]).unwrap();
    let next = stage.next(2).unwrap();
    stage.elect(1, &[1]);
    stage.produce(1, &[2]).unwrap();
    let mut later = next;
    later.fetch.leader_epoch = LeaderEpoch(1);
    let (answer, _) = stage.serve(2, &later);
    stage.take(2, &next, &answer.as_answer());
    assert_eq!(stage.values(2), [1]);
}

#[test]
fn a_follower_before_the_start_of_the_leaders_log_begins_anew() {
    let mut stage = Stage::new(Durability::PageCache);
    stage.change(
        |partition| partition.isr = vec![NodeId(1), NodeId(2)],
        &[1, 2, 3],
    );
    stage.produce(1, &[1]).unwrap();
    let (_, change) = stage.fetch(3);
    let now = stage.now.monotonic;
    let leader = stage.node(1).partition();
    leader.isr_answered(&change.unwrap(), IsrAnswer::Refused, now);
    for value in 2..20 {
        stage.produce(1, &[value]).unwrap();
    }
    stage.now.monotonic = stage.now.monotonic.after(Duration::from_mins(1));
    for _ in 0..3 {
        stage.fetch(2);
    }
    let wall = stage.now.wall;
    let leader = stage.node(1).partition();
    let deleted = leader.with_log(|log| log.delete_records(Some(Offset(15)), wall));
    assert_eq!(deleted.unwrap().unwrap(), Offset(15));
    stage.fetch(3);
    let next = stage.next(3).unwrap();
    assert!(next.wants_offsets);
    stage.fetch(3);
    assert_eq!(stage.ends(3), (15, 15));
    stage.fetch(3);
    assert_eq!(stage.values(3), [16, 17, 18, 19]);
    stage.fetch(2);
    let start = stage.node(2).partition().offsets().unwrap().log_start;
    assert_eq!(start, Offset(15), "the follower in sync deletes too");
}

#[test]
fn a_replica_that_is_moved_away_is_removed() {
    let mut stage = Stage::new(Durability::PageCache);
    assert!(stage.node(3).replica().is_some());
    stage.change(|partition| partition.replicas.truncate(2), &[3]);
    assert!(stage.node(3).replica().is_none());
}

#[test]
fn a_role_with_an_earlier_partition_epoch_is_not_taken() {
    let mut stage = Stage::new(Durability::PageCache);
    let before = stage.image();
    stage.elect(2, &[1]);
    let now = stage.now;
    stage.node(1).apply(&before, now);
    assert_eq!(stage.node(1).partition().role().leader, Some(NodeId(2)));
}
