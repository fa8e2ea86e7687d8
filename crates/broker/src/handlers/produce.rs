//! `Produce` (key 0), versions 3 to 13; announced from 0, see `api_versions`.
//!
//! - 3: record batches of magic 2 only; transactional id. 5: log start offset in the answer.
//! - 7: zstd. 8: errors of single records, and messages. 9: flexible.
//! - 10: the current leader beside `NOT_LEADER_OR_FOLLOWER`. 13: topics by id.
//!
//! Requests that have arrived together are appended together: their batches for one partition are one write. Batches are
//! checked before the partition's lock is taken, and are copied only where they must change.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_log::{Appended, Batch, Origin};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::messages::produce_request::TopicProduceData;
use ottla_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use ottla_protocol::messages::{ErrorCode, KafkaString, ProduceRequestData, ProduceResponseData};
use ottla_protocol::records::{
    BatchView, Decompressor, RejectedBatch, ValidBatch, first_batch, validate,
};
use ottla_protocol::time::{Now, Timestamp};
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::internal_topics::is_internal;
use crate::replicas::partition::{
    Append, Partition, Refused, RequiredAcks, Unavailable, replicated,
};

/// The client that Kafka lets write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";
/// From this version on topics are named by id.
const FIRST_WITH_TOPIC_IDS: i16 = 13;

thread_local! {
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::default();
}

/// One Produce request, and what becomes of it.
pub struct Request {
    context: RequestContext,
    body: ProduceRequestData,
    /// Filled while the records are checked and appended, which borrows them from `body`.
    outcomes: RefCell<Outcomes>,
}

/// The answer of one Produce request.
pub enum ProduceReply {
    /// The client asked for none (acks=0).
    None,
    /// The client asked for none, and its records were not all appended, for this reason.
    Close(String),
    /// Known at once.
    Ready(ProduceResponseData),
    /// Known when its records are replicated, or its timeout has passed.
    Later(Pin<Box<dyn Future<Output = ProduceResponseData> + Send>>),
}

/// The outcome of each partition that a request names.
#[derive(Default)]
struct Outcomes {
    /// For each topic of the response, its first position in the request.
    topics: Vec<usize>,
    partitions: Vec<Outcome>,
}

/// The outcome of one partition.
struct Outcome {
    /// The position of its topic in the response.
    topic: usize,
    index: i32,
    fate: Fate,
}

enum Fate {
    /// The records are not appended yet.
    Queued,
    /// The records are appended or refused. A later batch of the request for the same partition replaces this.
    Ended(Result<Written, Failure>),
    /// There is no such partition, or the bytes are no batch. Nothing else in the request replaces this.
    Refused(Failure),
}

struct Written {
    appended: Appended,
    log_append_time: Option<Timestamp>,
    partition: Arc<Partition>,
}

struct Failure {
    code: ErrorCode,
    message: Option<String>,
    records: Vec<BatchIndexAndErrorMessage>,
    /// The log start offset, where the partition itself refuses the records.
    log_start: i64,
}

/// A checked batch on its way into a partition.
struct Entry<'a> {
    request: &'a Request,
    /// The position of its outcome in [`Outcomes::partitions`].
    outcome: usize,
    batch: ValidBatch<'a>,
}

/// The batches for one partition, in the order of arrival.
struct Group<'a> {
    partition: Arc<Partition>,
    entries: Vec<Entry<'a>>,
}

/// Appends the records of all `requests`, in their order. [`Request::reply`] then makes the answer to each.
pub fn start<'a>(broker: &Broker, requests: impl Iterator<Item = &'a Request>) {
    let now = broker.clock.now();
    let mut groups = Groups::default();
    for request in requests {
        request.check(broker, now, &mut groups);
    }
    let groups = groups.in_order.iter();
    for group in groups.filter(|group| !group.entries.is_empty()) {
        append(group, now);
    }
}

#[derive(Default)]
struct Groups<'a> {
    by_partition: HashMap<*const Partition, usize>,
    in_order: Vec<Group<'a>>,
}

impl<'a> Groups<'a> {
    fn add(&mut self, partition: &Arc<Partition>, entry: Entry<'a>) {
        let place = *self
            .by_partition
            .entry(Arc::as_ptr(partition))
            .or_insert_with(|| {
                self.in_order.push(Group {
                    partition: Arc::clone(partition),
                    entries: Vec::new(),
                });
                self.in_order.len() - 1
            });
        self.in_order[place].entries.push(entry);
    }

