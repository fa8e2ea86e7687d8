//! Appending as producers, coordinators and leaders do: plain, idempotent, transactional, sent again, replicated.

use super::batches::{self, Kind, Written};
use super::check;
use super::model::Producer;
use super::node::Node;
use super::world::World;
use crate::group_commit::Wait;
use crate::tests::fixture::Log;
use crate::{AppendError, Appended, Batch, LeaderAppend, Origin};
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::records::{BatchOptions, split_batches};
use ottla_protocol::time::Timestamp;

/// The keys of a compacted partition.
const KEYS: u64 = 12;

impl World {
    pub(super) fn append(&mut self, node: &mut Node, number: usize) {
        let Some(opened) = node.logs.get_mut(&number) else {
            return;
        };
        let log = &mut opened.log;
        let end = log.log_end_offset().0;
        let has_failed = node.directories[opened.directory].log.failure().is_some();
        assert!(
            has_failed || end == self.models[number].end(),
            "log {number} ends at {end}, not at {}",
            self.models[number].end()
        );
        match self.random.below(12) {
            0 => self.send_again(log, number),
            1 | 2 => self.replicate(log, number),
            3 | 4 => self.end_transaction(log, number),
            _ => self.produce(log, number),
        }
        self.wait(node, number, end);
    }

    /// A few requests at once, the first by a producer with an id.
    fn produce(&mut self, log: &mut Log, number: usize) {
        let mut requests = vec![self.by_producer(number)];
        while requests.len() < 3 && self.random.one_in(3) {
            requests.push(vec![self.data(number, BatchOptions::default())]);
        }
        self.append_all(log, number, (Origin::Client, requests));
    }

    fn data(&mut self, number: usize, options: BatchOptions) -> Written {
        let keys = self.is_compacted(number).then_some(KEYS);
        batches::data(&mut self.random, options, keys, self.now)
    }

    /// One batch or two of the same producer.
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

    fn end_transaction(&mut self, log: &mut Log, number: usize) {
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
        self.append_all(log, number, (Origin::Coordinator, vec![vec![marker]]));
    }

    /// Appends `requests` in one call, and takes note of what became of each.
    fn append_all(
        &mut self,
        log: &mut Log,
        number: usize,
        (origin, requests): (Origin, Vec<Vec<Written>>),
    ) {
        let leader_epoch = self.models[number].leader_epoch;
        let batches: Vec<Vec<Batch<'_>>> = requests
            .iter()
            .map(|request| request.iter().map(as_batch).collect())
            .collect();
        let slices: Vec<&[Batch<'_>]> = batches.iter().map(Vec::as_slice).collect();
        let append = LeaderAppend {
            origin,
            leader_epoch: LeaderEpoch(leader_epoch),
            now: Timestamp(self.now),
        };
        let mut next = self.models[number].end();
        let outcomes = log.append_as_leader(&slices, append);
        for (request, outcome) in requests.iter().zip(outcomes) {
            // A request that was refused before anything was written takes no offsets; others may have been in the write.
            if outcome.is_ok() {
                next = self.models[number].end();
            }
            let mut placed = Vec::new();
            for batch in request {
                placed.push(batch.at(next, leader_epoch));
                next = placed.last().map_or(next, |placed| placed.last + 1);
            }
            self.appended(number, placed, outcome);
        }
    }

    /// Takes note of what became of batches that were to be appended at their offsets.
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

    /// A batch that its producer sends again, not having got the answer.
    fn send_again(&mut self, log: &mut Log, number: usize) {
        let model = &self.models[number];
        let place = self.random.index(model.producers.len());
        let id = model.producers[place].id;
        let Some(last) = model.last_batch_of(id) else {
            return;
        };
        let to = (Origin::Client, model.leader_epoch, self.now);
        let outcome = check::try_append(log, &last.bytes, to);
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

    /// Batches that another leader has given their offsets.
    fn replicate(&mut self, log: &mut Log, number: usize) {
        let leader_epoch = self.models[number].leader_epoch;
        let end = log.log_end_offset().0;
        let mut placed: Vec<Written> = Vec::new();
        for batch in self.by_producer(number) {
            let next = placed.last().map_or(end, |placed| placed.last + 1);
            placed.push(batch.at(next, leader_epoch));
        }
        let bytes: Vec<u8> = placed
            .iter()
            .flat_map(|batch| batch.bytes.clone())
            .collect();
        let outcome =
            log.append_as_follower(&bytes, LeaderEpoch(leader_epoch), Timestamp(self.now));
        let outcome = outcome.map(|appended| appended.expect("batches of this epoch"));
        self.appended(number, placed, outcome);
    }

    /// Somebody waits for what was appended, or it is flushed some time.
    fn wait(&mut self, node: &mut Node, number: usize, before: i64) {
        let opened = &node.logs[&number];
        let end = opened.log.log_end_offset();
        if end.0 == before {
            return;
        }
        let now = self.monotonic();
        let commit = &mut node.directories[opened.directory].commit;
        if self.random.one_in(3) {
            return commit.on_append(opened.id, end, now);
        }
        match commit.on_wait(opened.id, end, (number, opened.topic, end.0), now) {
            Wait::Durable((_, _, end)) => self.acknowledge(number, end),
            Wait::Waits => {}
            Wait::Refused(_) => assert!(
                self.troubles.fault || self.disk.is_power_off(),
                "a refusal to wait for {number} up to {end}"
            ),
        }
    }
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
