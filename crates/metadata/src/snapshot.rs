//! An image as records, for a snapshot.
//!
//! Replayed into an empty image, these records give the same image. `metadata.version` comes first, because it decides the
//! versions of the other records.

use ottla_protocol::messages::metadata::client_quota_record::EntityData;
use ottla_protocol::messages::metadata::{
    ClientQuotaRecord, ConfigRecord, FeatureLevelRecord, MetadataRecord, ProducerIdsRecord,
    TopicRecord,
};

use crate::image::MetadataImage;
use crate::versions;

/// The records that give `image` when they are replayed into an empty one.
pub fn records(image: &MetadataImage) -> Vec<MetadataRecord> {
    let mut out = Vec::new();
    features(image, &mut out);
    out.extend(
        image
            .brokers
            .values()
            .map(|broker| broker.to_record().into()),
    );
    out.extend(
        image
            .controllers
            .values()
            .map(|controller| controller.to_record().into()),
    );
    topics(image, &mut out);
    configs(image, &mut out);
    quotas(image, &mut out);
    producer_ids(image, &mut out);
    out.extend(image.acls.values().cloned().map(Into::into));
    out.extend(image.scram.values().cloned().map(Into::into));
    out.extend(image.delegation_tokens.values().cloned().map(Into::into));
    out
}

fn features(image: &MetadataImage, out: &mut Vec<MetadataRecord>) {
    let level = |name: &str, feature_level| {
        MetadataRecord::from(FeatureLevelRecord {
            name: name.to_owned(),
            feature_level,
            ..FeatureLevelRecord::default()
        })
    };
    let first = image.features.get_key_value(versions::FEATURE);
    let rest = image
        .features
        .iter()
        .filter(|(name, _)| *name != versions::FEATURE);
    out.extend(
        first
            .into_iter()
            .chain(rest)
            .map(|(name, value)| level(name, *value)),
    );
}

fn topics(image: &MetadataImage, out: &mut Vec<MetadataRecord>) {
    for topic in image.topics.values() {
        out.push(
            TopicRecord {
                name: topic.name.clone(),
                topic_id: topic.id,
                ..TopicRecord::default()
            }
            .into(),
        );
        for (index, partition) in &topic.partitions {
            out.push(partition.to_record(topic.id, *index).into());
        }
    }
}

fn configs(image: &MetadataImage, out: &mut Vec<MetadataRecord>) {
    for (resource, configs) in &image.configs {
        out.extend(configs.iter().map(|(name, value)| {
            MetadataRecord::from(ConfigRecord {
                resource_type: resource.kind.code(),
                resource_name: resource.name.clone(),
                name: name.clone(),
                value: Some(value.clone()),
                ..ConfigRecord::default()
            })
        }));
    }
}

fn quotas(image: &MetadataImage, out: &mut Vec<MetadataRecord>) {
    for (entity, quotas) in &image.quotas {
        let entity: Vec<EntityData> = entity
            .iter()
            .map(|(entity_type, entity_name)| EntityData {
                entity_type: entity_type.clone(),
                entity_name: entity_name.clone(),
                ..EntityData::default()
            })
            .collect();
        out.extend(quotas.iter().map(|(key, value)| {
            MetadataRecord::from(ClientQuotaRecord {
                entity: entity.clone(),
                key: key.clone(),
                value: *value,
                ..ClientQuotaRecord::default()
            })
        }));
    }
}

fn producer_ids(image: &MetadataImage, out: &mut Vec<MetadataRecord>) {
    if image.next_producer_id > 0 {
        out.push(
            ProducerIdsRecord {
                broker_id: -1,
                broker_epoch: -1,
                next_producer_id: image.next_producer_id,
                ..ProducerIdsRecord::default()
            }
            .into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::records;
    use crate::{MetadataDelta, MetadataImage};
    use ottla_protocol::ids::Uuid;
    use ottla_protocol::messages::metadata::{
        BrokerRegistrationChangeRecord, ConfigRecord, FeatureLevelRecord, MetadataRecord,
        PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord,
        RemoveTopicRecord, TopicRecord,
    };

    fn replayed(records: &[MetadataRecord]) -> MetadataImage {
        let mut delta = MetadataDelta::new(MetadataImage::default());
        for record in records {
            // Through bytes, so that the test notices a field that the record version lacks.
            let version = delta.image().metadata_version().record_version(record);
            let bytes = record.encode(version).unwrap();
            delta.replay(&MetadataRecord::decode(bytes).unwrap());
        }
        delta.finish().0
    }

    fn topic(number: u64, name: &str) -> [MetadataRecord; 2] {
        let topic_id = Uuid::from_parts(9, number);
        let partition = PartitionRecord {
            topic_id,
            partition_id: 0,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            directories: vec![Uuid::from_parts(7, 7)],
            ..PartitionRecord::default()
        };
        let name = name.to_owned();
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

    fn history() -> Vec<MetadataRecord> {
        let mut log: Vec<MetadataRecord> = vec![
            FeatureLevelRecord {
                name: "metadata.version".into(),
                feature_level: 30,
                ..FeatureLevelRecord::default()
            }
            .into(),
            RegisterBrokerRecord {
                broker_id: 1,
                broker_epoch: 5,
                fenced: true,
                log_dirs: vec![Uuid::from_parts(7, 7)],
                ..RegisterBrokerRecord::default()
            }
            .into(),
            BrokerRegistrationChangeRecord {
                broker_id: 1,
                broker_epoch: 5,
                fenced: -1,
                ..BrokerRegistrationChangeRecord::default()
            }
            .into(),
        ];
        log.extend(topic(1, "kept"));
        log.extend(topic(2, "removed"));
        for (name, value) in [("kept", "1"), ("removed", "2")] {
            log.push(
                ConfigRecord {
                    resource_type: 2,
                    resource_name: name.into(),
                    name: "retention.ms".into(),
                    value: Some(value.into()),
                    ..ConfigRecord::default()
                }
                .into(),
            );
        }
        log.push(
            PartitionChangeRecord {
                topic_id: Uuid::from_parts(9, 1),
                partition_id: 0,
                leader: 1,
                ..PartitionChangeRecord::default()
            }
            .into(),
        );
        log.push(
            ProducerIdsRecord {
                next_producer_id: 3000,
                ..ProducerIdsRecord::default()
            }
            .into(),
        );
        log.push(
            RemoveTopicRecord {
                topic_id: Uuid::from_parts(9, 2),
                ..RemoveTopicRecord::default()
            }
            .into(),
        );
        log
    }

    #[test]
    fn the_image_of_a_snapshot_is_the_image_of_the_log() {
        let log = history();
        for end in 0..=log.len() {
            let image = replayed(&log[..end]);
            assert_eq!(replayed(&records(&image)), image, "after {end} records");
        }
    }

    #[test]
    fn a_removed_topic_takes_its_configs_with_it() {
        let image = replayed(&history());
        assert!(image.topic("removed").is_none());
        assert_eq!(image.configs.len(), 1);
    }

    #[test]
    fn naming_a_leader_raises_the_leader_epoch_even_for_the_same_leader() {
        let image = replayed(&history());
        let partition =
            &image.topic("kept").unwrap().partitions[&ottla_protocol::ids::PartitionIndex(0)];
        assert_eq!(partition.leader_epoch.0, 1);
        assert_eq!(partition.partition_epoch, 1);
    }
}