    /// Removes the batch that `request` has added for a partition, if it has.
    fn withdraw(&mut self, partition: &Arc<Partition>, request: &Request) {
        let place = self.by_partition.get(&Arc::as_ptr(partition));
        if let Some(group) = place.and_then(|place| self.in_order.get_mut(*place)) {
            group
                .entries
                .pop_if(|entry| std::ptr::eq(entry.request, request));
        }
    }
}

impl Request {
    /// A request whose records stay slices of the read buffer.
    pub fn new(context: RequestContext, body: ProduceRequestData) -> Self {
        Self {
            context,
            body,
            outcomes: RefCell::default(),
        }
    }

    pub fn context(&self) -> &RequestContext {
        &self.context
    }

    /// Finds the partition of each batch and checks the batch. Sound batches go into `groups`; the others get their outcome.
    ///
    /// A request may name a partition more than once. As on Kafka, only its last batch is appended, and the partition has
    /// one answer. Bytes that are no batch do not replace an earlier batch: it is appended, but the answer is their error.
    fn check<'a>(&'a self, broker: &Broker, now: Now, groups: &mut Groups<'a>) {
        let mut named = Named::default();
        for (number, topic) in self.body.topic_data.iter().enumerate() {
            for data in &topic.partition_data {
                let (outcome, is_again) = named.outcome_of((number, topic), data.index);
                let found = find(broker, &self.context, topic, data.index).and_then(|partition| {
                    let records = data.records.as_ref().map_or(&[][..], Bytes::as_ref);
                    Ok((first_batch(records, self.context.version)?, partition))
                });
                let (batch, partition) = match found {
                    Ok(found) => found,
                    Err(failure) => {
                        named.outcomes.partitions[outcome].fate = Fate::Refused(failure);
                        continue;
                    }
                };
                if is_again {
                    groups.withdraw(&partition, self);
                }
                match self.check_batch(&partition, &batch, now) {
                    Ok(batch) => {
                        let client = (self.context.client_id(), self.body.acks);
                        broker
                            .weak_acks
                            .on_batch(&partition.topic, client, now.wall);
                        let entry = Entry {
                            request: self,
                            outcome,
                            batch,
                        };
                        groups.add(&partition, entry);
                    }
                    Err(failure) => named.outcomes.partitions[outcome].end(Err(failure)),
                }
            }
        }
        self.outcomes.replace(named.outcomes);
    }

    /// The batch to append: as received, unless a header field or the records had to change.
    fn check_batch<'a>(
        &self,
        partition: &Partition,
        batch: &BatchView<'a>,
        now: Now,
    ) -> Result<ValidBatch<'a>, Failure> {
        // Kafka makes these checks in this order, after it has found the topic and exactly one batch.
        if !matches!(self.body.acks, -1..=1) {
            return Err(Failure::of(ErrorCode::InvalidRequiredAcks));
        }
        if is_internal(&partition.topic) && self.context.client_id() != ADMIN_CLIENT {
            return Err(Failure::of(ErrorCode::InvalidTopicException));
        }
        if batch.header().is_transactional() {
            if self.body.transactional_id.is_none() {
                return Err(Failure::of(ErrorCode::TransactionalIdAuthorizationFailed));
            }
            return Err(Failure {
                message: Some("the partition was not added to the transaction".to_owned()),
                ..Failure::of(ErrorCode::InvalidTxnState)
            });
        }
        let settings = partition.settings();
        DECOMPRESSOR.with_borrow_mut(|decompressor| {
            validate(batch, &settings.rules, now.wall, decompressor)
                .map_err(|rejected| Failure::from(rejected).by(partition))
        })
    }

    fn required_acks(&self) -> RequiredAcks {
        if self.body.acks == -1 {
            RequiredAcks::All
        } else {
            RequiredAcks::Leader
        }
    }

    /// The answer of a request that was [started](start).
    pub fn reply(self) -> ProduceReply {
        let Outcomes { topics, partitions } = self.outcomes.into_inner();
        let acks = self.body.acks;
        if acks == 0 {
            let mut outcomes = partitions.into_iter();
            let failure = outcomes.find_map(|outcome| outcome.result().err());
            return failure.map_or(ProduceReply::None, |failure| {
                ProduceReply::Close(failure.reason())
            });
        }
        let timeout = Duration::from_millis(self.body.timeout_ms.max(0).cast_unsigned().into());
        let mut response = Response::new(self.body, &topics);
        let mut waiting = Vec::new();
        for outcome in partitions {
            let (topic, index) = (outcome.topic, outcome.index);
            let result = outcome.result();
            let replicated = match &result {
                Ok(written) if acks == -1 => {
                    replicated(&written.partition, written.appended.last_offset.plus(1))
                }
                _ => None,
            };
            let partition = response.add(topic, index, result);
            if let Some(replicated) = replicated {
                waiting.push(Waiting {
                    topic,
                    partition,
                    replicated,
                });
            }
        }
        if waiting.is_empty() {
            return ProduceReply::Ready(response.data);
        }
        ProduceReply::Later(Box::pin(wait(response.data, waiting, timeout)))
    }
}

