//! A fetch session that leaves out settled partitions gives the same answers, moves the high watermarks and changes the ISR
//! as one that looks at all its partitions with each request.
//!
//! Two nodes get the same steps, chosen from a seed. Each has three partitions, two followers and a consumer. The sessions
//! of the first node look at everything, those of the second only at what is not settled.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nobody;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::files::Files as _;
use ottla_log::files::simulated::{Random, Simulated};
use ottla_log::{Batch, Bound, FirstBatch, LogConfig, LogDirectory, Origin};
use ottla_metadata::{BrokerRegistration, MetadataImage};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView};
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use ottla_replica::logs::{NewLog, WhoseLog, sync_and_hold};
use ottla_replica::partition::{
    AnsweredBy, Append, FollowerRead, Known, Planned, ReadAt, RequiredAcks, Role,
};
use ottla_replica::{Durability, LiveBrokers, TopicSettings, Unreadable};
use ottla_replication::{Answer, Committed, FollowerFetch, IsrChange, Replica};

use nobody::Nobody;

const ROOT: &str = "/data";
const WALL: Timestamp = Timestamp(1_700_000_000_000);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const PARTITIONS: usize = 3;
/// The followers on nodes 2 and 3, and a consumer.
const READERS: usize = 3;
const CONSUMER: usize = 2;
const MAX_LAG: Duration = Duration::from_secs(10);

type Directory = ottla_replica::Directory<Simulated, Nobody>;
type Partition = ottla_replica::Partition<Simulated, Nobody>;
type Reader = ottla_replica::Reader<()>;

/// What the client of a session finds in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Found {
    bytes: usize,
    is_error: bool,
    high_watermark: i64,
    log_start: i64,
}

/// Where a client is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Position {
    offset: i64,
    flushed: i64,
    leader_epoch: i32,
}

/// A session of one reader.
struct Session {
    reader: Arc<Reader>,
    unsettled: BTreeSet<usize>,
    asked: [Position; PARTITIONS],
    found: [Found; PARTITIONS],
}

struct Node {
    directory: Arc<Directory>,
    brokers: Arc<LiveBrokers>,
    partitions: Vec<Arc<Partition>>,
    sessions: Vec<Session>,
    leaves_out: bool,
    /// The plans made.
    looks: usize,
}

fn replica(reader: usize) -> Option<Replica> {
    (reader != CONSUMER).then(|| Replica {
        node: NODES[reader + 1],
        broker_epoch: Some(7),
    })
}

fn image(fenced: &BTreeSet<NodeId>) -> MetadataImage {
    let mut image = MetadataImage::default();
    for id in NODES {
        let broker = BrokerRegistration {
            id,
            epoch: 7,
            fenced: fenced.contains(&id),
            ..BrokerRegistration::default()
        };
        image.brokers.insert(id, Arc::new(broker));
    }
    image
}

impl Node {
    fn new(durability: Durability, leaves_out: bool) -> Self {
        let disk = Simulated::new();
        disk.create_directory(ROOT.as_ref()).unwrap();
        disk.sync_directory("/".as_ref()).unwrap();
        let log = LogDirectory::new(disk, ROOT);
        let directory = Directory::new(log, Some(0), Duration::from_millis(5), ());
        let brokers = Arc::new(LiveBrokers::default());
        brokers.set(&image(&BTreeSet::new()));
        let settings = Arc::new(TopicSettings {
            log: LogConfig {
                segment_bytes: 1000,
                ..LogConfig::default()
            },
            durability,
            min_insync_replicas: 2,
            max_replica_lag: MAX_LAG,
            ..TopicSettings::default()
        });
        let new = (0..PARTITIONS).map(|index| {
            let of = WhoseLog {
                topic: Arc::from("t"),
                topic_id: Uuid::from_parts(1, 2),
                index: PartitionIndex(i32::try_from(index).unwrap()),
                settings: Arc::clone(&settings),
                brokers: Arc::clone(&brokers),
            };
            let directory = &directory;
            NewLog { directory, of }.create(WALL).unwrap()
        });
        let (partitions, outcome) = sync_and_hold(new.collect());
        outcome.unwrap();
        let role = Role {
            node: NODES[0],
            leader: Some(NODES[0]),
            replicas: NODES.to_vec(),
            isr: NODES.to_vec(),
            ..Role::unknown()
        };
        for partition in &partitions {
            let now = MonotonicTime::default();
            partition.set_role(role.clone(), now).unwrap();
        }
        let session = |_| Session {
            reader: Reader::new(()),
            unsettled: (0..PARTITIONS).collect(),
            asked: Default::default(),
            found: Default::default(),
        };
        Self {
            directory,
            brokers,
            partitions,
            sessions: (0..READERS).map(session).collect(),
            leaves_out,
            looks: 0,
        }
    }

