//! The Produce request: batches of many partitions to one leader, and what became of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequestData, TopicProduceData,
};
use tokio::time;

use super::{Acks, Sealed, Sent, refused};
use crate::error::ErrorCode;
use crate::{ClientError, Cluster, Connection, Result, TopicPartition};

/// The most bytes of batches in one request.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// How long a batch waits after an error that passes.
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

/// One request.
pub(super) async fn send_batches(
    cluster: Arc<Cluster>,
    leader: i32,
    acks: Acks,
    batches: Vec<(TopicPartition, Sealed)>,
) -> Vec<Sent> {
    let Exchanged {
        mut results,
        unacknowledged_on,
    } = request(&cluster, leader, acks, &batches).await;
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
                unacknowledged_on: unacknowledged_on.clone(),
            }
        })
        .collect();
    hold_back(sent).await
}

/// What failed for a reason that passes comes back a little later, so that trying again does not turn in circles.
pub(super) async fn hold_back(sent: Vec<Sent>) -> Vec<Sent> {
    let passes = |sent: &Sent| matches!(&sent.result, Err(error) if error.is_retriable());
    if sent.iter().any(passes) {
        time::sleep(PAUSE).await;
    }
    sent
}

/// What became of a request.
struct Exchanged {
    results: BTreeMap<TopicPartition, Result<i64>>,
    unacknowledged_on: Option<Arc<Connection>>,
}

impl From<BTreeMap<TopicPartition, Result<i64>>> for Exchanged {
    fn from(results: BTreeMap<TopicPartition, Result<i64>>) -> Self {
        Self {
            results,
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
    match exchange(cluster, leader, acks, batches).await {
        Ok(exchanged) => exchanged,
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
            let partitions = batches.iter().map(|(partition, _)| partition.clone());
            partitions.map(each).collect::<BTreeMap<_, _>>().into()
        }
    }
}

async fn exchange(
    cluster: &Cluster,
    leader: i32,
    acks: Acks,
    batches: &[(TopicPartition, Sealed)],
) -> Result<Exchanged> {
    let connection = cluster.node(leader).await?;
    let request = produce_request(acks, cluster.options().request_timeout, batches);
    if acks == Acks::Zero {
        connection.send(&request).await?;
        let partitions = batches.iter().map(|(partition, _)| partition.clone());
        return Ok(Exchanged {
            results: partitions.map(|partition| (partition, Ok(-1))).collect(),
            unacknowledged_on: Some(connection),
        });
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
    Ok(results.into())
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
