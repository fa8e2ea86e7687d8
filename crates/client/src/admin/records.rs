//! Deletes the oldest records of partitions (DeleteRecords).

use std::collections::BTreeMap;

use ottla_protocol::messages::DeleteRecordsRequestData;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::messages::{DeleteRecordsResponseData, KafkaString};

use crate::{ClientError, Cluster, Result, TopicPartition};

impl Cluster {
    /// Deletes the records below these offsets. Returns for each partition its new first offset, or why nothing was
    /// deleted.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Result<i64>>> {
        let partitions = before.keys().cloned().collect();
        let mut results = BTreeMap::new();
        for (leader, partitions) in self.by_leader(&partitions).await? {
            let request = DeleteRecordsRequestData {
                topics: topics(&partitions, before),
                timeout_ms: self.timeout_ms(),
                ..DeleteRecordsRequestData::default()
            };
            let response = self.call(leader, &request).await?;
            take_results(&response, &mut results);
        }
        Ok(results)
    }
}

fn topics(
    partitions: &[TopicPartition],
    before: &BTreeMap<TopicPartition, i64>,
) -> Vec<DeleteRecordsTopic> {
    let by_topic = crate::offsets::by_topic(partitions).into_iter();
    let topic = |(name, indexes): (&str, Vec<i32>)| DeleteRecordsTopic {
        name: KafkaString::from(name.to_owned()),
        partitions: indexes
            .into_iter()
            .map(|partition_index| DeleteRecordsPartition {
                partition_index,
                offset: before[&TopicPartition::new(name, partition_index)],
                ..DeleteRecordsPartition::default()
            })
            .collect(),
        ..DeleteRecordsTopic::default()
    };
    by_topic.map(topic).collect()
}

fn take_results(
    response: &DeleteRecordsResponseData,
    results: &mut BTreeMap<TopicPartition, Result<i64>>,
) {
    for topic in &response.topics {
        for partition in &topic.partitions {
            let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            let what = format!("delete records of {key}");
            let checked = ClientError::check(partition.error_code, None, what);
            results.insert(key, checked.map(|()| partition.low_watermark));
        }
    }
}
