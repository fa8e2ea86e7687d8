//! Brokers and controllers as the metadata log knows them.

use ottla_protocol::address;
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::register_broker_record::{BrokerEndpoint, BrokerFeature};
use ottla_protocol::messages::metadata::register_controller_record::{
    ControllerEndpoint, ControllerFeature,
};
use ottla_protocol::messages::metadata::{
    BrokerRegistrationChangeRecord, RegisterBrokerRecord, RegisterControllerRecord,
};

use crate::Partition;

/// An address at which a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: String,
    /// The host name or address.
    pub host: String,
    pub port: u16,
    /// Kafka's number of the security protocol; 0 is PLAINTEXT.
    pub security_protocol: i16,
}

impl Endpoint {
    /// `host:port`, with brackets around an address of IPv6.
    pub fn address(&self) -> String {
        address::dialled(&self.host, self.port)
    }
}

/// `BrokerRegistrationChangeRecord.fenced` of a broker that is fenced. 0 means no change.
pub const FENCE: i8 = 1;
/// `BrokerRegistrationChangeRecord.fenced` of a broker that is unfenced.
pub const UNFENCE: i8 = -1;

/// The levels of a feature that a node supports, inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureRange {
    /// The feature's name.
    pub name: String,
    /// The lowest level.
    pub minimum: i16,
    /// The highest level.
    pub maximum: i16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// The broker's id.
    pub id: NodeId,
    /// The epoch of this registration: the offset of its record.
    pub epoch: i64,
    /// New at every start of the broker's process.
    pub incarnation: Uuid,
    pub endpoints: Vec<Endpoint>,
    pub features: Vec<FeatureRange>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// A fenced broker leads no partition. It gets new replicas only when there are too few other brokers.
    pub fenced: bool,
    /// Whether it gives up its leaderships before it stops.
    pub in_controlled_shutdown: bool,
    /// The ids of its online log directories.
    pub directories: Vec<Uuid>,
    /// The directories that take no new replicas (KIP-1066).
    pub cordoned_directories: Option<Vec<Uuid>>,
}

impl BrokerRegistration {
    /// The endpoint of a listener.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.listener == listener)
    }

    /// Whether it may lead partitions, and is preferred for new replicas.
    pub const fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Whether new replicas may be placed in one of its directories (KIP-1066).
    pub fn takes_replicas(&self) -> bool {
        let cordoned = self.cordoned_directories.as_deref().unwrap_or_default();
        let mut directories = self.directories.iter();
        self.directories.is_empty() || directories.any(|id| !cordoned.contains(id))
    }

    /// Whether its replica of `partition` is in an online directory, as far as is known.
    pub fn is_online(&self, partition: &Partition) -> bool {
        let directory = partition.directory_of(self.id);
        directory.is_none_or(|directory| self.has_online(directory))
    }

    /// Whether one of its directories is online, as far as is known.
    pub fn has_online(&self, directory: Uuid) -> bool {
        self.directories.is_empty() || self.directories.contains(&directory)
    }

    /// Sets the fields that a change record names.
    pub(crate) fn merge(&mut self, change: &BrokerRegistrationChangeRecord) {
        match change.fenced {
            UNFENCE => self.fenced = false,
            FENCE => self.fenced = true,
            _ => {}
        }
        if change.in_controlled_shutdown == 1 {
            self.in_controlled_shutdown = true;
        }
        if !change.log_dirs.is_empty() {
            self.directories.clone_from(&change.log_dirs);
        }
        if change.cordoned_log_dirs.is_some() {
            self.cordoned_directories
                .clone_from(&change.cordoned_log_dirs);
        }
    }

    /// The record that registers this broker.
    pub fn to_record(&self) -> RegisterBrokerRecord {
        RegisterBrokerRecord {
            broker_id: self.id.0,
            incarnation_id: self.incarnation,
            broker_epoch: self.epoch,
            end_points: self.endpoints.iter().map(broker_endpoint).collect(),
            features: self.features.iter().map(broker_feature).collect(),
            rack: self.rack.clone(),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            log_dirs: self.directories.clone(),
            cordoned_log_dirs: self.cordoned_directories.clone(),
            ..RegisterBrokerRecord::default()
        }
    }
}

impl From<&RegisterBrokerRecord> for BrokerRegistration {
    fn from(record: &RegisterBrokerRecord) -> Self {
        Self {
            id: NodeId(record.broker_id),
            epoch: record.broker_epoch,
            incarnation: record.incarnation_id,
            endpoints: record.end_points.iter().map(Endpoint::from).collect(),
            features: record.features.iter().map(FeatureRange::from).collect(),
            rack: record.rack.clone(),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            directories: record.log_dirs.clone(),
            cordoned_directories: record.cordoned_log_dirs.clone(),
        }
    }
}

impl From<&BrokerEndpoint> for Endpoint {
    fn from(endpoint: &BrokerEndpoint) -> Self {
        Self {
            listener: endpoint.name.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        }
    }
}

impl From<&BrokerFeature> for FeatureRange {
    fn from(feature: &BrokerFeature) -> Self {
        Self {
            name: feature.name.clone(),
            minimum: feature.min_supported_version,
            maximum: feature.max_supported_version,
        }
    }
}

fn broker_endpoint(endpoint: &Endpoint) -> BrokerEndpoint {
    BrokerEndpoint {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
        ..BrokerEndpoint::default()
    }
}

fn broker_feature(feature: &FeatureRange) -> BrokerFeature {
    BrokerFeature {
        name: feature.name.clone(),
        min_supported_version: feature.minimum,
        max_supported_version: feature.maximum,
        ..BrokerFeature::default()
    }
}

/// A controller's registration (KIP-919).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerRegistration {
    /// The controller's id.
    pub id: NodeId,
    /// New at every start of the controller's process.
    pub incarnation: Uuid,
    pub endpoints: Vec<Endpoint>,
    pub features: Vec<FeatureRange>,
}

impl ControllerRegistration {
    pub(crate) fn to_record(&self) -> RegisterControllerRecord {
        RegisterControllerRecord {
            controller_id: self.id.0,
            incarnation_id: self.incarnation,
            end_points: self.endpoints.iter().map(controller_endpoint).collect(),
            features: self.features.iter().map(controller_feature).collect(),
            ..RegisterControllerRecord::default()
        }
    }
}

impl From<&RegisterControllerRecord> for ControllerRegistration {
    fn from(record: &RegisterControllerRecord) -> Self {
        let endpoints = record.end_points.iter().map(|endpoint| Endpoint {
            listener: endpoint.name.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        });
        let features = record.features.iter().map(|feature| FeatureRange {
            name: feature.name.clone(),
            minimum: feature.min_supported_version,
            maximum: feature.max_supported_version,
        });
        Self {
            id: NodeId(record.controller_id),
            incarnation: record.incarnation_id,
            endpoints: endpoints.collect(),
            features: features.collect(),
        }
    }
}

fn controller_endpoint(endpoint: &Endpoint) -> ControllerEndpoint {
    ControllerEndpoint {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
        ..ControllerEndpoint::default()
    }
}

fn controller_feature(feature: &FeatureRange) -> ControllerFeature {
    ControllerFeature {
        name: feature.name.clone(),
        min_supported_version: feature.minimum,
        max_supported_version: feature.maximum,
        ..ControllerFeature::default()
    }
}
