//! How this broker registers: the addresses, features and directories that it names to the controller.

use ottla_controller::brokers::Registration;
use ottla_metadata::{
    BrokerRegistration, Endpoint, FeatureRange, MetadataImage, MetadataVersion, versions,
};
use ottla_protocol::ids::Uuid;

use crate::config::BrokerConfig;
use crate::process::random::random_id;

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
pub fn claimed_features(image: &MetadataImage) -> Vec<FeatureRange> {
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

/// The registration of a new process. `previous_epoch` is that of its last process, if that shut down cleanly.
pub fn registration(
    config: &BrokerConfig,
    image: &MetadataImage,
    endpoints: Vec<Endpoint>,
    (directories, previous_epoch): (Vec<Uuid>, i64),
) -> Registration {
    let broker = BrokerRegistration {
        id: config.node_id,
        epoch: -1,
        incarnation: config.incarnation.unwrap_or_else(random_id),
        endpoints,
        features: claimed_features(image),
        rack: config.rack.clone(),
        fenced: true,
        in_controlled_shutdown: false,
        directories,
        cordoned_directories: None,
    };
    Registration {
        broker,
        previous_epoch,
        // The locks of the log directories are ours: the last process is dead.
        is_alive: false,
    }
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
