//! One node of the cluster, from a start to its end. It calls what the broker's threads call, one step at a time.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use ottla_log::files::Files as _;
use ottla_log::files::simulated::Simulated;
use ottla_log::{Batch, Bound, FirstBatch, LogDirectory, Origin, PartitionLog, ReadRequest};
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::ids::{NodeId, Offset, Uuid};
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};
use ottla_protocol::time::Now;
use ottla_replica::node::Found;
use ottla_replica::partition::{
    Append, Fetched, FollowerRead, LeaderAnswer, Planned, RequiredAcks,
};
use ottla_replica::{FlushPass, Host, InOrder, Refused, Unavailable};
use ottla_replication::follower::EpochEnd;
use ottla_replication::{IsrChange, LeaderOffsets};

use super::metadata::{INDEX, TOPIC};

const ROOT: &str = "/data";

pub(crate) type Log = PartitionLog<Simulated>;
pub(crate) type Node = ottla_replica::Node<Simulated, Cluster>;
pub(crate) type Partition = ottla_replica::Partition<Simulated, Cluster>;
type Directory = ottla_replica::Directory<Simulated, Cluster>;

/// Answers producers by messages.
#[derive(Debug)]
pub(crate) struct Cluster;

/// A producer that waits: its number, and where its answer goes.
pub(crate) type Producer = (usize, Sender<(usize, Result<(), Unavailable>)>);

impl Host for Cluster {
    type Producer = Producer;
    type Consumer = ();
    type Flusher = ();

    fn answer((number, answers): Producer, outcome: Result<(), Unavailable>) {
        // The test may be over.
        let _ = answers.send((number, outcome));
    }

    fn wake((): &()) {}
    fn pass_is_due((): &()) {}
}

/// The answer of a leader, as bytes that can travel.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Records(Vec<u8>, Offset, Offset),
    Diverging(EpochEnd),
    Offsets(LeaderOffsets),
    Failed(ottla_protocol::messages::ErrorCode),
}

impl Answer {
    /// A line for the trace.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Records(records, high_watermark, _) => {
                let heads = split_batches(records).map_while(Result::ok);
                let heads: Vec<_> = heads
                    .map(|batch| {
                        let header = batch.header();
                        (header.base_offset, header.partition_leader_epoch)
                    })
                    .collect();
                format!("{heads:?}, high watermark {high_watermark}")
            }
            other => format!("{other:?}"),
        }
    }

    pub(crate) fn as_answer(&self) -> LeaderAnswer<'_> {
        match self {
            Self::Records(records, high_watermark, log_start) => LeaderAnswer::Records(Fetched {
                records,
                high_watermark: *high_watermark,
                log_start: *log_start,
            }),
            Self::Diverging(end) => LeaderAnswer::Diverging(*end),
            Self::Offsets(offsets) => LeaderAnswer::Offsets(*offsets),
            Self::Failed(code) => LeaderAnswer::Failed(*code),
        }
    }
}

/// An answer whose records may not be read yet.
#[derive(Debug)]
pub(crate) enum Reading {
    Done(Answer),
    Planned(Planned<Simulated>),
}

impl Reading {
    pub(crate) fn read(self) -> Answer {
        match self {
            Self::Done(answer) => answer,
            Self::Planned(planned) => {
                let mut records = Vec::new();
                let offsets = planned.offsets;
                // The file may be shorter now.
                let read = planned.plan.read(&mut records);
                if read.is_err() {
                    records.clear();
                }
                Answer::Records(records, offsets.high_watermark, offsets.log_start)
            }
        }
    }
}

/// A node that runs.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) node: Node,
    pub(crate) directory: Arc<Directory>,
    /// The pass that runs.
    pub(crate) pass: Option<FlushPass<Simulated, Cluster>>,
}

pub(crate) fn new_disk() -> Simulated {
    let disk = Simulated::new();
    disk.create_directory(ROOT.as_ref()).unwrap();
    disk.sync_directory("/".as_ref()).unwrap();
    disk
}

impl Machine {
    /// Starts a node on what its disk has.
    pub(crate) fn start(id: NodeId, disk: &Simulated, image: &MetadataImage, now: Now) -> Self {
        let log = LogDirectory::new(disk.clone(), ROOT);
        let directory = ottla_replica::Directory::new(log, Some(0), Duration::from_millis(20), ());
        directory.id.set(Uuid::from_parts(5, 1)).unwrap();
        let values = [("replica.lag.time.max.ms", "500")];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let statics = StaticConfigs {
            node: id,
            values: values.into(),
        };
        let node = Node::new(statics, vec![Arc::clone(&directory)]);
        let mut opened = Vec::new();
        for existing in node
            .find_logs(image, now.monotonic)
            .unwrap()
            .into_iter()
            .flatten()
        {
            opened.push(existing.open(now.wall, &mut |_| {}).unwrap());
        }
        node.hold(opened).unwrap();
        let machine = Self {
            node,
            directory,
            pass: None,
        };
        machine.apply(image, now);
        machine
    }

