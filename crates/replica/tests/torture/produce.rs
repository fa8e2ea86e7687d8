//! Appends of producers, coordinators and leaders: plain, idempotent, transactional, retried, replicated.

use super::batches::{self, Kind, Written};
use super::check;
use super::model::Producer;
use super::node::{Node, Partition, WaitsFor};
use super::world::World;
use ottla_log::{AppendError, Appended, Batch, Origin};
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::records::{BatchOptions, split_batches};
use ottla_protocol::time::{Now, Timestamp};
use ottla_replica::partition::{Append, RequiredAcks};
use ottla_replica::{Refused, Unavailable};
use std::sync::Arc;

/// The keys of a compacted partition.
const KEYS: u64 = 12;

/// Requests that are appended together.
struct Requests {
    origin: Origin,
    acks: RequiredAcks,
    /// The batches of each.
    batches: Vec<Vec<Written>>,
}

impl World {
    pub(super) fn append(&mut self, node: &mut Node, number: usize) {
        let Some(partition) = node.partition(number) else {
            return;
        };
        let end = end_of(&partition);
        assert!(
            node.has_failed(self.partitions[number].directory) || end == self.models[number].end(),
            "log {number} ends at {end}, not at {}",
            self.models[number].end()
        );
        let acks = if self.random.one_in(3) {
            RequiredAcks::Leader
        } else {
            RequiredAcks::All
        };
        match self.random.below(12) {
            0 => self.send_again(&partition, number),
            1 | 2 => self.replicate(&partition, number),
            3 | 4 => self.end_transaction(&partition, number, acks),
            _ => self.produce(&partition, number, acks),
        }
        if acks == RequiredAcks::All && end_of(&partition) != end {
            self.wait(node, (number, partition.topic_id, end_of(&partition)));
        }
    }

    /// Appends one to three requests together, the first by a producer with an id.
    fn produce(&mut self, partition: &Arc<Partition>, number: usize, acks: RequiredAcks) {
        let mut batches = vec![self.by_producer(number)];
        while batches.len() < 3 && self.random.one_in(3) {
            batches.push(vec![self.data(number, BatchOptions::default())]);
        }
        let requests = Requests {
            origin: Origin::Client,
            acks,
            batches,
        };
        self.append_all(partition, number, &requests);
    }

    fn data(&mut self, number: usize, options: BatchOptions) -> Written {
        let keys = self.is_compacted(number).then_some(KEYS);
        batches::data(&mut self.random, options, keys, self.now)
    }

    /// One or two batches of the same producer.
    fn by_producer(&mut self, number: usize) -> Vec<Written> {
        if self.random.one_in(4) {
            return vec![self.data(number, BatchOptions::default())];
        }
        let place = self.random.index(self.models[number].producers.len());
        let mut producer = self.models[number].producers[place].clone();
        if !producer.has_open_transaction && self.random.one_in(15) {
            producer.epoch += 1;
            producer.next_sequence = 0;
        }
        let mut request = Vec::new();
        for _ in 0..=self.random.below(2) {
            let batch = self.data(number, options(&producer));
            producer.next_sequence += i32::try_from(batch.records.len()).unwrap();
            request.push(batch);
        }
        request
    }

    fn end_transaction(&mut self, partition: &Arc<Partition>, number: usize, acks: RequiredAcks) {
        let producers = &self.models[number].producers;
        let open = producers
            .iter()
            .find(|producer| producer.has_open_transaction);
        let Some(Producer { id, epoch, .. }) = open.cloned() else {
            return;
        };
        let kind = if self.random.one_in(2) {
            Kind::Commit
        } else {
            Kind::Abort
        };
        let marker = batches::marker(id, epoch, kind, self.now);
        let requests = Requests {
            origin: Origin::Coordinator,
            acks,
            batches: vec![vec![marker]],
        };
        self.append_all(partition, number, &requests);
    }

    /// Appends `requests` in one call, and records the outcome of each in the model.
    fn append_all(&mut self, partition: &Arc<Partition>, number: usize, requests: &Requests) {
        let leader_epoch = self.models[number].leader_epoch;
        let batches: Vec<Vec<Batch<'_>>> = requests
            .batches
            .iter()
            .map(|request| request.iter().map(as_batch).collect())
            .collect();
        let acks = requests.acks;
        let appends = batches.iter().map(|batches| Append { batches, acks });
        let appends: Vec<Append<'_>> = appends.collect();
        let mut next = self.models[number].end();
        let outcomes = partition.append(&appends, requests.origin, self.now());
        for (request, outcome) in requests.batches.iter().zip(outcomes) {
            // A request that was refused before anything was written takes no offsets; others may have been in the
            // write.
            if outcome.is_ok() {
                next = self.models[number].end();
            }
            let mut placed = Vec::new();
            for batch in request {
                placed.push(batch.at(next, leader_epoch));
                next = placed.last().map_or(next, |placed| placed.last + 1);
            }
            self.appended(number, placed, outcome.map_err(of_log));
        }
    }

