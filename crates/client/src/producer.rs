//! Collects records into batches and sends them, one batch of a partition at a time.
//!
//! Retries keep the order within a partition, because a partition never has two batches in flight. With `idempotent` the
//! broker recognises a retry whose first attempt did arrive. A batch that is too large for the broker is split in halves;
//! only a single record that is too large fails. The caller must take the outcomes from time to time, because they are kept
//! until then.

mod batch;
mod options;
mod request;
mod split;
mod unconfirmed;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::messages::InitProducerIdRequestData;
use ottla_protocol::records::{BatchBuilder, Decompressor, Header, increment_sequence};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::batch::{Identity, Lane, Open, Sealed, Sent, batch_options};
pub use self::options::{Acks, BatchOutcome, ProducerOptions, ProducerRecord, Ticket};
use self::request::{hold_back, send_batches, split_by_size};
use self::unconfirmed::Unconfirmed;
use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::notice::{Notice, Outages, Source};
use crate::partitioner::{Sticky, partition_for_key};
use crate::{ClientError, Cluster, Result, TopicPartition};

/// Records without a key change their partition after this many bytes: the Java producer's default `batch.size`.
const STICKY_BYTES: usize = 16 * 1024;

/// Sends records.
#[derive(Debug)]
pub struct Producer {
    cluster: Arc<Cluster>,
    options: ProducerOptions,
    identity: Option<Identity>,
    lanes: BTreeMap<TopicPartition, Lane>,
    sticky: BTreeMap<String, Sticky>,
    /// The last known number of partitions of each topic.
    counts: BTreeMap<String, i32>,
    in_flight: JoinSet<Vec<Sent>>,
    buffered_bytes: usize,
    outcomes: Vec<BatchOutcome>,
    next_ticket: u64,
    is_halted: bool,
    unconfirmed: Unconfirmed,
    outages: Outages,
    decompressor: Decompressor,
}

impl Producer {
    /// A producer; with `idempotent` it asks the cluster for a producer id first.
    pub async fn new(cluster: Arc<Cluster>, options: ProducerOptions) -> Result<Self> {
        let identity = if options.idempotent {
            Some(identify(&cluster).await?)
        } else {
            None
        };
        Ok(Self {
            cluster,
            options,
            identity,
            lanes: BTreeMap::new(),
            sticky: BTreeMap::new(),
            counts: BTreeMap::new(),
            in_flight: JoinSet::new(),
            buffered_bytes: 0,
            outcomes: Vec::new(),
            next_ticket: 0,
            is_halted: false,
            unconfirmed: Unconfirmed::default(),
            outages: Outages::new(None),
            decompressor: Decompressor::default(),
        })
    }

    /// Takes a record; waits while too much is buffered. The result comes with [`Producer::take_outcomes`].
    pub async fn send(&mut self, record: &ProducerRecord) -> Result<Ticket> {
        while self.is_full() {
            self.step().await;
        }
        let partition = self.partition(record).await?;
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        if self.is_halted {
            self.outcomes.push(not_sent(partition, vec![ticket]));
            return Ok(ticket);
        }
        let size = record.size();
        if self.open_size(&partition) + size > self.options.batch_bytes {
            self.seal(&partition);
        }
        self.append(&partition, record, ticket);
        if self.open_size(&partition) >= self.options.batch_bytes {
            self.seal(&partition);
        }
        while let Some(sent) = self.in_flight.try_join_next() {
            self.settle(sent.expect("sending does not panic"));
        }
        self.dispatch().await;
        Ok(ticket)
    }

    /// Whether `send` would wait, because too much is buffered.
    pub fn is_full(&self) -> bool {
        self.buffered_bytes > self.options.buffer_bytes
    }

    /// Sends everything taken so far, and waits for the outcomes.
    pub async fn flush(&mut self) {
        self.seal_all();
        while self.has_unsettled() {
            self.step().await;
        }
        for notice in self.unconfirmed.confirm().await {
            self.outages.tell(notice);
        }
    }

    /// Closes all open batches, so that they are sent.
    pub fn seal_all(&mut self) {
        let partitions: Vec<_> = self.lanes.keys().cloned().collect();
        for partition in &partitions {
            self.seal(partition);
        }
    }

    /// Sends closed batches, and waits for the answer to one request. Dropping the future loses nothing.
    pub async fn step(&mut self) {
        self.dispatch().await;
        if let Some(sent) = self.in_flight.join_next().await {
            self.settle(sent.expect("sending does not panic"));
        }
    }

