//! The Produce request: batches of many partitions to one leader, and the answer for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequestData, TopicProduceData,
};
use tokio::time;

use super::batch::{Sealed, Sent};
use super::options::Acks;
use crate::error::ErrorCode;
use crate::{ClientError, Cluster, Connection, Result, TopicPartition};

/// The most bytes of batches in one request.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// How long a failed batch waits before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn split_by_size(
    batches: Vec<(TopicPartition, Sealed)>,
) -> Vec<Vec<(TopicPartition, Sealed)>> {
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

/// Sends one request, and returns its batches with their results.
pub(super) async fn send_batches(
    cluster: Arc<Cluster>,
    leader: i32,
    acks: Acks,
    batches: Vec<(TopicPartition, Sealed)>,
) -> Vec<Sent> {
    let Exchanged {
        mut answers,
        unacknowledged_on,
    } = request(&cluster, leader, acks, &batches).await;
    let sent: Vec<_> = batches
        .into_iter()
        .map(|(partition, mut batch)| {
            let answer = answers.remove(&partition).unwrap_or_else(|| {
                let what = format!("produce to {partition}");
                Err(ClientError::refused(what, ErrorCode::UnknownServerError)).into()
            });
            batch.is_in_doubt |= answer.is_in_doubt;
            Sent {
                partition,
                batch,
                result: answer.result,
                unacknowledged_on: unacknowledged_on.clone(),
            }
        })
        .collect();
    hold_back(sent).await
}

/// Delays batches that failed with a retriable error, so that retries do not run in a tight loop.
pub(super) async fn hold_back(sent: Vec<Sent>) -> Vec<Sent> {
    let passes = |sent: &Sent| matches!(&sent.result, Err(error) if error.is_retriable());
    if sent.iter().any(passes) {
        time::sleep(PAUSE).await;
    }
    sent
}

/// The outcome of a request.
struct Exchanged {
    answers: BTreeMap<TopicPartition, Answer>,
    unacknowledged_on: Option<Arc<Connection>>,
}

/// The outcome of one batch in it.
struct Answer {
    result: Result<i64>,
    /// Whether the batch may be in the log although `result` is an error.
    is_in_doubt: bool,
}

impl From<Result<i64>> for Answer {
    fn from(result: Result<i64>) -> Self {
        let is_in_doubt = result.as_ref().is_err_and(ClientError::leaves_doubt);
        Self {
            result,
            is_in_doubt,
        }
    }
}

impl Exchanged {
    /// The request failed, and every batch with it.
    fn failed(error: ClientError, is_in_doubt: bool, batches: &[(TopicPartition, Sealed)]) -> Self {
        let code = if error.is_retriable() {
            ErrorCode::NetworkException
        } else {
            ErrorCode::UnknownServerError
        };
        let mut first = Some(error);
        let each = |(partition, _): &(TopicPartition, Sealed)| {
            let what = format!("produce to {partition}");
            let error = first
                .take()
                .unwrap_or_else(|| ClientError::refused(what, code));
            let answer = Answer {
                result: Err(error),
                is_in_doubt,
            };
            (partition.clone(), answer)
        };
        Self {
            answers: batches.iter().map(each).collect(),
            unacknowledged_on: None,
        }
    }
}

async fn request(
    cluster: &Cluster,
    leader: i32,
    acks: Acks,
    batches: &[(TopicPartition, Sealed)],
) -> Exchanged {
    let connection = match cluster.node(leader).await {
        Ok(connection) => connection,
        // Nothing was sent.
        Err(error) => return Exchanged::failed(error, false, batches),
    };
    let request = produce_request(acks, cluster.options().request_timeout, batches);
    let exchanged = if acks == Acks::Zero {
        send(connection, &request, batches).await
    } else {
        call(&connection, &request).await
    };
    exchanged.unwrap_or_else(|error| {
        let is_in_doubt = error.leaves_doubt();
        Exchanged::failed(error, is_in_doubt, batches)
    })
}

async fn send(
    connection: Arc<Connection>,
    request: &ProduceRequestData,
    batches: &[(TopicPartition, Sealed)],
) -> Result<Exchanged> {
    connection.send(request).await?;
    let partitions = batches.iter().map(|(partition, _)| partition.clone());
    Ok(Exchanged {
        answers: partitions
            .map(|partition| (partition, Answer::from(Ok(-1))))
            .collect(),
        unacknowledged_on: Some(connection),
    })
}

async fn call(connection: &Connection, request: &ProduceRequestData) -> Result<Exchanged> {
    let response = connection.call(request).await?;
    let mut answers = BTreeMap::new();
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
            answers.insert(partition, Answer::from(result));
        }
    }
    Ok(Exchanged {
        answers,
        unacknowledged_on: None,
    })
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