    fn append(&self, place: usize, now: Now) -> usize {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(WALL.0, None, Some(b"x"), &[]);
        let bytes = builder.build().unwrap();
        let batches = [Batch::from(BatchView::first(&bytes).unwrap())];
        let append = Append {
            batches: &batches,
            acks: RequiredAcks::Leader,
        };
        let outcomes = self.partitions[place].append(&[append], Origin::Client, now);
        outcomes.iter().flatten().count()
    }

    fn flush(&self, now: MonotonicTime) {
        if let Some(mut pass) = self.directory.begin_pass(now) {
            pass.sync();
            pass.end(now).unwrap();
        }
    }

    /// A request of a session, as the broker has it; also the changes of the ISR that it has caused.
    fn fetch(
        &mut self,
        who: usize,
        at: &[Position; PARTITIONS],
        now: MonotonicTime,
    ) -> ([Found; PARTITIONS], Vec<IsrChange>) {
        let session = &mut self.sessions[who];
        for (place, position) in at.iter().enumerate() {
            if session.asked[place] != *position && session.unsettled.insert(place) {
                self.partitions[place].unsettle(&session.reader);
            }
        }
        session.asked = *at;
        session.reader.asks_at(now);
        session.unsettled.extend(session.reader.take_changed());
        let mut changes = Vec::new();
        for (place, position) in at.iter().enumerate() {
            if self.leaves_out && !session.unsettled.contains(&place) {
                session.found[place].bytes = 0;
                continue;
            }
            self.looks += 1;
            let partition = &self.partitions[place];
            let read = read_at(who, position);
            let (found, change) = look(partition, who, (&read, position.flushed), now);
            session.found[place] = found;
            changes.extend(change);
            let known = Known {
                read,
                follower: replica(who),
                high_watermark: Offset(found.high_watermark),
                log_start: Offset(found.log_start),
            };
            if self.leaves_out
                && found.bytes == 0
                && !found.is_error
                && partition.settle(&session.reader, place, &known)
            {
                session.unsettled.remove(&place);
            }
        }
        (session.found, changes)
    }

    fn commit(&self, place: usize, now: MonotonicTime) {
        let partition = &self.partitions[place];
        if let Some(change) = partition.pending_isr_change() {
            let committed = Committed {
                leader_epoch: change.leader_epoch,
                partition_epoch: change.partition_epoch + 1,
                isr: change.isr.iter().map(|member| member.node).collect(),
            };
            partition.isr_answered(&change, Answer::Committed(committed), now);
        }
    }

    fn refuse(&self, place: usize, now: MonotonicTime) {
        let partition = &self.partitions[place];
        if let Some(change) = partition.pending_isr_change() {
            partition.isr_answered(&change, Answer::Refused, now);
        }
    }

    /// The metadata has another role.
    fn change(&self, place: usize, now: MonotonicTime, change: impl FnOnce(&mut Role)) {
        let partition = &self.partitions[place];
        let mut role = partition.role();
        role.partition_epoch += 1;
        change(&mut role);
        partition.set_role(role, now).unwrap();
    }

    fn delete_records(&self, place: usize) {
        let delete = |log: &mut ottla_log::PartitionLog<Simulated>| {
            log.delete_records(None, WALL).unwrap();
        };
        self.partitions[place]
            .with_leader_log(None, delete)
            .unwrap();
    }

    /// The offsets, the ISR and its pending change.
    fn state(&self, place: usize) -> impl PartialEq + std::fmt::Debug + use<> {
        let partition = &self.partitions[place];
        let offsets = partition.offsets().unwrap();
        (offsets, partition.role(), partition.pending_isr_change())
    }
}

fn read_at(who: usize, position: &Position) -> ReadAt {
    ReadAt {
        offset: Offset(position.offset),
        max_bytes: 1 << 20,
        first_batch: FirstBatch::MayExceed,
        bound: if who == CONSUMER {
            Bound::HighWatermark
        } else {
            Bound::LogEnd
        },
        answered_by: AnsweredBy::Leader,
        current_epoch: Some(LeaderEpoch(position.leader_epoch)),
        last_fetched_epoch: None,
    }
}

