//! Metadata as tests of the broker need it, without a controller that decides it.

use ottla_metadata::MetadataDelta;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::{PartitionRecord, TopicRecord};

/// Adds a topic whose partitions node 1 leads in `leader_epoch`.
pub fn add_topic(
    delta: &mut MetadataDelta,
    (name, topic_id): (&str, Uuid),
    partitions: i32,
    leader_epoch: i32,
) {
    let topic = TopicRecord {
        name: name.into(),
        topic_id,
        ..TopicRecord::default()
    };
    delta.replay(&topic.into());
    for partition_id in 0..partitions {
        let partition = PartitionRecord {
            partition_id,
            topic_id,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch,
            ..PartitionRecord::default()
        };
        delta.replay(&partition.into());
    }
}
