//! Replays records into an image, and collects what they changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{
    BrokerRegistrationChangeRecord, ClientQuotaRecord, ConfigRecord, FeatureLevelRecord,
    MetadataRecord, PartitionChangeRecord, PartitionRecord,
};

use crate::image::{MetadataImage, QuotaEntity, Topic};
use crate::registration::{FENCE, UNFENCE};
use crate::{BrokerRegistration, ConfigResource, ControllerRegistration, Partition, ResourceKind};

/// What changed, by name; the new values are in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Partitions that are new or differ.
    pub partitions: BTreeSet<(Uuid, PartitionIndex)>,
    /// Deleted topics, with their names.
    pub deleted_topics: BTreeMap<Uuid, String>,
    /// Resources whose dynamic configs differ.
    pub configs: BTreeSet<ConfigResource>,
    /// Brokers that are new, unregistered or differ.
    pub brokers: BTreeSet<NodeId>,
    /// Whether a feature level differs.
    pub features: bool,
}

impl Changes {
    /// Adds what later records changed.
    pub fn extend(&mut self, later: Self) {
        self.partitions.extend(later.partitions);
        self.deleted_topics.extend(later.deleted_topics);
        self.configs.extend(later.configs);
        self.brokers.extend(later.brokers);
        self.features |= later.features;
    }
}

/// An image that records change, and the changes so far.
#[derive(Debug, Clone)]
pub struct MetadataDelta {
    image: MetadataImage,
    changes: Changes,
}

impl MetadataDelta {
    /// Starts from `image`, without changes.
    pub fn new(image: MetadataImage) -> Self {
        Self {
            image,
            changes: Changes::default(),
        }
    }

    /// The image after the records so far.
    pub const fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// The image after all records, and what they changed.
    pub fn finish(self) -> (MetadataImage, Changes) {
        (self.image, self.changes)
    }

    /// Applies one record. The records that begin and end metadata transactions change nothing: the loader handles them.
    ///
    /// A record about something that does not exist changes nothing either. The record is committed, and a broker that
    /// stopped at it could not follow the log any more.
    pub fn replay(&mut self, record: &MetadataRecord) {
        let image = &mut self.image;
        match record {
            MetadataRecord::RegisterBroker(broker) => {
                let registration = Arc::new(BrokerRegistration::from(broker));
                image.brokers.insert(registration.id, registration);
                self.changes.brokers.insert(NodeId(broker.broker_id));
            }
            MetadataRecord::UnregisterBroker(broker) => {
                image.brokers.remove(&NodeId(broker.broker_id));
                self.changes.brokers.insert(NodeId(broker.broker_id));
            }
            MetadataRecord::BrokerRegistrationChange(change) => self.change_broker(change),
            MetadataRecord::FenceBroker(fence) => self.fence(fence.id, FENCE),
            MetadataRecord::UnfenceBroker(unfence) => self.fence(unfence.id, UNFENCE),
            MetadataRecord::RegisterController(controller) => {
                let registration = ControllerRegistration::from(controller);
                image
                    .controllers
                    .insert(registration.id, Arc::new(registration));
            }
            MetadataRecord::UnregisterController(controller) => {
                image.controllers.remove(&NodeId(controller.controller_id));
            }
            MetadataRecord::Topic(topic) => self.create_topic(&topic.name, topic.topic_id),
            MetadataRecord::Partition(partition) => self.create_partition(partition),
            MetadataRecord::PartitionChange(change) => self.change_partition(change),
            MetadataRecord::RemoveTopic(topic) => self.remove_topic(topic.topic_id),
            MetadataRecord::ClearElr(clear) => self.clear_eligible_leaders(&clear.topic_name),
            MetadataRecord::Config(config) => self.set_config(config),
            MetadataRecord::FeatureLevel(feature) => self.set_feature(feature),
            MetadataRecord::ProducerIds(ids) => image.next_producer_id = ids.next_producer_id,
            MetadataRecord::AccessControlEntry(entry) => {
                image.acls.insert(entry.id, entry.clone());
            }
            MetadataRecord::RemoveAccessControlEntry(entry) => {
                image.acls.remove(&entry.id);
            }
            MetadataRecord::UserScramCredential(credential) => {
                let key = (credential.name.clone(), credential.mechanism);
                image.scram.insert(key, credential.clone());
            }
            MetadataRecord::RemoveUserScramCredential(credential) => {
                image
                    .scram
                    .remove(&(credential.name.clone(), credential.mechanism));
            }
            MetadataRecord::ClientQuota(quota) => self.set_quota(quota),
            MetadataRecord::DelegationToken(token) => {
                image
                    .delegation_tokens
                    .insert(token.token_id.clone(), token.clone());
            }
            MetadataRecord::RemoveDelegationToken(token) => {
                image.delegation_tokens.remove(&token.token_id);
            }
            MetadataRecord::NoOp(_)
            | MetadataRecord::ZkMigrationState(_)
            | MetadataRecord::BeginTransaction(_)
            | MetadataRecord::EndTransaction(_)
            | MetadataRecord::AbortTransaction(_) => {}
        }
    }

    fn change_broker(&mut self, change: &BrokerRegistrationChangeRecord) {
        let id = NodeId(change.broker_id);
        if let Some(registration) = self.image.brokers.get_mut(&id) {
            Arc::make_mut(registration).merge(change);
            self.changes.brokers.insert(id);
        }
    }

