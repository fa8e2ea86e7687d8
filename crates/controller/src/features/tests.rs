//! Which changes of feature levels are taken.

use super::{Local, Update, UpgradeType, decide};
use crate::{Refusal, Settings, View};
use ottla_metadata::{ConfigResource, FeatureRange, MetadataDelta, MetadataImage, ottla_configs};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::metadata::FeatureLevelRecord;

/// A cluster at `metadata.version` 29 with groups of the new kind.
fn cluster() -> MetadataDelta {
    let mut delta = MetadataDelta::new(MetadataImage::default());
    for (name, feature_level) in [("metadata.version", 29), ("group.version", 1)] {
        let record = FeatureLevelRecord {
            name: name.to_owned(),
            feature_level,
            ..FeatureLevelRecord::default()
        };
        delta.replay(&record.into());
    }
    delta
}

/// Decides these updates of a cluster; the image after them.
fn updated(
    cluster: MetadataDelta,
    updates: &[Update],
    validate_only: bool,
) -> Result<MetadataImage, String> {
    let range = |name: &str, (minimum, maximum)| FeatureRange {
        name: name.to_owned(),
        minimum,
        maximum,
    };
    let supported = [
        range("metadata.version", (7, 30)),
        range("kraft.version", (0, 1)),
        range("eligible.leader.replicas.version", (0, 1)),
    ];
    let local = Local {
        node: NodeId(1),
        supported: &supported,
        kraft_version: 1,
    };
    let mut delta = cluster;
    let image = delta.image().clone();
    let view = View {
        image: &image,
        settings: &Settings::default(),
    };
    let decision = decide(view, local, updates, validate_only);
    for record in &decision.records {
        delta.replay(record);
    }
    match decision.reply {
        Ok(()) => Ok(delta.finish().0),
        Err(Refusal::InvalidUpdate(invalid)) => Err(invalid.to_string()),
        Err(other) => panic!("{other}"),
    }
}

fn to(feature: &str, level: i16, upgrade_type: UpgradeType) -> Update {
    Update {
        feature: feature.to_owned(),
        level,
        upgrade_type,
    }
}

/// Asks for one update of the cluster; the levels after it.
fn after(
    feature: &str,
    level: i16,
    upgrade_type: UpgradeType,
    validate_only: bool,
) -> Result<Vec<(String, i16)>, String> {
    let updates = [to(feature, level, upgrade_type)];
    let image = updated(cluster(), &updates, validate_only)?;
    Ok(image.features.into_iter().collect())
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

#[test]
fn with_eligible_leaders_comes_a_number_of_in_sync_replicas_for_all_brokers() {
    use UpgradeType::{SafeDowngrade, Upgrade};
    let (feature, key) = ("eligible.leader.replicas.version", "min.insync.replicas");
    let cluster_wide = ConfigResource::cluster();
    let mut of_one = cluster();
    let record = ottla_configs::record(
        &ConfigResource::broker(1),
        key.to_owned(),
        Some("2".to_owned()),
    );
    of_one.replay(&record.into());
    let image = updated(of_one.clone(), &[to(feature, 1, Upgrade)], false).unwrap();
    assert_eq!(image.features[feature], 1);
    assert_eq!(image.config(&cluster_wide, key), Some("1"));
    assert_eq!(image.config(&ConfigResource::broker(1), key), None);
    let checked = updated(of_one, &[to(feature, 1, Upgrade)], true).unwrap();
    assert_eq!(checked.config(&cluster_wide, key), None);

    // A number that was set stays, also when the feature goes again.
    let mut set = cluster();
    let record = ottla_configs::record(&cluster_wide, key.to_owned(), Some("3".to_owned()));
    set.replay(&record.into());
    let image = updated(set, &[to(feature, 1, Upgrade)], false).unwrap();
    assert_eq!(image.config(&cluster_wide, key), Some("3"));
    let again = MetadataDelta::new(image);
    let image = updated(again, &[to(feature, 0, SafeDowngrade)], false).unwrap();
    assert!(!image.features.contains_key(feature));

    let mut older = cluster();
    let level = FeatureLevelRecord {
        name: "metadata.version".to_owned(),
        feature_level: 22,
        ..FeatureLevelRecord::default()
    };
    older.replay(&level.into());
    let why = updated(older, &[to(feature, 1, Upgrade)], false).unwrap_err();
    assert!(
        why.contains("depends on metadata.version level 23"),
        "{why}"
    );
}

#[test]
fn the_level_of_the_quorum_stays() {
    use UpgradeType::{SafeDowngrade, Upgrade};
    let kraft = "kraft.version";
    let unchanged = levels(&[("group.version", 1), ("metadata.version", 29)]);
    assert_eq!(after(kraft, 1, Upgrade, false), Ok(unchanged));
    let why = after(kraft, 0, SafeDowngrade, false).unwrap_err();
    assert!(why.contains("Can't downgrade the version"), "{why}");
    let why = after(kraft, 2, Upgrade, false).unwrap_err();
    assert!(why.contains("only supports versions 0-1"), "{why}");
}
