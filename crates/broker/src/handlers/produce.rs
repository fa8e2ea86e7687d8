//! `Produce` (key 0), versions 3 to 13; announced from 0, see `api_versions`.
//!
//! - 3: record batches of magic 2 only; transactional id. 5: log start offset in the answer.
//! - 7: zstd. 8: errors of single records, and messages. 9: flexible.
//! - 10: the current leader beside `NOT_LEADER_OR_FOLLOWER`. 13: topics by id.
//!
//! All requests that have arrived together are appended together: what they hold for one partition goes into it with
//! one write. Batches are checked before the partition's lock is taken, and are not copied unless they must change.

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

/// The answer of one Produce request.
pub enum ProduceReply {
    /// The client asked for none (acks=0).
    None,
    /// The client asked for none, and its records were not all appended, for this reason.
    Close(String),
    /// Known at once.
    Ready(ProduceResponseData),
    /// Known when its records are on stable storage and replicated, or its time is up.
    Later(Pin<Box<dyn Future<Output = ProduceResponseData> + Send>>),
}

/// What became of one partition's records.
struct Outcome {
    /// The place of its topic in the response.
    topic: usize,
    index: i32,
    result: Result<Written, Failure>,
    /// Whether the result stands, whatever is appended.
    is_refused: bool,
}

/// What became of one request's records.
#[derive(Default)]
struct Outcomes {
    /// For each topic of the response, where the request first names it.
    topics: Vec<usize>,
    partitions: Vec<Outcome>,
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
    request: usize,
    outcome: usize,
    acks: RequiredAcks,
    batch: ValidBatch<'a>,
}

/// What goes into one partition, in the order of arrival.
struct Group<'a> {
    partition: Arc<Partition>,
    entries: Vec<Entry<'a>>,
}

/// Appends the records of all `requests` and returns one reply for each, in their order.
pub fn start(
    broker: &Arc<Broker>,
    requests: Vec<(RequestContext, ProduceRequestData)>,
) -> Vec<ProduceReply> {
    let now = broker.clock.now();
    let mut outcomes: Vec<Outcomes> = Vec::with_capacity(requests.len());
    let mut groups = Groups::default();
    for (request, (context, body)) in requests.iter().enumerate() {
        outcomes.push(check_request(
            broker,
            (request, context, body),
            now,
            &mut groups,
        ));
    }
    let groups = groups.in_order.iter();
    for group in groups.filter(|group| !group.entries.is_empty()) {
        append(group, now, &mut outcomes);
    }
    requests
        .into_iter()
        .zip(outcomes)
        .map(|((_, body), outcomes)| reply(body, outcomes))
        .collect()
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

    /// Takes back what `request` has added for a partition.
    fn withdraw(&mut self, partition: &Arc<Partition>, request: usize) {
        let place = self.by_partition.get(&Arc::as_ptr(partition));
        if let Some(group) = place.and_then(|place| self.in_order.get_mut(*place)) {
            group.entries.pop_if(|entry| entry.request == request);
        }
    }
}

/// Finds and checks what one request holds; what may be appended goes into `groups`, what may not is an outcome.
///
/// A request that names a partition more than once ends as on Kafka, which keeps what is to be appended by partition: the
/// last batch counts, the others are not appended, and there is one answer. Bytes that are no batch are answered with
/// their error. The batch before them is appended all the same.
fn check_request<'a>(
    broker: &Broker,
    (request, context, body): (usize, &RequestContext, &'a ProduceRequestData),
    now: Now,
    groups: &mut Groups<'a>,
) -> Outcomes {
    let mut places = Places::default();
    let mut outcomes = Outcomes::default();
    let acks = if body.acks == -1 {
        RequiredAcks::All
    } else {
        RequiredAcks::Leader
    };
    for (topic, topic_data) in body.topic_data.iter().enumerate() {
        for data in &topic_data.partition_data {
            let (outcome, is_again) = places.of((topic, topic_data), data.index, &mut outcomes);
            let found = find(broker, context, topic_data, data.index).and_then(|partition| {
                let records = data.records.as_ref().map_or(&[][..], Bytes::as_ref);
                Ok((first_batch(records, context.version)?, partition))
            });
            let (batch, partition) = match found {
                Ok(found) => found,
                Err(failure) => {
                    outcomes.partitions[outcome].refuse(failure);
                    continue;
                }
            };
            if is_again {
                groups.withdraw(&partition, request);
            }
            let checked = check_request_for(&partition, context, body)
                .and_then(|()| check_batch(body, &partition, &batch, now));
            match checked {
                Ok(batch) => {
                    let entry = Entry {
                        request,
                        outcome,
                        acks,
                        batch,
                    };
                    groups.add(&partition, entry);
                }
                Err(failure) => outcomes.partitions[outcome].end(Err(failure)),
            }
        }
    }
    outcomes
}

/// Where the outcomes of a request's partitions are.
#[derive(Default)]
struct Places<'a> {
    topics: BTreeMap<(&'a str, Uuid), usize>,
    partitions: BTreeMap<(usize, i32), usize>,
}

