//! Deletes offsets that a group has committed.

use std::collections::BTreeSet;

use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestData, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};

use crate::{ClientError, Cluster, Result, TopicPartition};

impl Cluster {
    /// Deletes the offsets that a group has committed for some partitions.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<()> {
        let topics = crate::offsets::by_topic(partitions)
            .into_iter()
            .map(|(name, indexes)| {
                let partition = |partition_index| OffsetDeleteRequestPartition {
                    partition_index,
                    ..OffsetDeleteRequestPartition::default()
                };
                OffsetDeleteRequestTopic {
                    name: KafkaString::from(name.to_owned()),
                    partitions: indexes.into_iter().map(partition).collect(),
                    ..OffsetDeleteRequestTopic::default()
                }
            });
        let request = OffsetDeleteRequestData {
            group_id: KafkaString::from(group.to_owned()),
            topics: topics.collect(),
            ..OffsetDeleteRequestData::default()
        };
        let coordinator = self.coordinator(group).await?;
        let response = self.call(coordinator, &request).await?;
        ClientError::check(
            response.error_code,
            None,
            format!("offsets of group {group}"),
        )?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let what = format!("offset of {}-{}", topic.name, partition.partition_index);
                ClientError::check(partition.error_code, None, what)?;
            }
        }
        Ok(())
    }
}