    /// Records the outcome of an append of `placed` in the model.
    fn appended(
        &mut self,
        number: usize,
        placed: Vec<Written>,
        outcome: Result<Appended, AppendError>,
    ) {
        let first = placed.first().map_or(0, |first| first.base);
        let last = placed.last().map_or(0, |last| last.last);
        let model = &mut self.models[number];
        match outcome {
            Ok(appended) => {
                assert_eq!(
                    (
                        appended.first_offset.0,
                        appended.last_offset.0,
                        appended.duplicate_of
                    ),
                    (first, last, None),
                    "an append to {number}"
                );
                for batch in placed {
                    model.appended(batch);
                }
                self.trace
                    .note(&format!("append to {number}: {first} to {last}"));
            }
            Err(AppendError::Storage(error)) => {
                model.refused.extend(placed);
                self.trace.note(&format!("append to {number}: {error}"));
                self.tolerate(&error);
            }
            Err(error) => panic!("an append to {number} at {first} is refused: {error}"),
        }
    }

    /// A producer retries its last batch, as after a lost answer.
    fn send_again(&mut self, partition: &Partition, number: usize) {
        let model = &self.models[number];
        let place = self.random.index(model.producers.len());
        let id = model.producers[place].id;
        let Some(last) = model.last_batch_of(id) else {
            return;
        };
        let to = (Origin::Client, model.leader_epoch, self.now);
        let outcome = partition.with_log(|log| check::try_append(log, &last.bytes, to));
        let outcome = outcome.expect("the log is here");
        self.trace
            .note(&format!("send again to {number}: {outcome:?}"));
        match outcome {
            Ok(appended) => {
                assert!(appended.duplicate_of.is_some(), "a duplicate was appended");
                assert_eq!(appended.first_offset.0, last.base, "a duplicate");
            }
            Err(AppendError::Storage(error)) => self.tolerate(&error),
            Err(error) => panic!("a duplicate is refused: {error}"),
        }
    }

    /// Appends batches whose offsets another leader has assigned.
    fn replicate(&mut self, partition: &Arc<Partition>, number: usize) {
        let leader_epoch = self.models[number].leader_epoch;
        let end = end_of(partition);
        let mut placed: Vec<Written> = Vec::new();
        for batch in self.by_producer(number) {
            let next = placed.last().map_or(end, |placed| placed.last + 1);
            placed.push(batch.at(next, leader_epoch));
        }
        let bytes: Vec<u8> = placed
            .iter()
            .flat_map(|batch| batch.bytes.clone())
            .collect();
        let epoch = LeaderEpoch(leader_epoch);
        let now = self.now();
        let outcome = partition.with_log(|log| log.append_as_follower(&bytes, epoch, now.wall));
        partition.flush_if_dirty(now.monotonic);
        let outcome = outcome
            .expect("the log is here")
            .map(|appended| appended.expect("batches of this epoch"));
        self.appended(number, placed, outcome);
    }

    /// A producer waits for its records.
    fn wait(&mut self, node: &Node, waits_for: WaitsFor) {
        if node.is_acknowledged(waits_for) {
            self.acknowledge(waits_for.0, waits_for.2);
        }
        self.hear_answers(node);
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic: self.monotonic(),
            wall: Timestamp(self.now),
        }
    }
}

fn end_of(partition: &Partition) -> i64 {
    let offsets = partition.offsets();
    offsets.expect("the log is here").log_end.0
}

fn options(producer: &Producer) -> BatchOptions {
    BatchOptions {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: producer.next_sequence,
        is_transactional: producer.is_transactional,
        ..BatchOptions::default()
    }
}

fn as_batch(written: &Written) -> Batch<'_> {
    let batch = split_batches(&written.bytes).next();
    Batch::from(batch.unwrap().unwrap())
}

/// Nothing but the log refuses: the node leads, and its disk has no reserve.
fn of_log(refused: Refused) -> AppendError {
    match refused {
        Refused::Log(error) => error,
        Refused::Unavailable(Unavailable::Storage(error)) => error.into(),
        refused => panic!("{refused}"),
    }
}
