//! Registers this broker at every start, and unfences it once it can serve.

use ottla_controller::Refusal;
use ottla_controller::request::{RegisterBroker, UnfenceBroker};
use ottla_metadata::{
    BrokerRegistration, Endpoint, FeatureRange, MetadataImage, MetadataVersion, versions,
};
use ottla_protocol::ids::Uuid;

use crate::cluster::channel::{Controller, NoController};
use crate::config::BrokerConfig;
use crate::process::random::random_id;

/// Why a broker is not part of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    /// The controller refused it.
    #[error("the controller refused the registration: {0}")]
    Refused(#[from] Refusal),
    /// There is no controller.
    #[error(transparent)]
    NoController(#[from] NoController),
}

/// The supported levels of each feature. A feature that is not named is supported at level 0 only.
///
/// Metadata that Kafka wrote may have a higher `metadata.version` than an upgrade may set here; it is supported as well.
pub fn supported_features(image: &MetadataImage) -> Vec<FeatureRange> {
    let highest = image.metadata_version().max(MetadataVersion::OFFERED);
    let ranges = [
        (versions::FEATURE, MetadataVersion::MINIMUM.0..=highest.0),
        (versions::KRAFT, 0..=1),
        (versions::ELIGIBLE_LEADER_REPLICAS, 0..=1),
    ];
    let ranges = ranges.into_iter().map(|(name, levels)| FeatureRange {
        name: name.to_owned(),
        minimum: *levels.start(),
        maximum: *levels.end(),
    });
    ranges.collect()
}

/// The features in a registration: the supported ones, and those that an earlier Kafka has finalized. With one node no
/// other broker can disagree about such a level.
fn claimed_features(image: &MetadataImage) -> Vec<FeatureRange> {
    let mut claimed = supported_features(image);
    let adopted = image.features.iter().map(|(name, level)| FeatureRange {
        name: name.clone(),
        minimum: 0,
        maximum: *level,
    });
    let is_new = |feature: &FeatureRange| !claimed.iter().any(|known| known.name == feature.name);
    let adopted: Vec<FeatureRange> = adopted.filter(is_new).collect();
    claimed.extend(adopted);
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
    Ok(controller.ask(RegisterBroker(broker)).await??)
}

/// Ends the fencing of the broker registered at `epoch`.
pub async fn unfence(
    controller: &Controller,
    config: &BrokerConfig,
    epoch: i64,
) -> Result<(), NotRegistered> {
    let broker = config.node_id;
    Ok(controller.ask(UnfenceBroker { broker, epoch }).await??)
}

#[cfg(test)]
mod tests {
    use super::{claimed_features, supported_features};
    use ottla_metadata::{MetadataDelta, MetadataImage, versions};
    use ottla_protocol::messages::metadata::FeatureLevelRecord;

    fn finalized(levels: &[(&str, i16)]) -> MetadataImage {
        let mut delta = MetadataDelta::new(MetadataImage::default());
        for (name, feature_level) in levels {
            let record = FeatureLevelRecord {
                name: (*name).to_owned(),
                feature_level: *feature_level,
                ..FeatureLevelRecord::default()
            };
            delta.replay(&record.into());
        }
        delta.finish().0
    }

    #[test]
    fn levels_that_kafka_has_finalised_are_kept_and_others_above_31_are_not_offered() {
        let highest = |image: &MetadataImage| supported_features(image)[0].maximum;
        assert_eq!(highest(&finalized(&[(versions::FEATURE, 30)])), 31);
        let of_kafka = finalized(&[(versions::FEATURE, 33), ("share.version", 2)]);
        assert_eq!(highest(&of_kafka), 33);
        let claimed = claimed_features(&of_kafka);
        let share = claimed.iter().find(|range| range.name == "share.version");
        assert_eq!(share.unwrap().maximum, 2);
    }
}
