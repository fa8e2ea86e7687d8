//! This broker's place in the cluster: it registers at every start, and is unfenced once it can serve.

use ottla_controller::{Decision, Refusal, brokers};
use ottla_metadata::{
    BrokerRegistration, Endpoint, FeatureRange, MetadataImage, MetadataVersion, versions,
};
use ottla_protocol::ids::Uuid;

use crate::config::BrokerConfig;
use crate::controller::{Controller, Unavailable};
use crate::topics::random_id;

/// Why a broker is not part of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    /// The controller refused it.
    #[error("the controller refused the registration: {0}")]
    Refused(#[from] Refusal),
    /// There is no controller.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What this release can read and write, by feature. A feature that is not named is supported at level 0 only.
pub fn supported_features() -> Vec<FeatureRange> {
    vec![FeatureRange {
        name: versions::FEATURE.to_owned(),
        minimum: MetadataVersion::MINIMUM.0,
        maximum: MetadataVersion::LATEST.0,
    }]
}

/// What the broker claims when it registers: what it supports, and what a directory taken over from Kafka has
/// finalised already. One node has nobody who could disagree about such a level.
fn claimed_features(image: &MetadataImage) -> Vec<FeatureRange> {
    let mut claimed = supported_features();
    let adopted = image
        .features
        .iter()
        .filter(|(name, _)| *name != versions::FEATURE);
    claimed.extend(adopted.map(|(name, level)| FeatureRange {
        name: name.clone(),
        minimum: 0,
        maximum: *level,
    }));
    claimed
}

/// Registers the broker, fenced, and returns its epoch.
pub async fn register(
    controller: &Controller,
    config: &BrokerConfig,
    endpoints: Vec<Endpoint>,
    directories: Vec<Uuid>,
) -> Result<i64, NotRegistered> {
    let broker = BrokerRegistration {
        id: config.node_id,
        epoch: -1,
        incarnation: random_id(),
        endpoints,
        features: claimed_features(&controller.image()),
        rack: config.rack.clone(),
        fenced: true,
        in_controlled_shutdown: false,
        directories,
        cordoned_directories: None,
    };
    let decided = controller
        .decide(move |view, next| brokers::register(view, &broker, next.0))
        .await?;
    Ok(decided?)
}

/// Ends the fencing of the broker registered at `epoch`.
pub async fn unfence(
    controller: &Controller,
    config: &BrokerConfig,
    epoch: i64,
) -> Result<(), NotRegistered> {
    let id = config.node_id;
    let decided = controller
        .decide(move |view, _| -> Decision<_> { brokers::unfence(view, id, epoch) })
        .await?;
    Ok(decided?)
}
