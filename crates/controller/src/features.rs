//! UpdateFeatures: changes the finalised levels of features.
//!
//! All updates of a request are made or none. A level is taken only when this controller and every registered broker
//! support it. `metadata.version` goes down only over versions that changed no record, as in Kafka.

mod invalid_update;

use std::cmp::Ordering;

use ottla_metadata::{
    FeatureRange, MetadataImage, MetadataVersion, ResourceKind, ottla_configs, versions,
};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::metadata::{FeatureLevelRecord, MetadataRecord};

pub use invalid_update::{InvalidUpdate, Reason, Supports};

use crate::configs::MIN_IN_SYNC;
use crate::{Decision, Refusal, View, bootstrap};

/// The features that Kafka 4.3 knows besides `metadata.version`. Others cannot even be set to 0.
const KNOWN: &[&str] = &[
    versions::ELIGIBLE_LEADER_REPLICAS,
    "group.version",
    "share.version",
    "streams.version",
    "transaction.version",
];

/// The direction of change that the caller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeType {
    /// To a higher level, or the same.
    Upgrade,
    /// To a lower level, if no metadata is lost by it.
    SafeDowngrade,
    /// To a lower level, even if metadata is lost by it.
    UnsafeDowngrade,
    /// A number that the protocol does not define.
    Unknown,
}

/// A feature and its new level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Its name.
    pub feature: String,
    /// The level; 0 for none.
    pub level: i16,
    /// The kind of change.
    pub upgrade_type: UpgradeType,
}

/// The controller that decides.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    pub node: NodeId,
    pub supported: &'a [FeatureRange],
    /// The level of `kraft.version` by the quorum's records.
    pub kraft_version: i16,
}

/// Decides UpdateFeatures on the controller `local`.
pub fn decide(
    view: View<'_>,
    local: Local<'_>,
    updates: &[Update],
    validate_only: bool,
) -> Decision<Result<(), Refusal>> {
    let mut records = Vec::new();
    for update in updates {
        let checked = check(view.image, local, update)
            .and_then(|()| check_dependency(view.image, updates, update));
        if let Err(reason) = checked {
            let invalid = InvalidUpdate {
                feature: update.feature.clone(),
                level: update.level,
                reason,
            };
            return Decision::reply(Err(invalid.into()));
        }
        if update.feature == versions::KRAFT {
            // It is in the quorum's own records, and only the level that it has is accepted.
            continue;
        }
        if update.feature == versions::ELIGIBLE_LEADER_REPLICAS && update.level > 0 {
            records.extend(agree_on_in_sync_replicas(view));
        }
        let record = FeatureLevelRecord {
            name: update.feature.clone(),
            feature_level: update.level,
            ..FeatureLevelRecord::default()
        };
        records.push(record.into());
    }
    if validate_only {
        records.clear();
    }
    Decision::new(records, Ok(()))
}

/// The records after which all brokers have one `min.insync.replicas`, which eligible leader replicas need: the cluster's
/// value, or that of the file if the cluster has none. Values of single brokers are deleted.
fn agree_on_in_sync_replicas(view: View<'_>) -> Vec<MetadataRecord> {
    let of_cluster = bootstrap::in_sync_of_cluster(view.image, &view.settings.statics);
    let mut records: Vec<MetadataRecord> = of_cluster.into_iter().collect();
    let of_brokers = view.image.configs.iter().filter(|(resource, configs)| {
        resource.kind == ResourceKind::Broker
            && !resource.name.is_empty()
            && configs.contains_key(MIN_IN_SYNC)
    });
    let deletions = of_brokers
        .map(|(resource, _)| ottla_configs::record(resource, MIN_IN_SYNC.to_owned(), None).into());
    records.extend(deletions);
    records
}

/// Refuses a level that needs a higher `metadata.version` than the cluster will have after this request.
fn check_dependency(
    image: &MetadataImage,
    updates: &[Update],
    update: &Update,
) -> Result<(), Reason> {
    if update.feature != versions::ELIGIBLE_LEADER_REPLICAS || update.level == 0 {
        return Ok(());
    }
    let other = updates
        .iter()
        .find(|other| other.feature == versions::FEATURE);
    let metadata = other.map_or(image.metadata_version(), |other| {
        MetadataVersion(other.level)
    });
    if metadata.has_eligible_leader_replicas() {
        return Ok(());
    }
    Err(Reason::NeedsMetadataVersion {
        feature: update.feature.clone(),
        level: update.level,
    })
}

fn check(image: &MetadataImage, local: Local<'_>, update: &Update) -> Result<(), Reason> {
    let Update {
        feature,
        level,
        upgrade_type,
    } = update;
    if *upgrade_type == UpgradeType::Unknown {
        return Err(Reason::UnknownUpgradeType);
    }
    if *level < 0 {
        return Err(Reason::Negative);
    }
    if let Some(supports) = Supports::other_than(local.supported, feature, *level) {
        return Err(Reason::UnsupportedByController(local.node, supports));
    }
    for broker in image.brokers.values() {
        if let Some(supports) = Supports::other_than(&broker.features, feature, *level) {
            return Err(Reason::UnsupportedByBroker(broker.id, supports));
        }
    }
    let current = if feature == versions::KRAFT {
        local.kraft_version
    } else {
        image.features.get(feature).copied().unwrap_or(0)
    };
    let is_upgrade = *upgrade_type == UpgradeType::Upgrade;
    if *level < current && is_upgrade {
        return Err(Reason::LowerByUpgrade);
    }
    if *level > current && !is_upgrade {
        return Err(Reason::HigherByDowngrade);
    }
    if feature == versions::FEATURE {
        return check_metadata_version((current, *level), *upgrade_type);
    }
    if feature == versions::KRAFT {
        return match level.cmp(&current) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(Reason::Lower),
            Ordering::Greater => Err(Reason::VotersNotMoved),
        };
    }
    if KNOWN.contains(&feature.as_str()) {
        Ok(())
    } else {
        Err(Reason::UnknownFeature(feature.clone()))
    }
}

fn check_metadata_version((from, to): (i16, i16), upgrade_type: UpgradeType) -> Result<(), Reason> {
    let changes = |level| MetadataVersion(level).changes_records();
    if to >= from || !(to + 1..=from).any(changes) {
        return Ok(());
    }
    Err(if upgrade_type == UpgradeType::UnsafeDowngrade {
        Reason::UnsafeMetadataDowngrade { from, to }
    } else {
        Reason::MetadataDowngrade { from, to }
    })
}

#[cfg(test)]
mod tests;
