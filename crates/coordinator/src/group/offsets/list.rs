//! Every committed offset of a shard: the broker computes the lag of its groups from them.

use crate::shard::Shard;

/// A request for every committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListOffsetsRequest;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOffset {
    pub group_id: String,
    /// The name of the topic.
    pub topic: String,
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
}

impl Shard {
    /// Every committed offset, ordered by group, topic, and partition.
    pub fn list_offsets(&self) -> Vec<StoredOffset> {
        let mut offsets = Vec::new();
        for (group_id, topics) in self.state().offsets().groups() {
            for (topic, partitions) in topics {
                offsets.extend(
                    partitions
                        .iter()
                        .map(|(partition, committed)| StoredOffset {
                            group_id: group_id.to_owned(),
                            topic: topic.clone(),
                            partition: *partition,
                            offset: committed.offset,
                        }),
                );
            }
        }
        offsets
    }
}
