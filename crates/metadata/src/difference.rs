//! What differs between two images, for a follower that has loaded a snapshot in place of the records between them.

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use ottla_protocol::ids::Uuid;

use crate::image::Topic;
use crate::{Changes, MetadataImage};

impl Changes {
    /// The changes that lead from `before` to `after`. Equal parts of persistent maps are not walked.
    pub fn between(before: &MetadataImage, after: &MetadataImage) -> Self {
        let mut changes = Self {
            configs: changed_keys(&before.configs, &after.configs).collect(),
            brokers: changed_keys(&before.brokers, &after.brokers).collect(),
            features: before.features != after.features,
            ..Self::default()
        };
        for item in before.topics.diff(&after.topics) {
            match item {
                DiffItem::Add(id, topic) => changes.add_partitions(*id, None, topic),
                DiffItem::Update {
                    old: (_, old),
                    new: (id, topic),
                } => changes.add_partitions(*id, Some(old), topic),
                DiffItem::Remove(id, topic) => {
                    changes.deleted_topics.insert(*id, topic.name.clone());
                }
            }
        }
        changes
    }

    fn add_partitions(&mut self, id: Uuid, before: Option<&Arc<Topic>>, after: &Arc<Topic>) {
        let none = OrdMap::default();
        let before = before.map_or(&none, |topic| &topic.partitions);
        for index in changed_keys(before, &after.partitions) {
            self.partitions.insert((id, index));
        }
    }
}

/// The keys that only one of the maps has, or whose values differ.
fn changed_keys<K: Ord + Clone, V: PartialEq>(
    before: &OrdMap<K, V>,
    after: &OrdMap<K, V>,
) -> impl Iterator<Item = K> {
    before.diff(after).map(|item| match item {
        DiffItem::Add(key, _)
        | DiffItem::Remove(key, _)
        | DiffItem::Update { new: (key, _), .. } => key.clone(),
    })
}

#[cfg(test)]
mod tests {
    use crate::{Changes, Loader, MetadataImage};
    use ottla_protocol::ids::{PartitionIndex, Uuid};
    use ottla_protocol::messages::metadata::{
        ConfigRecord, FeatureLevelRecord, MetadataRecord, PartitionChangeRecord, PartitionRecord,
        RegisterBrokerRecord, RemoveTopicRecord, TopicRecord, UnregisterBrokerRecord,
    };
    use proptest::prelude::*;

    fn id(topic: u64) -> Uuid {
        Uuid::from_parts(7, topic)
    }

    fn create(topic: u64) -> [MetadataRecord; 2] {
        let name = format!("t{topic}");
        let partition = PartitionRecord {
            topic_id: id(topic),
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            ..PartitionRecord::default()
        };
        let topic_id = id(topic);
        [
            TopicRecord {
                name,
                topic_id,
                ..TopicRecord::default()
            }
            .into(),
            partition.into(),
        ]
    }

    fn records(choice: (u8, u64)) -> Vec<MetadataRecord> {
        let (kind, number) = choice;
        match kind {
            0 => create(number).to_vec(),
            1 => vec![
                RemoveTopicRecord {
                    topic_id: id(number),
                    ..RemoveTopicRecord::default()
                }
                .into(),
            ],
            2 => vec![
                PartitionChangeRecord {
                    topic_id: id(number),
                    leader: -1,
                    ..PartitionChangeRecord::default()
                }
                .into(),
            ],
            3 => vec![
                ConfigRecord {
                    resource_type: 2,
                    resource_name: format!("t{number}"),
                    name: "retention.ms".to_owned(),
                    value: Some(number.to_string()),
                    ..ConfigRecord::default()
                }
                .into(),
            ],
            4 => vec![
                RegisterBrokerRecord {
                    broker_id: i32::try_from(number).unwrap(),
                    ..RegisterBrokerRecord::default()
                }
                .into(),
            ],
            5 => vec![
                UnregisterBrokerRecord {
                    broker_id: i32::try_from(number).unwrap(),
                    ..UnregisterBrokerRecord::default()
                }
                .into(),
            ],
            _ => vec![
                FeatureLevelRecord {
                    name: "group.version".to_owned(),
                    feature_level: i16::try_from(number).unwrap(),
                    ..FeatureLevelRecord::default()
                }
                .into(),
            ],
        }
    }

    proptest! {
        /// The difference has what replaying has, except for what was changed and changed back.
        #[test]
        fn replaying_and_comparing_agree(
            first in prop::collection::vec((0_u8..7, 1_u64..4), 0..20),
            second in prop::collection::vec((0_u8..7, 1_u64..4), 0..20),
        ) {
            let mut loader = Loader::new(MetadataImage::default());
            loader.load(&first.into_iter().flat_map(records).collect::<Vec<_>>());
            let before = loader.image().clone();
            let replayed = loader.load(&second.into_iter().flat_map(records).collect::<Vec<_>>());
            let after = loader.image();
            let compared = Changes::between(&before, after);
            for place in &compared.partitions {
                let (topic, index): &(Uuid, PartitionIndex) = place;
                prop_assert!(replayed.partitions.contains(place));
                prop_assert!(after.topics[topic].partitions.contains_key(index));
            }
            for (topic, index) in &replayed.partitions {
                let of = |image: &MetadataImage| {
                    let topic = image.topics.get(topic);
                    topic.and_then(|topic| topic.partitions.get(index).cloned())
                };
                let differs = of(&before) != of(after) && of(after).is_some();
                prop_assert_eq!(differs, compared.partitions.contains(&(*topic, *index)));
            }
            for topic in compared.deleted_topics.keys() {
                prop_assert!(before.topics.contains_key(topic));
                prop_assert!(!after.topics.contains_key(topic));
            }
            prop_assert!(compared.configs.is_subset(&replayed.configs));
            prop_assert!(compared.brokers.is_subset(&replayed.brokers));
            prop_assert_eq!(compared == Changes::default(), before == *after);
        }
    }
}
