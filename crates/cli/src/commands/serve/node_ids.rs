//! A node id for a new node, which no other node gets that joins at the same time.
//!
//! The id is registered at the active controller before anything is written here, under the incarnation with which the node
//! registers itself later. A heartbeat follows: if it is taken, no other process has registered the id in between. While the
//! connection is open, the controller refuses the id to others.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ottla_broker::process::random::{random_id, unreserved_id};
use ottla_client::admin::Quorum;
use ottla_client::{Cluster, Connection, Options, code_name};
use ottla_metadata::versions;
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::broker_registration_request::Feature;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::{
    ApiVersionsRequestData, BrokerHeartbeatRequestData, BrokerRegistrationRequestData,
    DescribeConfigsRequestData, ErrorCode, UnregisterBrokerRequestData,
};

/// How many ids are tried: as many nodes may join at the same time.
const ATTEMPTS: i32 = 100;
/// The number of brokers among the resources of DescribeConfigs.
const BROKER: i8 = 4;
/// A config that only Ottla has.
const OWN_CONFIG: &str = "ottla.ack.durability";

/// The active controller, and what it is told in a registration.
pub struct Active {
    connection: Connection,
    node: i32,
    cluster_id: String,
    /// The features of the cluster, all of which a registration must support.
    features: Vec<Feature>,
}

/// A node id that the cluster keeps for this process.
pub struct Kept {
    pub node: NodeId,
    pub incarnation: Uuid,
    connection: Connection,
}

impl Active {
    pub async fn open(cluster: &Cluster, quorum: &Quorum, patience: Duration) -> Result<Self> {
        let mut endpoints = quorum.controllers.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.node == quorum.leader);
        let address = endpoint.context("the cluster has no active controller now")?;
        let address = address.address();
        let options = Options {
            client_id: "ottla-join".to_owned(),
            request_timeout: patience,
            connect_timeout: patience,
            ..Options::default()
        };
        let connection = Connection::open(&address, &options).await;
        let connection = connection.with_context(|| {
            format!("the active controller is at {address}, which this node must reach")
        })?;
        let asked = ApiVersionsRequestData::default()
            .with_client_software_name("ottla".to_owned().into())
            .with_client_software_version(env!("CARGO_PKG_VERSION").to_owned().into());
        let answer = cluster.call_any(&asked).await?;
        let features = answer.finalized_features.into_iter().map(|feature| {
            let is_of_metadata = feature.name.as_str() == versions::FEATURE;
            // The controller does not count `kraft.version` among the levels of its metadata: it is 0 there.
            let lowest = if is_of_metadata {
                feature.min_version_level
            } else {
                0
            };
            Feature::default()
                .with_name(feature.name)
                .with_min_supported_version(lowest)
                .with_max_supported_version(feature.max_version_level)
        });
        let metadata = cluster.metadata();
        Ok(Self {
            connection,
            node: quorum.leader,
            cluster_id: metadata.cluster_id.clone().unwrap_or_default(),
            features: features.collect(),
        })
    }

    /// Whether the active controller is Ottla: an Apache Kafka controller takes no others of Ottla beside it.
    pub async fn is_ottla(&self) -> bool {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(self.node.to_string().into())
            .with_configuration_keys(Some(vec![OWN_CONFIG.to_owned().into()]));
        let request = DescribeConfigsRequestData::default().with_resources(vec![resource]);
        let answer = self.connection.call(&request).await;
        let mut results = answer.iter().flat_map(|answer| &answer.results);
        results.any(|result| {
            let mut configs = result.configs.iter();
            configs.any(|config| config.name.as_str() == OWN_CONFIG)
        })
    }

    /// Has the first free id kept from `first` on.
    pub async fn keep(self, first: NodeId) -> Result<Kept> {
        let incarnation = random_id();
        for node in (first.0..).take(usize::try_from(ATTEMPTS).unwrap_or_default()) {
            if self.try_keep(node, incarnation).await? {
                return Ok(Kept {
                    node: NodeId(node),
                    incarnation,
                    connection: self.connection,
                });
            }
        }
        bail!("no free node id was found from {first} on; choose one with --override node.id=ID")
    }

    async fn try_keep(&self, node: i32, incarnation: Uuid) -> Result<bool> {
        let registration = BrokerRegistrationRequestData::default()
            .with_broker_id(node)
            .with_cluster_id(self.cluster_id.clone().into())
            .with_incarnation_id(incarnation)
            .with_features(self.features.clone())
            // The node names its own when it registers.
            .with_log_dirs(vec![unreserved_id()]);
        let answer = self.connection.call(&registration).await?;
        if !is_free(answer.error_code, node)? {
            return Ok(false);
        }
        let heartbeat = BrokerHeartbeatRequestData::default()
            .with_broker_id(node)
            .with_broker_epoch(answer.broker_epoch)
            .with_current_metadata_offset(-1)
            .with_want_fence(true);
        let answer = self.connection.call(&heartbeat).await?;
        is_free(answer.error_code, node)
    }
}

/// Whether the answer says that the id is this process's, and not another one's.
fn is_free(code: i16, node: i32) -> Result<bool> {
    let code = ErrorCode::from(code);
    match code {
        ErrorCode::None => Ok(true),
        ErrorCode::DuplicateBrokerRegistration | ErrorCode::StaleBrokerEpoch => Ok(false),
        _ => bail!(
            "the active controller does not keep node id {node}: {}",
            code_name(code)
        ),
    }
}

impl Kept {
    /// The node did not start: the cluster forgets the id.
    pub async fn give_back(self) {
        let request = UnregisterBrokerRequestData::default().with_broker_id(self.node.0);
        if let Err(error) = self.connection.call(&request).await {
            tracing::warn!(node = self.node.0, %error, "the cluster keeps a node id that no node has; `ottla broker remove` frees it");
        }
    }
}