/// The outcomes of a request while it is checked, and where those of each partition are.
#[derive(Default)]
struct Named<'a> {
    topics: BTreeMap<(&'a str, Uuid), usize>,
    partitions: BTreeMap<(usize, i32), usize>,
    outcomes: Outcomes,
}

impl<'a> Named<'a> {
    /// The position of a partition's outcome, and whether the request has named the partition before. `number` is the
    /// position of its topic in the request.
    fn outcome_of(
        &mut self,
        (number, topic): (usize, &'a TopicProduceData),
        index: i32,
    ) -> (usize, bool) {
        let Outcomes { topics, partitions } = &mut self.outcomes;
        let known = self.topics.entry((topic.name.as_str(), topic.topic_id));
        let topic = *known.or_insert_with(|| {
            topics.push(number);
            topics.len() - 1
        });
        let known = partitions.len();
        let place = *self.partitions.entry((topic, index)).or_insert(known);
        if place == known {
            partitions.push(Outcome {
                topic,
                index,
                fate: Fate::Queued,
            });
        }
        (place, place < known)
    }
}

impl Outcome {
    fn end(&mut self, result: Result<Written, Failure>) {
        if !matches!(self.fate, Fate::Refused(_)) {
            self.fate = Fate::Ended(result);
        }
    }

