//! Configs of each kind of resource: what may be set, and what is refused.

use super::{Change, replace, set};
use crate::config_refusal::ConfigRefusal;
use crate::{Settings, View};
use ottla_metadata::{ConfigResource, MetadataDelta, MetadataImage, ottla_configs};
use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::messages::metadata::{FeatureLevelRecord, MetadataRecord};
use std::collections::BTreeMap;

/// What Kafka 3 allowed to be set, and Kafka 4 has kept in the log.
const REMOVED: &str = "message.format.version";
/// What Kafka serves.
const UNSERVED: &str = "cordoned.log.dirs";

/// The records that one change comes to.
fn changed(
    image: &MetadataImage,
    owner: &ConfigResource,
    name: &str,
    change: Change,
) -> Result<Vec<MetadataRecord>, ConfigRefusal> {
    let settings = &Settings::default();
    set(
        View { image, settings },
        owner,
        None,
        &[(name.to_owned(), change)],
    )
}

fn value(value: &str) -> Change {
    Change::Set(value.to_owned())
}

fn after(image: MetadataImage, records: &[MetadataRecord]) -> MetadataImage {
    let mut delta = MetadataDelta::new(image);
    for record in records {
        delta.replay(record);
    }
    delta.finish().0
}

fn names(image: &MetadataImage) -> Vec<String> {
    let configs = image.configs.values();
    configs
        .flat_map(|configs| configs.keys().cloned())
        .collect()
}

#[test]
fn a_config_that_is_not_known_or_not_served_can_only_be_taken_back() {
    check_that_it_can_only_be_taken_back(&ConfigResource::topic("t"), REMOVED);
    check_that_it_can_only_be_taken_back(&ConfigResource::broker(1), UNSERVED);
    check_that_it_can_only_be_taken_back(&ConfigResource::broker(1), "listeners");
    check_that_it_can_only_be_taken_back(&ConfigResource::cluster(), "listeners");
}

fn check_that_it_can_only_be_taken_back(owner: &ConfigResource, name: &str) {
    let old = ottla_configs::record(owner, name.to_owned(), Some("3.0".to_owned()));
    let image = after(MetadataImage::default(), &[old.into()]);
    let settings = &Settings::default();
    let view = View {
        image: &image,
        settings,
    };
    let replaced = replace(view, owner, None, &BTreeMap::new()).unwrap();
    assert_eq!(names(&after(image.clone(), &replaced)), [""; 0]);
    let deleted = changed(&image, owner, name, Change::Delete).unwrap();
    assert_eq!(names(&after(image.clone(), &deleted)), [""; 0]);

    assert!(changed(&image, owner, name, value("3.1")).is_err());
    // What is not there is as good as taken back, whatever it is.
    let unset = MetadataImage::default();
    assert_eq!(changed(&unset, owner, name, Change::Delete), Ok(Vec::new()));
}

/// The code and the words with which a value is refused.
fn refusal(owner: &ConfigResource, name: &str, text: &str) -> (i16, String) {
    let image = MetadataImage::default();
    let refusal = changed(&image, owner, name, value(text)).unwrap_err();
    (refusal.code().code(), refusal.to_string())
}

#[test]
fn a_value_that_kafka_would_not_start_on_is_refused_with_its_code() {
    let (topic, group) = (ConfigResource::topic("t"), ConfigResource::group("g"));
    let session = "consumer.session.timeout.ms";
    for (owner, name, text, said) in [
        (&topic, "remote.storage.enable", "true", "Tiered Storage"),
        (&topic, "retention.ms", "-2", "at least -1"),
        (&topic, "cleanup.policy", "delete,", "must not be empty"),
        (&topic, "nothing", "1", "unknown topic config name"),
        (&group, session, "1", "group.consumer.min.session"),
        (&group, "share.auto.offset.reset", "foo", "by_duration"),
        (&group, "nothing", "1", "unknown group config name"),
    ] {
        let (code, why) = refusal(owner, name, text);
        assert_eq!(code, 40, "{name}: {why}");
        assert!(why.contains(said), "{name}: {why}");
    }
    let taken = changed(&MetadataImage::default(), &group, session, value("46000"));
    assert_eq!(taken.unwrap().len(), 1);
}

#[test]
fn a_value_that_a_broker_would_not_obey_is_an_invalid_request() {
    let (one, all) = (ConfigResource::broker(1), ConfigResource::cluster());
    let interval = "group.share.assignment.interval.ms";
    let of_one = "broker id must be specified: [listeners]";
    for (owner, name, text, said) in [
        (&one, "max.connections", "x", "whole number"),
        (&all, "max.connections.per.ip", "-1", "at least 0"),
        (
            &all,
            "max.connections.per.ip.overrides",
            "a",
            "address:count",
        ),
        (&one, "log.retention.ms", "0", "or -1"),
        (&all, interval, "15001", "group.share.max.assignment"),
        (&one, "listeners", "PLAINTEXT://:1", "restart"),
        (&all, "listeners", "PLAINTEXT://:1", of_one),
        (&one, "advertised.listeners", "A://b:1", "dynamically: [adv"),
    ] {
        let (code, why) = refusal(owner, name, text);
        assert_eq!(code, 42, "{name}: {why}");
        assert!(why.contains(said), "{name}: {why}");
    }
}