    /// The notices for the user since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.outages.take()
    }

    /// The outcomes of batches since the last call, in the order of the answers.
    pub fn take_outcomes(&mut self) -> Vec<BatchOutcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Whether a record taken has no outcome yet.
    pub fn has_unsettled(&self) -> bool {
        let is_idle =
            |lane: &Lane| lane.open.is_none() && lane.sealed.is_empty() && !lane.is_in_flight;
        !self.lanes.values().all(is_idle)
    }

    async fn partition(&mut self, record: &ProducerRecord) -> Result<TopicPartition> {
        if let Some(partition) = record.partition {
            return Ok(TopicPartition::new(&record.topic, partition));
        }
        let count = self.partition_count(&record.topic).await?;
        let partition = if let Some(key) = &record.key {
            partition_for_key(key, count)
        } else {
            let sticky = self.sticky.entry(record.topic.clone());
            let sticky = sticky.or_insert_with(|| Sticky::new(STICKY_BYTES));
            sticky.partition(record.size(), count)
        };
        Ok(TopicPartition::new(&record.topic, partition))
    }

    /// The number of partitions of a topic; the last known number while no broker can be reached.
    async fn partition_count(&mut self, topic: &str) -> Result<i32> {
        let mut backoff = Backoff::new(self.options.delivery_timeout);
        loop {
            match self.cluster.topic_or_create(topic).await {
                Ok(found) => {
                    let count = found.partitions.len();
                    let count = i32::try_from(count).expect("partitions have 32-bit indexes");
                    self.counts.insert(topic.to_owned(), count);
                    return Ok(count);
                }
                Err(error) if error.is_retriable() => {
                    if let Some(count) = self.counts.get(topic) {
                        return Ok(*count);
                    }
                    if !backoff.wait().await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn open_size(&self, partition: &TopicPartition) -> usize {
        let lane = self.lanes.get(partition);
        let open = lane.and_then(|lane| lane.open.as_ref());
        open.map_or(0, |open| open.builder.size())
    }

    fn append(&mut self, partition: &TopicPartition, record: &ProducerRecord, ticket: Ticket) {
        if !self.lanes.contains_key(partition) {
            self.lanes.insert(partition.clone(), Lane::default());
        }
        let lane = self.lanes.get_mut(partition).expect("inserted above");
        let open = lane.open.get_or_insert_with(|| Open {
            builder: BatchBuilder::new(batch_options(
                &self.options,
                self.identity,
                lane.next_sequence,
            )),
            tickets: Vec::new(),
        });
        let headers = record.headers.iter().map(|header| Header {
            key: &header.key,
            value: header.value.as_deref(),
        });
        let headers: Vec<_> = headers.collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        open.builder.append(record.timestamp, key, value, &headers);
        open.tickets.push(ticket);
    }

    fn seal(&mut self, partition: &TopicPartition) {
        let Some(lane) = self.lanes.get_mut(partition) else {
            return;
        };
        let Some(Open { builder, tickets }) = lane.open.take() else {
            return;
        };
        lane.next_sequence = increment_sequence(lane.next_sequence, builder.record_count());
        let bytes = Bytes::from(builder.build().expect("an open batch has a record"));
        self.buffered_bytes += bytes.len();
        lane.sealed.push_back(Sealed {
            bytes,
            tickets,
            deadline: Instant::now() + self.options.delivery_timeout,
            is_in_doubt: false,
        });
    }

    /// Sends the first waiting batch of every partition that has none in flight, one request to a leader.
    async fn dispatch(&mut self) {
        let is_ready = |lane: &Lane| !lane.is_in_flight && !lane.sealed.is_empty();
        let ready = self.lanes.iter().filter(|(_, lane)| is_ready(lane));
        let ready: Vec<_> = ready.map(|(partition, _)| partition.clone()).collect();
        let mut requests = BTreeMap::<i32, Vec<(TopicPartition, Sealed)>>::new();
        let mut without_leader = Vec::new();
        let mut leaders = Vec::new();
        for partition in ready {
            let leader = find_leader(&self.cluster, &partition).await;
            leaders.push((partition, leader));
        }
        // There is no await from here on, so no batch is lost when the future is dropped.
        for (partition, leader) in leaders {
            let lane = self.lanes.get_mut(&partition).expect("listed above");
            let batch = lane.sealed.pop_front().expect("listed as not empty");
            lane.is_in_flight = true;
            match leader {
                Ok(leader) => requests.entry(leader).or_default().push((partition, batch)),
                Err(error) => without_leader.push(Sent {
                    partition,
                    batch,
                    result: Err(error),
                    unacknowledged_on: None,
                }),
            }
        }
        if !without_leader.is_empty() {
            self.in_flight.spawn(hold_back(without_leader));
        }
        for (leader, batches) in requests {
            for batches in split_by_size(batches) {
                let cluster = Arc::clone(&self.cluster);
                self.in_flight
                    .spawn(send_batches(cluster, leader, self.options.acks, batches));
            }
        }
    }

    fn settle(&mut self, sent: Vec<Sent>) {
        for Sent {
            partition,
            batch,
            result,
            unacknowledged_on,
        } in sent
        {
            if let Some(connection) = unacknowledged_on
                && let Some(notice) = self.unconfirmed.add(connection)
            {
                self.outages.tell(notice);
            }
            let lane = self.lanes.get_mut(&partition).expect("a batch has a lane");
            lane.is_in_flight = false;
            let source = Source::Partition(partition.clone());
            let result = match result {
                Err(error) if error.is_retriable() && Instant::now() < batch.deadline => {
                    self.cluster.forget(&partition.topic);
                    lane.sealed.push_front(batch);
                    let waited = self.outages.failed(source, error);
                    waited.expect("an outage without an end of its own is waited out");
                    continue;
                }
                result => result,
            };
            if result.as_ref().is_err_and(ClientError::is_retriable) {
                self.outages.gave_up(&source);
            } else {
                self.outages.works(&source);
            }
            self.buffered_bytes -= batch.bytes.len();
            if batch.tickets.len() > 1 && result.as_ref().is_err_and(is_too_large) {
                let halves = split::in_halves(&batch, &self.options, &mut self.decompressor);
                for half in halves.into_iter().rev() {
                    self.buffered_bytes += half.bytes.len();
                    lane.sealed.push_front(half);
                }
                continue;
            }
            let has_failed = result.is_err();
            self.outcomes.push(BatchOutcome {
                partition,
                tickets: batch.tickets,
                result,
                is_in_doubt: has_failed && batch.is_in_doubt,
            });
            if has_failed && self.options.halts {
                self.halt();
            }
        }
    }

    /// Stops sending. Only batches that may be in the log already are still tried.
    fn halt(&mut self) {
        self.is_halted = true;
        for (partition, lane) in &mut self.lanes {
            let sealed = std::mem::take(&mut lane.sealed);
            let (in_doubt, absent): (VecDeque<_>, VecDeque<_>) =
                sealed.into_iter().partition(|batch| batch.is_in_doubt);
            lane.sealed = in_doubt;
            for batch in absent {
                self.buffered_bytes -= batch.bytes.len();
                self.outcomes
                    .push(not_sent(partition.clone(), batch.tickets));
            }
            if let Some(open) = lane.open.take() {
                self.outcomes
                    .push(not_sent(partition.clone(), open.tickets));
            }
        }
    }
}

fn not_sent(partition: TopicPartition, tickets: Vec<Ticket>) -> BatchOutcome {
    BatchOutcome {
        partition,
        tickets,
        result: Err(ClientError::NotSent),
        is_in_doubt: false,
    }
}

fn is_too_large(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge)
    )
}

/// The leader of a partition, if there is one now.
async fn find_leader(cluster: &Cluster, partition: &TopicPartition) -> Result<i32> {
    let topic = cluster.topic(&partition.topic).await?;
    let found = topic.partitions.get(&partition.partition);
    let leader = found.map(|found| found.leader);
    match leader {
        Some(Some(leader)) => Ok(leader),
        missing => {
            cluster.forget(&partition.topic);
            let code = match missing {
                Some(_) => ErrorCode::LeaderNotAvailable,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            Err(ClientError::refused(format!("partition {partition}"), code))
        }
    }
}

async fn identify(cluster: &Cluster) -> Result<Identity> {
    let request = InitProducerIdRequestData {
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequestData::default()
    };
    let mut backoff = Backoff::new(cluster.options().retry_for);
    loop {
        let response = cluster.call_any(&request).await?;
        match ClientError::check(response.error_code, None, "producer id") {
            Ok(()) => {
                return Ok(Identity {
                    producer_id: response.producer_id,
                    producer_epoch: response.producer_epoch,
                });
            }
            Err(error) if error.is_retriable() && backoff.wait().await => {}
            Err(error) => return Err(error),
        }
    }
}
