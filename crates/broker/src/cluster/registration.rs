//! Registers this broker at every start, and unfences it once it can serve.

use ottla_controller::Refusal;
use ottla_controller::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
use ottla_controller::brokers::Registration;
use ottla_controller::request::{BrokerHeartbeat, RegisterBroker};
use ottla_metadata::{
    BrokerRegistration, Endpoint, FeatureRange, MetadataImage, MetadataVersion, versions,
};
use ottla_protocol::ids::{Offset, Uuid};

use crate::cluster::channel::{Controller, NoController};
use crate::config::BrokerConfig;
use crate::process::random::random_id;

/// Why a broker is not part of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    /// The controller refused it.
    #[error("the controller refused the registration: {0}")]
    Refused(#[from] Refusal),
    /// The controller has registered it, but does not let it serve.
    #[error("the controller keeps the broker fenced")]
    Fenced,
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

/// Registers the broker, fenced, and returns its epoch. `previous_epoch` is that of its last process, if that shut down
/// cleanly.
pub async fn register(
    controller: &Controller,
    config: &BrokerConfig,
    endpoints: Vec<Endpoint>,
    (directories, previous_epoch): (Vec<Uuid>, i64),
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
    let registration = Registration {
        broker,
        previous_epoch,
        // The locks of the log directories are ours: the last process is dead.
        is_alive: false,
    };
    Ok(controller.ask(RegisterBroker(registration)).await??)
}

/// Ends the fencing of the broker registered at `epoch`.
pub async fn unfence(
    controller: &Controller,
    config: &BrokerConfig,
    epoch: i64,
) -> Result<(), NotRegistered> {
    let heartbeat = Heartbeat {
        broker: config.node_id,
        epoch,
        // The controller has answered the registration, so this broker has applied it.
        metadata_offset: Offset(epoch),
        wish: Wish::Serve,
        offline_directories: Vec::new(),
        cordoned_directories: None,
        shutdown: ControlledShutdown::None,
    };
    let health = controller.ask(BrokerHeartbeat(heartbeat)).await??;
    if health.is_fenced {
        return Err(NotRegistered::Fenced);
    }
    Ok(())
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