#[test]
fn a_bound_that_the_file_broke_keeps_nobody_from_other_changes() {
    let mut settings = Settings::default();
    let file = [
        ("log.local.retention.ms", "999999999999"),
        ("log.cleaner.dedupe.buffer.size", "1048576"),
    ];
    let file = file.map(|(name, value)| (name.to_owned(), value.to_owned()));
    settings.statics.values.extend(file);
    let cluster = ConfigResource::cluster();
    let local = "log.local.retention.ms".to_owned();
    let stored = ottla_configs::record(&cluster, local, Some("9999999999999".to_owned()));
    let image = after(MetadataImage::default(), &[stored.into()]);
    let change = |name: &str, change: Change| {
        let settings = &settings;
        let view = View {
            image: &image,
            settings,
        };
        set(view, &cluster, None, &[(name.to_owned(), change)]).map(|records| records.len())
    };
    assert_eq!(change("log.retention.bytes", value("1000")), Ok(1));
    assert_eq!(change("max.connections", value("10")), Ok(1));
    assert_eq!(change("log.local.retention.ms", Change::Delete), Ok(1));
    assert_eq!(change("log.cleaner.threads", Change::Delete), Ok(0));
    // What is set among them must mend them, and a bound that held is kept.
    assert_eq!(change("log.local.retention.ms", value("1000")), Ok(1));
    let refused = [
        change("log.local.retention.ms", value("99999999999999")),
        change("log.retention.ms", value("1000")),
        change("log.cleaner.threads", value("2")),
        change("max.connections.per.ip", value("0")),
    ];
    for result in refused {
        let code = result.map_err(|refusal| refusal.code());
        assert_eq!(code, Err(ErrorCode::InvalidRequest));
    }
}

#[test]
fn a_deletion_must_not_break_a_bound() {
    let cluster = ConfigResource::cluster();
    let overrides = "max.connections.per.ip.overrides";
    let stored = [("max.connections.per.ip", "0"), (overrides, "127.0.0.1:1")];
    let stored = stored.map(|(name, value)| {
        ottla_configs::record(&cluster, name.to_owned(), Some(value.to_owned())).into()
    });
    let image = after(MetadataImage::default(), &stored);
    let refused = changed(&image, &cluster, overrides, Change::Delete);
    let code = refused.map_err(|refusal| refusal.code());
    assert_eq!(code, Err(ErrorCode::InvalidRequest));
    let other = "max.connections.per.ip";
    assert!(changed(&image, &cluster, other, Change::Delete).is_ok());
}

#[test]
fn with_eligible_leaders_all_brokers_agree_on_the_in_sync_replicas() {
    let name = "min.insync.replicas";
    let cluster = ConfigResource::cluster();
    let level = FeatureLevelRecord {
        name: "eligible.leader.replicas.version".to_owned(),
        feature_level: 1,
        ..FeatureLevelRecord::default()
    };
    let of_all = ottla_configs::record(&cluster, name.to_owned(), Some("1".to_owned()));
    let with = after(
        MetadataImage::default(),
        &[level.into(), of_all.clone().into()],
    );
    let without = after(MetadataImage::default(), &[of_all.into()]);

    let broker = ConfigResource::broker(1);
    for (owner, change) in [
        (&broker, value("2")),
        (&broker, Change::Delete),
        (&cluster, Change::Delete),
    ] {
        let refusal = changed(&with, owner, name, change.clone()).unwrap_err();
        assert_eq!(refusal.code(), ErrorCode::InvalidConfig, "{refusal}");
        assert!(changed(&without, owner, name, change).is_ok());
    }
    let cleared = |image, owner, change| {
        let records = changed(image, owner, name, change).unwrap();
        let cleared = records.into_iter().filter_map(|record| match record {
            MetadataRecord::ClearElr(clear) => Some(clear.topic_name),
            _ => None,
        });
        cleared.collect::<Vec<_>>()
    };
    assert_eq!(cleared(&with, &cluster, value("2")), [""]);
    let topic = ConfigResource::topic("t");
    assert_eq!(cleared(&with, &topic, value("2")), ["t"]);
    assert_eq!(cleared(&without, &cluster, value("2")), [""; 0]);
}

#[test]
fn of_an_item_that_is_listed_twice_one_is_removed() {
    let owner = ConfigResource::topic("t");
    let twice = ottla_configs::record(
        &owner,
        "cleanup.policy".to_owned(),
        Some("delete,delete".to_owned()),
    );
    let image = after(MetadataImage::default(), &[twice.into()]);
    let taken = Change::Subtract("delete".to_owned());
    let records = changed(&image, &owner, "cleanup.policy", taken).unwrap();
    let left = after(image, &records);
    assert_eq!(left.config(&owner, "cleanup.policy"), Some("delete"));
}
