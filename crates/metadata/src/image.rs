//! The state of the cluster at one offset of the metadata log.
//!
//! Immutable and persistent: a clone is a snapshot and costs a few pointers. It changes only through
//! [`MetadataDelta`](crate::MetadataDelta).

use std::sync::Arc;

use imbl::OrdMap;
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{
    AccessControlEntryRecord, DelegationTokenRecord, UserScramCredentialRecord,
};

use crate::versions::{self, MetadataVersion};
use crate::{BrokerRegistration, ConfigResource, ControllerRegistration, Partition};

/// The entity of a client quota: (type, name) pairs, the name absent for the type's default.
pub type QuotaEntity = Vec<(String, Option<String>)>;

/// The state of the cluster at one offset of the metadata log.
///
/// Topics are found by id and by name; both maps always hold the same topics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadataImage {
    /// Finalised features and their levels; 0 is not stored.
    pub features: OrdMap<String, i16>,
    /// Registered brokers.
    pub brokers: OrdMap<NodeId, Arc<BrokerRegistration>>,
    /// Registered controllers.
    pub controllers: OrdMap<NodeId, Arc<ControllerRegistration>>,
    /// Topics by id.
    pub topics: OrdMap<Uuid, Arc<Topic>>,
    /// The ids of topics by name.
    pub topic_ids: OrdMap<String, Uuid>,
    /// Dynamic configs by resource. A resource without configs is absent.
    pub configs: OrdMap<ConfigResource, OrdMap<String, String>>,
    /// The first producer id that no block has handed out.
    pub next_producer_id: i64,
    /// Access control entries by id.
    pub acls: OrdMap<Uuid, AccessControlEntryRecord>,
    /// SCRAM credentials by user and mechanism.
    pub scram: OrdMap<(String, i8), UserScramCredentialRecord>,
    /// Client quotas by entity and key.
    pub quotas: OrdMap<QuotaEntity, OrdMap<String, f64>>,
    /// Delegation tokens by id.
    pub delegation_tokens: OrdMap<String, DelegationTokenRecord>,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: OrdMap<PartitionIndex, Partition>,
}

impl MetadataImage {
    /// The level of `metadata.version`; the lowest, if the log has no record of it.
    pub fn metadata_version(&self) -> MetadataVersion {
        self.features
            .get(versions::FEATURE)
            .map_or(MetadataVersion::MINIMUM, |level| MetadataVersion(*level))
    }

    /// Whether partitions have eligible leader replicas (KIP-966).
    pub fn has_eligible_leader_replicas(&self) -> bool {
        let level = self.features.get(versions::ELIGIBLE_LEADER_REPLICAS);
        level.is_some_and(|level| *level > 0)
    }

    /// Whether a broker is registered, not fenced, and not shutting down: it may lead partitions.
    pub fn is_active(&self, broker: NodeId) -> bool {
        let broker = self.brokers.get(&broker);
        broker.is_some_and(|broker| broker.is_active())
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// The partition of a topic, by the topic's id.
    pub fn partition(&self, topic: Uuid, index: PartitionIndex) -> Option<&Partition> {
        self.topics.get(&topic)?.partitions.get(&index)
    }

    /// A dynamic config.
    pub fn config(&self, resource: &ConfigResource, name: &str) -> Option<&str> {
        self.configs.get(resource)?.get(name).map(String::as_str)
    }
}