fn look(
    partition: &Partition,
    who: usize,
    (read, flushed): (&ReadAt, i64),
    now: MonotonicTime,
) -> (Found, Option<IsrChange>) {
    let found = |planned: Planned<Simulated>| Found {
        bytes: planned.plan.length,
        is_error: false,
        high_watermark: planned.offsets.high_watermark.0,
        log_start: planned.offsets.log_start.0,
    };
    let failed = |_: Unreadable| Found {
        is_error: true,
        high_watermark: -1,
        log_start: -1,
        ..Found::default()
    };
    let Some(from) = replica(who) else {
        let planned = partition.plan(read, now);
        return (planned.map_or_else(failed, found), None);
    };
    let read = FollowerRead {
        from,
        fetch: FollowerFetch {
            leader_epoch: read.current_epoch.unwrap(),
            offset: read.offset,
            last_fetched_epoch: None,
            log_start: Offset(0),
            flushed: Some(Offset(flushed)),
            has_room: true,
        },
        has_leader_epoch: true,
        max_bytes: read.max_bytes,
        first_batch: read.first_batch,
        is_counted: false,
    };
    match partition.plan_for_follower(&read, now) {
        Ok(plan) => (found(plan.planned), plan.isr_change),
        Err(error) => (failed(error), None),
    }
}

/// The clients of both nodes, which find the same.
struct Clients {
    positions: [[Position; PARTITIONS]; READERS],
    fenced: BTreeSet<NodeId>,
}

impl Clients {
    /// Fetches from both nodes, and takes what they have; the bytes.
    fn fetch(&mut self, nodes: &mut [Node; 2], who: usize, now: MonotonicTime) -> usize {
        let at = self.positions[who];
        let [all, some] = nodes.each_mut().map(|node| node.fetch(who, &at, now));
        assert_eq!(all, some, "reader {who} at {at:?}");
        let mut bytes = 0;
        for (place, found) in all.0.iter().enumerate() {
            let position = &mut self.positions[who][place];
            let partition = &nodes[0].partitions[place];
            let offsets = partition.offsets().unwrap();
            bytes += found.bytes;
            if found.is_error {
                position.leader_epoch = partition.role().leader_epoch.0;
                position.offset = position.offset.max(offsets.log_start.0);
            } else if found.bytes > 0 {
                let of_consumer = who == CONSUMER;
                position.offset = if of_consumer {
                    offsets.high_watermark.0
                } else {
                    offsets.log_end.0
                };
            }
        }
        bytes
    }
}

/// Runs both nodes; returns the plans that each has made.
fn run(seed: u64, durability: Durability) -> [usize; 2] {
    let random = &mut Random::new(seed);
    let mut nodes = [false, true].map(|leaves_out| Node::new(durability, leaves_out));
    let mut clients = Clients {
        positions: Default::default(),
        fenced: BTreeSet::new(),
    };
    let mut ms = 0;
    for _ in 0..400 {
        ms += random.below(400);
        let now = MonotonicTime(Duration::from_millis(ms));
        let place = random.index(PARTITIONS);
        let who = random.index(READERS);
        match random.below(40) {
            0..6 => {
                let wall = Now {
                    monotonic: now,
                    wall: WALL,
                };
                let [all, some] = nodes.each_ref().map(|node| node.append(place, wall));
                assert_eq!(all, some);
            }
            6..10 => nodes.iter().for_each(|node| node.flush(now)),
            10..28 => _ = clients.fetch(&mut nodes, who, now),
            28..31 => {
                for position in &mut clients.positions[who] {
                    position.flushed = position.offset;
                }
            }
            31..34 => {
                let [all, some] = nodes
                    .each_ref()
                    .map(|node| node.partitions[place].shrink_isr(now));
                assert_eq!(all, some, "seed {seed}, {ms} ms");
            }
            34 | 35 => nodes.iter().for_each(|node| node.commit(place, now)),
            36 => nodes.iter().for_each(|node| node.refuse(place, now)),
            37 => nodes.iter().for_each(|node| node.delete_records(place)),
            38 => {
                let removed = NODES[1 + random.index(2)];
                let is_new_epoch = random.one_in(2);
                for node in &nodes {
                    node.change(place, now, |role| {
                        role.isr.retain(|id| *id != removed);
                        role.leader_epoch.0 += i32::from(is_new_epoch);
                    });
                }
            }
            // A long silence.
            _ if random.one_in(2) => ms += random.below(15_000),
            _ => {
                let node = NODES[1 + random.index(2)];
                if !clients.fenced.remove(&node) {
                    clients.fenced.insert(node);
                }
                let image = image(&clients.fenced);
                for node in &nodes {
                    node.brokers.set(&image);
                }
            }
        }
        for place in 0..PARTITIONS {
            let [all, some] = nodes.each_ref().map(|node| node.state(place));
            assert_eq!(all, some, "partition {place}, seed {seed}, {ms} ms");
        }
    }
    nodes.map(|node| node.looks)
}

#[test]
fn what_a_session_leaves_out_changes_nothing() {
    let (mut all, mut some) = (0, 0);
    for seed in 0..300 {
        for durability in [Durability::PageCache, Durability::Fsync] {
            let looks = run(seed, durability);
            all += looks[0];
            some += looks[1];
        }
    }
    assert!(some < all * 9 / 10, "{some} of {all} plans are made");
}
