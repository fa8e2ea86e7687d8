//! UpdateFeatures: the levels of features that the cluster has settled on.
//!
//! All updates of a request are made or none. A level is taken only when this controller and every registered broker
//! support it. `metadata.version` goes down only over versions that changed no record, as in Kafka.

use ottla_metadata::{FeatureRange, MetadataImage, MetadataVersion, versions};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::metadata::FeatureLevelRecord;

use crate::{Decision, Refusal, View};

/// The features that Kafka 4.3 knows beside `metadata.version`; what is not among them cannot even be set to 0.
const KNOWN: &[&str] = &[
    "eligible.leader.replicas.version",
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

/// Decides UpdateFeatures on the controller `node`, which supports `supported`.
pub fn decide(
    view: View<'_>,
    (node, supported): (NodeId, &[FeatureRange]),
    updates: &[Update],
    validate_only: bool,
) -> Decision<Result<(), Refusal>> {
    let mut records = Vec::new();
    for update in updates {
        if let Err(why) = check(view.image, (node, supported), update) {
            return Decision::reply(Err(Refusal::InvalidUpdateVersion(why)));
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

fn check(
    image: &MetadataImage,
    (node, supported): (NodeId, &[FeatureRange]),
    update: &Update,
) -> Result<(), String> {
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
    let controller = ("Local controller", node, supported);
    let brokers = image.brokers.values();
    let brokers = brokers.map(|broker| ("Broker", broker.id, broker.features.as_slice()));
    for (what, id, ranges) in std::iter::once(controller).chain(brokers) {
        if let Some(why) = unsupported(ranges, feature, *level) {
            return refuse(&format!("{what} {id} {why}"));
        }
    }
    let current = image.features.get(feature).copied().unwrap_or(0);
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
mod tests {
    use super::{Update, UpgradeType, decide};
    use crate::{Refusal, Settings, View};
    use ottla_metadata::effective::StaticConfigs;
    use ottla_metadata::{FeatureRange, MetadataDelta, MetadataImage};
    use ottla_protocol::ids::NodeId;
    use ottla_protocol::messages::metadata::FeatureLevelRecord;

    /// Asks for one update of a cluster at metadata.version 29 with groups of the new kind; the levels after it.
    fn after(
        feature: &str,
        level: i16,
        upgrade_type: UpgradeType,
        validate_only: bool,
    ) -> Result<Vec<(String, i16)>, String> {
        let mut delta = MetadataDelta::new(MetadataImage::default());
        for (name, feature_level) in [("metadata.version", 29), ("group.version", 1)] {
            let record = FeatureLevelRecord {
                name: name.to_owned(),
                feature_level,
                ..FeatureLevelRecord::default()
            };
            delta.replay(&record.into());
        }
        let settings = Settings {
            default_partitions: 1,
            default_replication_factor: 1,
            delete_topics: true,
            statics: StaticConfigs::default(),
        };
        let image = delta.image().clone();
        let view = View {
            image: &image,
            settings: &settings,
        };
        let supported = [FeatureRange {
            name: "metadata.version".to_owned(),
            minimum: 7,
            maximum: 30,
        }];
        let update = Update {
            feature: feature.to_owned(),
            level,
            upgrade_type,
        };
        let decision = decide(view, (NodeId(1), &supported), &[update], validate_only);
        decision
            .records
            .iter()
            .for_each(|record| delta.replay(record));
        match decision.reply {
            Ok(()) => Ok(delta.finish().0.features.into_iter().collect()),
            Err(Refusal::InvalidUpdateVersion(why)) => Err(why),
            Err(other) => panic!("{other}"),
        }
    }

    fn levels(levels: &[(&str, i16)]) -> Vec<(String, i16)> {
        let levels = levels.iter();
        levels
            .map(|(name, level)| ((*name).to_owned(), *level))
            .collect()
    }

    #[test]
    fn a_level_rises_within_what_is_supported_and_not_when_it_is_only_checked() {
        use UpgradeType::{SafeDowngrade, Unknown, Upgrade};
        let metadata = "metadata.version";
        assert_eq!(
            after(metadata, 30, Upgrade, false),
            Ok(levels(&[("group.version", 1), (metadata, 30)]))
        );
        assert_eq!(
            after(metadata, 30, Upgrade, true),
            Ok(levels(&[("group.version", 1), (metadata, 29)]))
        );
        let refused = [
            (
                metadata,
                31,
                Upgrade,
                "Local controller 1 only supports versions 7-30",
            ),
            (metadata, 28, Upgrade, "without setting the upgrade type"),
            (
                metadata,
                30,
                SafeDowngrade,
                "Can't downgrade to a newer version.",
            ),
            (
                metadata,
                30,
                Unknown,
                "does not support the given upgrade type",
            ),
            (metadata, -1, Upgrade, "cannot be less than 0"),
            (
                "group.version",
                2,
                Upgrade,
                "does not support this feature.",
            ),
            ("nothing", 0, Upgrade, "Feature nothing not found."),
        ];
        for (feature, level, upgrade_type, why) in refused {
            let refusal = after(feature, level, upgrade_type, false).unwrap_err();
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn a_level_goes_down_where_no_record_is_lost() {
        use UpgradeType::{SafeDowngrade, UnsafeDowngrade};
        let metadata = "metadata.version";
        assert_eq!(
            after(metadata, 23, SafeDowngrade, false),
            Ok(levels(&[("group.version", 1), (metadata, 23)]))
        );
        assert_eq!(
            after("group.version", 0, SafeDowngrade, false),
            Ok(levels(&[(metadata, 29)]))
        );
        let refusal = after(metadata, 22, SafeDowngrade, false).unwrap_err();
        assert!(refusal.contains("from 29 to 22. Refusing"), "{refusal}");
        let refusal = after(metadata, 22, UnsafeDowngrade, false).unwrap_err();
        assert!(refusal.contains("Unsafe metadata downgrade"), "{refusal}");
    }
}
