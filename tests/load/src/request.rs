//! The produce request for loads that build their own batches.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequestData, TopicProduceData,
};
use ottla_protocol::records::BatchBuilder;

/// The topic and the terms of a request.
#[derive(Debug)]
pub struct Terms<'a> {
    pub topic: &'a str,
    pub acks: i16,
    /// How long the broker may wait for other brokers.
    pub timeout: Duration,
}

/// A request with a batch for each of these partitions.
pub fn produce(
    terms: &Terms<'_>,
    batches: impl IntoIterator<Item = (i32, BatchBuilder)>,
) -> Result<ProduceRequestData> {
    let batches = batches.into_iter().map(|(index, batch)| {
        let records = batch.build().context("every batch has a record")?;
        Ok(PartitionProduceData {
            index,
            records: Some(Bytes::from(records)),
            ..PartitionProduceData::default()
        })
    });
    let topic = TopicProduceData {
        name: KafkaString::from(terms.topic.to_owned()),
        partition_data: batches.collect::<Result<_>>()?,
        ..TopicProduceData::default()
    };
    Ok(ProduceRequestData {
        acks: terms.acks,
        timeout_ms: i32::try_from(terms.timeout.as_millis())?,
        topic_data: vec![topic],
        ..ProduceRequestData::default()
    })
}
