//! Collects records into batches and sends them, one batch of a partition at a time.
//!
//! Order within a partition holds through retries because a partition never has two batches in flight. With
//! `idempotent`, a retry whose first attempt did arrive is recognised by the broker. The caller must take the
//! outcomes from time to time: they are kept until then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequestData, TopicProduceData,
};
use ottla_protocol::messages::{InitProducerIdRequestData, KafkaString};
use ottla_protocol::records::{
    BatchBuilder, BatchOptions, Compression, CompressionLevel, Header, increment_sequence,
};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};

use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::partitioner::{Sticky, partition_for_key};
use crate::{ClientError, Cluster, RecordHeader, Result, TopicPartition};

/// The Java producer's default `batch.size`: after so many bytes records without key change their partition.
const STICKY_BYTES: usize = 16 * 1024;
/// The most bytes of batches in one request.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// How long a batch waits after an error that passes.
const PAUSE: Duration = Duration::from_millis(100);

/// What the broker must have done before it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Nothing: there is no answer.
    Zero,
    /// The leader has the batch.
    Leader,
    /// All in-sync replicas have it, as durable as the topic asks.
    #[default]
    All,
}

impl Acks {
    fn wire(self) -> i16 {
        match self {
            Self::Zero => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer produces.
#[derive(Debug, Clone, Copy)]
pub struct ProducerOptions {
    /// What an acknowledgement means.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// How hard; nothing for the codec's default.
    pub level: Option<CompressionLevel>,
    /// The size at which a batch is sent.
    pub batch_bytes: usize,
    /// The bytes of batches that may wait before `send` does.
    pub buffer_bytes: usize,
    /// Whether the broker drops repeated batches.
    pub idempotent: bool,
    /// How long a batch is tried again on errors that pass.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            level: None,
            batch_bytes: 512 * 1024,
            buffer_bytes: 32 * 1024 * 1024,
            idempotent: true,
            delivery_timeout: Duration::from_mins(2),
        }
    }
}

/// A record to be sent.
#[derive(Debug, Clone, Default)]
pub struct ProducerRecord {
    /// Where to.
    pub topic: String,
    /// The partition, where the key shall not decide it.
    pub partition: Option<i32>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<RecordHeader>,
    /// Its time in milliseconds since 1970.
    pub timestamp: i64,
}

impl ProducerRecord {
    fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers: usize = headers.map(|h| h.key.len() + length(&h.value) + 10).sum();
        length(&self.key) + length(&self.value) + headers + 25
    }
}

/// The place of a record in the order of `send`, by which its outcome is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What became of a batch.
#[derive(Debug)]
pub struct BatchOutcome {
    /// Where it went.
    pub partition: TopicPartition,
    /// Its records, in order.
    pub tickets: Vec<Ticket>,
    /// The offset of its first record (-1 when the broker does not say it), or why it is not there.
    pub result: Result<i64>,
}

/// Sends records.
#[derive(Debug)]
pub struct Producer {
    cluster: Arc<Cluster>,
    options: ProducerOptions,
    identity: Option<Identity>,
    lanes: BTreeMap<TopicPartition, Lane>,
    sticky: BTreeMap<String, Sticky>,
    in_flight: JoinSet<Vec<Sent>>,
    buffered_bytes: usize,
    outcomes: Vec<BatchOutcome>,
    next_ticket: u64,
}

/// The producer id that the broker gave.
#[derive(Debug, Clone, Copy)]
struct Identity {
    producer_id: i64,
    producer_epoch: i16,
}

/// The batches of a partition: one that fills, those that wait, and whether one is on its way.
#[derive(Debug, Default)]
struct Lane {
    open: Option<Open>,
    sealed: VecDeque<Sealed>,
    is_in_flight: bool,
    next_sequence: i32,
}

#[derive(Debug)]
struct Open {
    builder: BatchBuilder,
    tickets: Vec<Ticket>,
}

#[derive(Debug)]
struct Sealed {
    bytes: Bytes,
    tickets: Vec<Ticket>,
    deadline: Instant,
}