    fn fence(&mut self, broker_id: i32, fenced: i8) {
        self.change_broker(&BrokerRegistrationChangeRecord {
            broker_id,
            fenced,
            ..BrokerRegistrationChangeRecord::default()
        });
    }

    fn create_topic(&mut self, name: &str, id: Uuid) {
        let topic = Topic {
            name: name.to_owned(),
            id,
            partitions: imbl::OrdMap::new(),
        };
        self.image.topics.insert(id, Arc::new(topic));
        self.image.topic_ids.insert(name.to_owned(), id);
    }

    fn create_partition(&mut self, record: &PartitionRecord) {
        let index = PartitionIndex(record.partition_id);
        if let Some(topic) = self.image.topics.get_mut(&record.topic_id) {
            Arc::make_mut(topic)
                .partitions
                .insert(index, Partition::from(record));
            self.changes.partitions.insert((record.topic_id, index));
        }
    }

    fn change_partition(&mut self, change: &PartitionChangeRecord) {
        let index = PartitionIndex(change.partition_id);
        let Some(topic) = self.image.topics.get_mut(&change.topic_id) else {
            return;
        };
        if let Some(partition) = Arc::make_mut(topic).partitions.get_mut(&index) {
            *partition = partition.merge(change);
            self.changes.partitions.insert((change.topic_id, index));
        }
    }

    fn remove_topic(&mut self, id: Uuid) {
        let Some(topic) = self.image.topics.remove(&id) else {
            return;
        };
        self.image.topic_ids.remove(&topic.name);
        let resource = ConfigResource::topic(topic.name.clone());
        if self.image.configs.remove(&resource).is_some() {
            self.changes.configs.insert(resource);
        }
        self.changes.partitions.retain(|(topic, _)| *topic != id);
        self.changes.deleted_topics.insert(id, topic.name.clone());
    }

    /// An empty name means every topic.
    fn clear_eligible_leaders(&mut self, name: &str) {
        let ids: Vec<Uuid> = if name.is_empty() {
            self.image.topics.keys().copied().collect()
        } else {
            self.image
                .topic_ids
                .get(name)
                .copied()
                .into_iter()
                .collect()
        };
        for id in ids {
            let Some(topic) = self.image.topics.get_mut(&id) else {
                continue;
            };
            let with_elr: Vec<PartitionIndex> = topic
                .partitions
                .iter()
                .filter(|(_, partition)| {
                    !partition.eligible_leaders.is_empty()
                        || !partition.last_known_eligible_leaders.is_empty()
                })
                .map(|(index, _)| *index)
                .collect();
            for index in with_elr {
                if let Some(partition) = Arc::make_mut(topic).partitions.get_mut(&index) {
                    partition.eligible_leaders.clear();
                    partition.last_known_eligible_leaders.clear();
                    self.changes.partitions.insert((id, index));
                }
            }
        }
    }

    fn set_config(&mut self, record: &ConfigRecord) {
        let Some(kind) = ResourceKind::from_code(record.resource_type) else {
            return;
        };
        let resource = ConfigResource {
            kind,
            name: record.resource_name.clone(),
        };
        let mut configs = self
            .image
            .configs
            .get(&resource)
            .cloned()
            .unwrap_or_default();
        match &record.value {
            Some(value) => configs.insert(record.name.clone(), value.clone()),
            None => configs.remove(&record.name),
        };
        if configs.is_empty() {
            self.image.configs.remove(&resource);
        } else {
            self.image.configs.insert(resource.clone(), configs);
        }
        self.changes.configs.insert(resource);
    }

    fn set_feature(&mut self, record: &FeatureLevelRecord) {
        if record.feature_level == 0 {
            self.image.features.remove(&record.name);
        } else {
            self.image
                .features
                .insert(record.name.clone(), record.feature_level);
        }
        self.changes.features = true;
    }

    fn set_quota(&mut self, record: &ClientQuotaRecord) {
        let entity: QuotaEntity = record
            .entity
            .iter()
            .map(|part| (part.entity_type.clone(), part.entity_name.clone()))
            .collect();
        let mut quotas = self.image.quotas.get(&entity).cloned().unwrap_or_default();
        if record.remove {
            quotas.remove(&record.key);
        } else {
            quotas.insert(record.key.clone(), record.value);
        }
        if quotas.is_empty() {
            self.image.quotas.remove(&entity);
        } else {
            self.image.quotas.insert(entity, quotas);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MetadataDelta;
    use crate::MetadataImage;
    use ottla_protocol::messages::metadata::{
        RegisterControllerRecord, UnregisterControllerRecord,
    };

    #[test]
    fn a_controller_that_is_unregistered_is_gone() {
        let mut delta = MetadataDelta::new(MetadataImage::default());
        for controller_id in [1, 2] {
            let record = RegisterControllerRecord {
                controller_id,
                ..RegisterControllerRecord::default()
            };
            delta.replay(&record.into());
        }
        let record = UnregisterControllerRecord {
            controller_id: 2,
            ..UnregisterControllerRecord::default()
        };
        delta.replay(&record.into());
        let left: Vec<i32> = delta.image().controllers.keys().map(|id| id.0).collect();
        assert_eq!(left, [1]);
    }
}