impl<'a> Places<'a> {
    /// The outcome of a partition, and whether the request has named it before.
    fn of(
        &mut self,
        (topic, data): (usize, &'a TopicProduceData),
        index: i32,
        outcomes: &mut Outcomes,
    ) -> (usize, bool) {
        let Outcomes { topics, partitions } = outcomes;
        let known = self.topics.entry((data.name.as_str(), data.topic_id));
        let topic = *known.or_insert_with(|| {
            topics.push(topic);
            topics.len() - 1
        });
        let known = partitions.len();
        let place = *self.partitions.entry((topic, index)).or_insert(known);
        if place == known {
            partitions.push(Outcome {
                topic,
                index,
                // Stands until the append gives the offsets.
                result: Err(Failure::of(ErrorCode::UnknownServerError)),
                is_refused: false,
            });
        }
        (place, place < known)
    }
}

impl Outcome {
    fn refuse(&mut self, failure: Failure) {
        self.result = Err(failure);
        self.is_refused = true;
    }

    fn end(&mut self, result: Result<Written, Failure>) {
        if !self.is_refused {
            self.result = result;
        }
    }
}

/// What Kafka looks at once it knows that the topic exists and the records are one batch: first the acks.
fn check_request_for(
    partition: &Partition,
    context: &RequestContext,
    body: &ProduceRequestData,
) -> Result<(), Failure> {
    if !matches!(body.acks, -1..=1) {
        return Err(Failure::of(ErrorCode::InvalidRequiredAcks));
    }
    if is_internal(&partition.topic) && context.client_id() != ADMIN_CLIENT {
        return Err(Failure::of(ErrorCode::InvalidTopicException));
    }
    Ok(())
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

/// The batch to append: as received, unless a header field or the records had to change.
fn check_batch<'a>(
    body: &ProduceRequestData,
    partition: &Partition,
    batch: &BatchView<'a>,
    now: Now,
) -> Result<ValidBatch<'a>, Failure> {
    if batch.header().is_transactional() {
        if body.transactional_id.is_none() {
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

fn append(group: &Group<'_>, now: Now, outcomes: &mut [Outcomes]) {
    let batches: Vec<[Batch<'_>; 1]> = group
        .entries
        .iter()
        .map(|entry| [Batch::from(&entry.batch)])
        .collect();
    let pairs = group.entries.iter().zip(&batches);
    let appends = pairs.map(|(entry, batches)| Append {
        batches,
        acks: entry.acks,
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
            // As in Kafka, whatever the topic's timestamp type: what is stored is the first batch's, not the repetition's.
            log_append_time: appended.duplicate_of.or(entry.batch.log_append_time),
            partition: Arc::clone(&group.partition),
        });
        let written = written.map_err(|refused| Failure::from(&refused).by(&group.partition));
        outcomes[entry.request].partitions[entry.outcome].end(written);
    }
}

fn reply(body: ProduceRequestData, outcomes: Outcomes) -> ProduceReply {
    let Outcomes {
        topics,
        partitions: outcomes,
    } = outcomes;
    let acks = body.acks;
    let timeout = Duration::from_millis(body.timeout_ms.max(0).cast_unsigned().into());
    if acks == 0 {
        let mut failures = outcomes
            .iter()
            .filter_map(|outcome| outcome.result.as_ref().err());
        return failures.next().map_or(ProduceReply::None, |failure| {
            ProduceReply::Close(failure.reason())
        });
    }
    let mut response = Response::new(body, &topics);
    let mut waiting = Vec::new();
    for outcome in outcomes {
        let replicated = match &outcome.result {
            Ok(written) if acks == -1 => {
                replicated(&written.partition, written.appended.last_offset.plus(1))
            }
            _ => None,
        };
        let place = response.add(outcome);
        if let Some(replicated) = replicated {
            waiting.push((place, replicated));
        }
    }
    if waiting.is_empty() {
        return ProduceReply::Ready(response.data);
    }
    ProduceReply::Later(Box::pin(wait(response.data, waiting, timeout)))
}

type Waiting = ((usize, usize), oneshot::Receiver<Result<(), Unavailable>>);

/// Waits until all that was appended is replicated, or `timeout` has passed: what is not by then has timed out. It is in
/// the log nevertheless: the offsets stay in the answer, as in Kafka's.
async fn wait(
    response: ProduceResponseData,
    waiting: Vec<Waiting>,
    timeout: Duration,
) -> ProduceResponseData {
    let mut response = response;
    let mut timer = std::pin::pin!(tokio::time::sleep(timeout));
    for ((topic, partition), mut replicated) in waiting {
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

    /// Adds what became of one partition; returns where it stands.
    fn add(&mut self, outcome: Outcome) -> (usize, usize) {
        let answer = PartitionProduceResponse::default().with_index(outcome.index);
        let answer = match outcome.result {
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
        let partitions = &mut self.data.responses[outcome.topic].partition_responses;
        partitions.push(answer);
        (outcome.topic, partitions.len() - 1)
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

    /// For the log, where the client is told nothing.
    fn reason(&self) -> String {
        match &self.message {
            Some(message) => format!("{:?}: {message}", self.code),
            None => format!("{:?}", self.code),
        }
    }

    /// The same, said by `partition`: with its log start offset, but where Kafka's answer lacks it.
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
