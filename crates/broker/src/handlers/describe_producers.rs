//! `DescribeProducers` (key 61), version 0.
//!
//! The active producers of a partition, with their sequence numbers and open transactions.

use ottla_controller::topic_names;
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use ottla_protocol::messages::{
    DescribeProducersRequestData, DescribeProducersResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Lists the producers of each partition.
pub fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeProducersRequestData,
) -> DescribeProducersResponseData {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let answer = PartitionResponse::default().with_partition_index(*index);
            match describe(broker, topic.name.as_str(), *index) {
                Ok(producers) => answer.with_active_producers(producers),
                Err(code) => answer.with_error_code(code.code()),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default()
            .with_partitions(partitions)
            .with_name(topic.name)
    });
    DescribeProducersResponseData::default().with_topics(topics.collect())
}

fn describe(broker: &Broker, topic: &str, index: i32) -> Result<Vec<ProducerState>, ErrorCode> {
    if topic_names::check(topic).is_err() {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = broker
        .replicas
        .by_name(topic, PartitionIndex(index))
        .or_code()?;
    let producers = partition.with_leader_log(None, |log| {
        let producers = log.producers().producers().iter();
        let states = producers.map(|(id, entry)| {
            ProducerState::default()
                .with_producer_id(id.0)
                .with_producer_epoch(entry.epoch.0.into())
                .with_last_sequence(entry.last_sequence())
                .with_last_timestamp(entry.last_timestamp.0)
                .with_coordinator_epoch(entry.coordinator_epoch)
                .with_current_txn_start_offset(
                    entry.transaction_first_offset.map_or(-1, |offset| offset.0),
                )
        });
        states.collect()
    });
    producers.map_err(|error| error.code())
}