    /// Takes over newer metadata.
    pub(crate) fn apply(&self, image: &MetadataImage, now: Now) {
        let changes = Changes {
            partitions: [(TOPIC, INDEX)].into(),
            brokers: image.brokers.keys().copied().collect(),
            ..Changes::default()
        };
        for job in self.node.plan(image, &changes, now.monotonic) {
            let errors = self.node.perform(&job, &InOrder, now);
            assert!(errors.is_empty(), "{errors:?}");
        }
    }

    /// Its replica, if it has one.
    pub(crate) fn replica(&self) -> Option<Arc<Partition>> {
        match self.node.by_id(TOPIC, INDEX) {
            Found::Here(partition) => Some(partition),
            _ => None,
        }
    }

    pub(crate) fn partition(&self) -> Arc<Partition> {
        self.replica().expect("the replica is here")
    }

    /// Appends a batch of a producer that waits for all replicas; returns the offset of its first record.
    pub(crate) fn produce(
        &self,
        values: &[u64],
        producer: Producer,
        now: Now,
    ) -> Result<Offset, Refused> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for value in values {
            builder.append(now.wall.0, None, Some(&value.to_be_bytes()), &[]);
        }
        let bytes = builder.build().unwrap();
        let batches = [Batch::from(split_batches(&bytes).next().unwrap().unwrap())];
        let append = Append {
            batches: &batches,
            acks: RequiredAcks::All,
        };
        let partition = self.partition();
        let outcome = partition.append(&[append], Origin::Client, now).remove(0)?;
        let answer = producer.clone();
        if partition.replicated(outcome.last_offset.plus(1), || producer) {
            Cluster::answer(answer, Ok(()));
        }
        Ok(outcome.first_offset)
    }

    /// Plans the answer to a follower's fetch, as a leader. The bytes are read later, without a lock.
    pub(crate) fn plan(&self, read: &FollowerRead, now: Now) -> (Reading, Option<IsrChange>) {
        let planned = self.partition().plan_for_follower(read, now.monotonic);
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => return (Reading::Done(Answer::Failed(error.code())), None),
        };
        let reading = match plan.planned.diverging {
            Some((epoch, end)) => Reading::Done(Answer::Diverging(EpochEnd { epoch, end })),
            None => Reading::Planned(plan.planned),
        };
        (reading, plan.isr_change)
    }

    /// Answers a follower's question for the offsets of the log, as a leader.
    pub(crate) fn list_offsets(&self, read: &FollowerRead) -> Answer {
        let epoch = Some(read.fetch.leader_epoch);
        let listed = self
            .partition()
            .with_leader_log(epoch, |log| LeaderOffsets {
                start: log.log_start_offset(),
                end: log.log_end_offset(),
            });
        listed.map_or_else(|error| Answer::Failed(error.code()), Answer::Offsets)
    }

    /// Runs the pass that is due, or is running.
    pub(crate) fn flush(&mut self, now: Now) {
        let begun = self
            .pass
            .take()
            .or_else(|| self.directory.begin_pass(now.monotonic));
        if let Some(mut pass) = begun {
            pass.sync();
            pass.end(now.monotonic).unwrap();
        }
    }

    /// The values of its log from `from` on and below `to`, with their offsets.
    pub(crate) fn values(&self, from: Offset, to: Offset) -> Vec<(i64, u64)> {
        let read = self.partition().with_log(|log| read_values(log, from, to));
        read.expect("the log is here")
    }
}

fn read_values(log: &mut Log, from: Offset, to: Offset) -> Vec<(i64, u64)> {
    let mut bytes = Vec::new();
    let mut values = Vec::new();
    let mut offset = from.max(log.log_start_offset());
    while offset < to.min(log.log_end_offset()) {
        bytes.clear();
        let request = ReadRequest {
            offset,
            max_bytes: 4096,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::LogEnd,
        };
        log.read(&request).unwrap().read(&mut bytes).unwrap();
        for batch in split_batches(&bytes).map_while(Result::ok) {
            for record in batch.plain_records().unwrap() {
                let record = record.unwrap();
                let value = record.value.unwrap().try_into().unwrap();
                values.push((record.offset, u64::from_be_bytes(value)));
            }
            offset = batch.header().next_offset();
        }
    }
    values.retain(|(offset, _)| (from.0..to.0).contains(offset));
    values
}
