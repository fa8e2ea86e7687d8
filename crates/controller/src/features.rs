//! UpdateFeatures: the levels of features that the cluster has settled on.
//!
//! All updates of a request are made or none. A level is taken only when this controller and every registered broker
//! support it. `metadata.version` goes down only over versions that changed no record, as in Kafka.

use std::cmp::Ordering;

use ottla_metadata::{
    FeatureRange, MetadataImage, MetadataVersion, ResourceKind, ottla_configs, versions,
};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::metadata::{FeatureLevelRecord, MetadataRecord};

use crate::configs::MIN_IN_SYNC;
use crate::{Decision, Refusal, View, bootstrap};

/// The features that Kafka 4.3 knows beside `metadata.version`; what is not among them cannot even be set to 0.
const KNOWN: &[&str] = &[
    versions::ELIGIBLE_LEADER_REPLICAS,
    "group.version",
    "share.version",
    "streams.version",
    "transaction.version",
];

/// What kind of change the caller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeType {
    /// To a higher level, or the same.
    Upgrade,
    /// To a lower level, if nothing is lost by it.
    SafeDowngrade,
    /// To a lower level, whatever is lost by it.
    UnsafeDowngrade,
    /// A kind that does not exist.
    Unknown,
}

/// A feature and the level that it is to have.
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
    /// Its node.
    pub node: NodeId,
    /// What it supports.
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
        if let Err(why) = checked {
            return Decision::reply(Err(Refusal::InvalidUpdateVersion(why)));
        }
        if update.feature == versions::KRAFT {
            // It stands in the quorum's records, and does not change here.
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
    Decision {
        records,
        reply: Ok(()),
    }
}

/// The records by which all brokers hold the same number of in-sync replicas for enough: eligible leader replicas
/// depend on it. One that the cluster has set is kept.
fn agree_on_in_sync_replicas(view: View<'_>) -> Vec<MetadataRecord> {
    let of_cluster = bootstrap::in_sync_of_cluster(view.image, &view.settings.statics);
    let mut records: Vec<MetadataRecord> = of_cluster.into_iter().collect();
    let of_brokers = view.image.configs.iter().filter(|(resource, configs)| {
        resource.kind == ResourceKind::Broker
            && !resource.name.is_empty()
            && configs.contains_key(MIN_IN_SYNC)
    });
    let taken_back = of_brokers
        .map(|(resource, _)| ottla_configs::record(resource, MIN_IN_SYNC.to_owned(), None).into());
    records.extend(taken_back);
    records
}

/// Refuses a level that needs a higher `metadata.version` than the one there will be.
fn check_dependency(
    image: &MetadataImage,
    updates: &[Update],
    update: &Update,
) -> Result<(), String> {
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
    let Update { feature, level, .. } = update;
    Err(format!(
        "Invalid update version {level} for feature {feature}. {feature} could not be set to {level} because it \
         depends on metadata.version level {}",
        MetadataVersion::ELIGIBLE_LEADER_REPLICAS.0
    ))
}

fn check(image: &MetadataImage, local: Local<'_>, update: &Update) -> Result<(), String> {
    let Update {
        feature,
        level,
        upgrade_type,
    } = update;
    let refuse = |why: &str| {
        Err(format!(
            "Invalid update version {level} for feature {feature}. {why}"
        ))
    };
    if *upgrade_type == UpgradeType::Unknown {
        return refuse("The controller does not support the given upgrade type.");
    }
    if *level < 0 {
        return refuse("A feature version cannot be less than 0.");
    }
    let controller = ("Local controller", local.node, local.supported);
    let brokers = image.brokers.values();
    let brokers = brokers.map(|broker| ("Broker", broker.id, broker.features.as_slice()));
    for (what, id, ranges) in std::iter::once(controller).chain(brokers) {
        if let Some(why) = unsupported(ranges, feature, *level) {
            return refuse(&format!("{what} {id} {why}"));
        }
    }
    let current = if feature == versions::KRAFT {
        local.kraft_version
    } else {
        image.features.get(feature).copied().unwrap_or(0)
    };
    let is_upgrade = *upgrade_type == UpgradeType::Upgrade;
    if *level < current && is_upgrade {
        return refuse(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade.",
        );
    }
    if *level > current && !is_upgrade {
        return refuse("Can't downgrade to a newer version.");
    }
    if feature == versions::FEATURE {
        return check_metadata_version((current, *level), *upgrade_type);
    }
    if feature == versions::KRAFT {
        return match level.cmp(&current) {
            Ordering::Equal => Ok(()),
            Ordering::Less => refuse("Can't downgrade the version of this feature."),
            Ordering::Greater => {
                refuse("Moving the voters into the metadata log is not served in this release.")
            }
        };
    }
    if KNOWN.contains(&feature.as_str()) {
        Ok(())
    } else {
        refuse(&format!("Feature {feature} not found."))
    }
}

fn unsupported(ranges: &[FeatureRange], feature: &str, level: i16) -> Option<String> {
    let range = ranges.iter().find(|range| range.name == feature);
    let (minimum, maximum) = range.map_or((0, 0), |range| (range.minimum, range.maximum));
    if (minimum..=maximum).contains(&level) {
        None
    } else if maximum == 0 {
        Some("does not support this feature.".to_owned())
    } else if minimum == maximum {
        Some(format!("only supports versions {minimum}"))
    } else {
        Some(format!("only supports versions {minimum}-{maximum}"))
    }
}

fn check_metadata_version((from, to): (i16, i16), upgrade_type: UpgradeType) -> Result<(), String> {
    let changes = |level| MetadataVersion(level).changes_records();
    if to >= from || !(to + 1..=from).any(changes) {
        return Ok(());
    }
    let why = if upgrade_type == UpgradeType::UnsafeDowngrade {
        "Unsafe metadata downgrade is not supported in this version."
    } else {
        "Refusing to perform the requested downgrade because it might delete metadata information."
    };
    Err(format!(
        "Unsupported metadata.version downgrade from {from} to {to}. {why}"
    ))
}

#[cfg(test)]
mod tests;