    fn result(self) -> Result<Written, Failure> {
        match self.fate {
            Fate::Ended(result) => result,
            Fate::Refused(failure) => Err(failure),
            Fate::Queued => unreachable!("what is queued has been appended or refused"),
        }
    }
}

fn find(
    broker: &Broker,
    context: &RequestContext,
    topic: &TopicProduceData,
    index: i32,
) -> Result<Arc<Partition>, Failure> {
    let index = PartitionIndex(index);
    let found = if context.version >= FIRST_WITH_TOPIC_IDS {
        broker.replicas.by_id(topic.topic_id, index)
    } else {
        broker.replicas.by_name(topic.name.as_str(), index)
    };
    found.or_code().map_err(Failure::of)
}

fn append(group: &Group<'_>, now: Now) {
    let batches: Vec<[Batch<'_>; 1]> = group
        .entries
        .iter()
        .map(|entry| [Batch::from(&entry.batch)])
        .collect();
    let pairs = group.entries.iter().zip(&batches);
    let appends = pairs.map(|(entry, batches)| Append {
        batches,
        acks: entry.request.required_acks(),
    });
    let appends: Vec<Append<'_>> = appends.collect();
    let results = group.partition.append(&appends, Origin::Client, now);
    let traffic = &group.partition.traffic;
    for (entry, result) in group.entries.iter().zip(results) {
        let header = &entry.batch.header;
        match &result {
            Ok(_) => traffic.appended(header.size().unwrap_or(0), header.record_count),
            Err(_) => traffic.refused(),
        }
        let written = result.map(|appended| Written {
            appended,
            // A repeated batch is not stored. As in Kafka, the answer has the append time of the stored one, whatever the
            // topic's timestamp type.
            log_append_time: appended.duplicate_of.or(entry.batch.log_append_time),
            partition: Arc::clone(&group.partition),
        });
        let written = written.map_err(|refused| Failure::from(&refused).by(&group.partition));
        entry.request.outcomes.borrow_mut().partitions[entry.outcome].end(written);
    }
}

/// A partition of the response whose records are not replicated yet.
struct Waiting {
    /// The position of its topic in the response.
    topic: usize,
    /// Its position in the topic.
    partition: usize,
    replicated: oneshot::Receiver<Result<(), Unavailable>>,
}

/// Waits until the appended records are replicated. Partitions that are not by `timeout` are answered with
/// `REQUEST_TIMED_OUT`. Their records stay in the log, and their offsets in the answer, as in Kafka.
async fn wait(
    response: ProduceResponseData,
    waiting: Vec<Waiting>,
    timeout: Duration,
) -> ProduceResponseData {
    let mut response = response;
    let mut timer = std::pin::pin!(tokio::time::sleep(timeout));
    for Waiting {
        topic,
        partition,
        mut replicated,
    } in waiting
    {
        let outcome = tokio::select! {
            biased;
            outcome = &mut replicated => {
                let outcome = outcome.unwrap_or(Err(Unavailable::Gone));
                outcome.map_err(|error| error.code())
            }
            () = &mut timer => Err(ErrorCode::RequestTimedOut),
        };
        if let Err(code) = outcome {
            response.responses[topic].partition_responses[partition].error_code = code.code();
        }
    }
    response
}

/// The response under construction, topics in the order of the request.
struct Response {
    data: ProduceResponseData,
}

impl Response {
    fn new(body: ProduceRequestData, topics: &[usize]) -> Self {
        let mut named = body.topic_data;
        let topics = topics.iter().map(|topic| {
            let topic = &mut named[*topic];
            TopicProduceResponse::default()
                .with_name(std::mem::take(&mut topic.name))
                .with_topic_id(topic.topic_id)
        });
        Self {
            data: ProduceResponseData::default().with_responses(topics.collect()),
        }
    }

    /// Adds the answer for one partition; returns its position in the topic.
    fn add(&mut self, topic: usize, index: i32, result: Result<Written, Failure>) -> usize {
        let answer = PartitionProduceResponse::default().with_index(index);
        let answer = match result {
            Ok(written) => {
                let log_start = written
                    .partition
                    .offsets()
                    .map_or(-1, |offsets| offsets.log_start.0);
                answer
                    .with_base_offset(written.appended.first_offset.0)
                    .with_log_append_time_ms(written.log_append_time.map_or(-1, |time| time.0))
                    .with_log_start_offset(log_start)
            }
            Err(failure) => {
                let message = failure.message.map(KafkaString::from);
                answer
                    .with_error_code(failure.code.code())
                    .with_base_offset(-1)
                    .with_log_start_offset(failure.log_start)
                    .with_record_errors(failure.records)
                    .with_error_message(message)
            }
        };
        let partitions = &mut self.data.responses[topic].partition_responses;
        partitions.push(answer);
        partitions.len() - 1
    }
}

impl Failure {
    fn of(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            records: Vec::new(),
            log_start: -1,
        }
    }

    /// The text for the log, for a client that gets no answer.
    fn reason(&self) -> String {
        match &self.message {
            Some(message) => format!("{:?}: {message}", self.code),
            None => format!("{:?}", self.code),
        }
    }

    /// The failure with the log start offset of `partition`, unless Kafka's answer lacks it for this error.
    fn by(self, partition: &Partition) -> Self {
        let lacks_it = matches!(
            self.code,
            ErrorCode::UnknownTopicOrPartition
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::MessageTooLarge
                | ErrorCode::RecordListTooLarge
                | ErrorCode::CorruptMessage
                | ErrorCode::KafkaStorageError
        );
        let log_start = match partition.offsets() {
            Ok(offsets) if !lacks_it => offsets.log_start.0,
            _ => -1,
        };
        Self { log_start, ..self }
    }
}

impl From<&Refused> for Failure {
    fn from(refused: &Refused) -> Self {
        Self {
            message: Some(refused.to_string()),
            ..Self::of(refused.code())
        }
    }
}

impl From<RejectedBatch> for Failure {
    fn from(rejected: RejectedBatch) -> Self {
        let message = Some(rejected.to_string());
        let code = rejected.code();
        let records = match rejected {
            RejectedBatch::Records(records) | RejectedBatch::Timestamps(records) => records,
            _ => Vec::new(),
        };
        let records = records.into_iter().map(|record| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(record.index)
                .with_batch_index_error_message(Some(KafkaString::from(record.message)))
        });
        Self {
            message,
            records: records.collect(),
            ..Self::of(code)
        }
    }
}