/// A batch that came back from its request.
#[derive(Debug)]
struct Sent {
    partition: TopicPartition,
    batch: Sealed,
    result: Result<i64>,
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
            in_flight: JoinSet::new(),
            buffered_bytes: 0,
            outcomes: Vec::new(),
            next_ticket: 0,
        })
    }

    /// Takes a record; waits while too much is buffered. What becomes of it, its outcome says.
    pub async fn send(&mut self, record: &ProducerRecord) -> Result<Ticket> {
        while self.buffered_bytes > self.options.buffer_bytes {
            self.settle_next().await;
            self.dispatch().await;
        }
        let partition = self.partition(record).await?;
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
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

    /// Sends everything taken so far and waits for what becomes of it.
    pub async fn flush(&mut self) {
        let partitions: Vec<_> = self.lanes.keys().cloned().collect();
        for partition in &partitions {
            self.seal(partition);
        }
        self.dispatch().await;
        while self.settle_next().await {
            self.dispatch().await;
        }
        assert!(!self.has_unsettled(), "every batch ends with an outcome");
    }

    /// What became of batches since the last time, in the order in which it was known.
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
        let topic = self.cluster.topic_or_create(&record.topic).await?;
        let count = i32::try_from(topic.partitions.len()).expect("partitions have 32-bit indexes");
        let partition = if let Some(key) = &record.key {
            partition_for_key(key, count)
        } else {
            let sticky = self.sticky.entry(record.topic.clone());
            let sticky = sticky.or_insert_with(|| Sticky::new(STICKY_BYTES));
            sticky.partition(record.size(), count)
        };
        Ok(TopicPartition::new(&record.topic, partition))
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
        });
    }

    /// Sends the first waiting batch of every partition that has none in flight, one request to a leader.
    async fn dispatch(&mut self) {
        let is_ready = |lane: &Lane| !lane.is_in_flight && !lane.sealed.is_empty();
        let ready = self.lanes.iter().filter(|(_, lane)| is_ready(lane));
        let ready: Vec<_> = ready.map(|(partition, _)| partition.clone()).collect();
        let mut requests = BTreeMap::<i32, Vec<(TopicPartition, Sealed)>>::new();
        let mut without_leader = Vec::new();
        for partition in ready {
            let leader = self.cluster.leader(&partition).await;
            let lane = self.lanes.get_mut(&partition).expect("listed above");
            let batch = lane.sealed.pop_front().expect("listed as not empty");
            lane.is_in_flight = true;
            match leader {
                Ok(leader) => requests.entry(leader).or_default().push((partition, batch)),
                Err(error) => without_leader.push(Sent {
                    partition,
                    batch,
                    result: Err(error),
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

    /// Waits for one request to come back; false when none is under way.
    async fn settle_next(&mut self) -> bool {
        let Some(sent) = self.in_flight.join_next().await else {
            return false;
        };
        self.settle(sent.expect("sending does not panic"));
        true
    }

    fn settle(&mut self, sent: Vec<Sent>) {
        for Sent {
            partition,
            batch,
            result,
        } in sent
        {
            let lane = self.lanes.get_mut(&partition).expect("a batch has a lane");
            lane.is_in_flight = false;
            if let Err(error) = &result
                && error.is_retriable()
                && Instant::now() < batch.deadline
            {
                self.cluster.forget(&partition.topic);
                lane.sealed.push_front(batch);
                continue;
            }
            self.buffered_bytes -= batch.bytes.len();
            self.outcomes.push(BatchOutcome {
                partition,
                tickets: batch.tickets,
                result,
            });
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

fn batch_options(
    options: &ProducerOptions,
    identity: Option<Identity>,
    next_sequence: i32,
) -> BatchOptions {
    let plain = BatchOptions {
        compression: options.compression,
        level: options
            .level
            .unwrap_or_else(|| options.compression.default_level()),
        ..BatchOptions::default()
    };
    match identity {
        None => plain,
        Some(identity) => BatchOptions {
            producer_id: identity.producer_id,
            producer_epoch: identity.producer_epoch,
            base_sequence: next_sequence,
            ..plain
        },
    }
}

fn split_by_size(batches: Vec<(TopicPartition, Sealed)>) -> Vec<Vec<(TopicPartition, Sealed)>> {
    let mut requests = Vec::new();
    let mut current = Vec::new();
    let mut bytes = 0;
    for (partition, batch) in batches {
        if bytes + batch.bytes.len() > MAX_REQUEST_BYTES && !current.is_empty() {
            requests.push(std::mem::take(&mut current));
            bytes = 0;
        }
        bytes += batch.bytes.len();
        current.push((partition, batch));
    }
    requests.push(current);
    requests
}

/// One request.
async fn send_batches(
    cluster: Arc<Cluster>,
    leader: i32,
    acks: Acks,
    batches: Vec<(TopicPartition, Sealed)>,
) -> Vec<Sent> {
    let mut results = request(&cluster, leader, acks, &batches).await;
    let sent: Vec<_> = batches
        .into_iter()
        .map(|(partition, batch)| {
            let result = results.remove(&partition).unwrap_or_else(|| {
                let what = format!("produce to {partition}");
                Err(refused(what, ErrorCode::UnknownServerError))
            });
            Sent {
                partition,
                batch,
                result,
            }
        })
        .collect();
    hold_back(sent).await
}

/// What failed for a reason that passes comes back a little later, so that trying again does not turn in circles.
async fn hold_back(sent: Vec<Sent>) -> Vec<Sent> {
    let passes = |sent: &Sent| matches!(&sent.result, Err(error) if error.is_retriable());
    if sent.iter().any(passes) {
        time::sleep(PAUSE).await;
    }
    sent
}

async fn request(
    cluster: &Cluster,
    leader: i32,
    acks: Acks,
    batches: &[(TopicPartition, Sealed)],
) -> BTreeMap<TopicPartition, Result<i64>> {
    let partitions = || batches.iter().map(|(partition, _)| partition.clone());
    let answer = exchange(cluster, leader, acks, batches).await;
    match answer {
        Ok(Some(response)) => response,
        Ok(None) => partitions().map(|partition| (partition, Ok(-1))).collect(),
        Err(error) => {
            let passes = error.is_retriable();
            let mut first = Some(error);
            let each = |partition: TopicPartition| {
                let code = if passes {
                    ErrorCode::NetworkException
                } else {
                    ErrorCode::UnknownServerError
                };
                let what = format!("produce to {partition}");
                let error = first.take().unwrap_or_else(|| refused(what, code));
                (partition, Err(error))
            };
            partitions().map(each).collect()
        }
    }
}

async fn exchange(
    cluster: &Cluster,
    leader: i32,
    acks: Acks,
    batches: &[(TopicPartition, Sealed)],
) -> Result<Option<BTreeMap<TopicPartition, Result<i64>>>> {
    let connection = cluster.node(leader).await?;
    let request = produce_request(acks, cluster.options().request_timeout, batches);
    if acks == Acks::Zero {
        connection.send(&request).await?;
        return Ok(None);
    }
    let response = connection.call(&request).await?;
    let mut results = BTreeMap::new();
    for topic in &response.responses {
        for answer in &topic.partition_responses {
            let partition = TopicPartition::new(topic.name.as_str(), answer.index);
            let code = ErrorCode::from(answer.error_code);
            let result = if code == ErrorCode::DuplicateSequenceNumber {
                Ok(-1)
            } else {
                let what = format!("produce to {partition}");
                let message = answer.error_message.as_ref().map(KafkaString::as_str);
                let checked = ClientError::check(answer.error_code, message, what);
                checked.map(|()| answer.base_offset)
            };
            results.insert(partition, result);
        }
    }
    Ok(Some(results))
}

fn produce_request(
    acks: Acks,
    timeout: Duration,
    batches: &[(TopicPartition, Sealed)],
) -> ProduceRequestData {
    let mut topics = BTreeMap::<&str, Vec<PartitionProduceData>>::new();
    for (partition, batch) in batches {
        let data = PartitionProduceData {
            index: partition.partition,
            records: Some(batch.bytes.clone()),
            ..PartitionProduceData::default()
        };
        topics.entry(&partition.topic).or_default().push(data);
    }
    let topic = |(name, partition_data): (&str, _)| TopicProduceData {
        name: KafkaString::from(name.to_owned()),
        partition_data,
        ..TopicProduceData::default()
    };
    ProduceRequestData {
        acks: acks.wire(),
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: topics.into_iter().map(topic).collect(),
        ..ProduceRequestData::default()
    }
}

fn refused(what: String, code: ErrorCode) -> ClientError {
    ClientError::Refused {
        what,
        code,
        message: None,
    }
}
