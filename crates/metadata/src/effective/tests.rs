//! Where the value of a config comes from.

use super::{ConfigSource, StaticConfigs, broker, cluster, group, topic, topic_with};
use crate::{ConfigResource, MetadataImage};
use ottla_protocol::ids::NodeId;
use std::collections::BTreeMap;

fn value(statics: &[(&str, &str)], key: &str) -> (Option<String>, ConfigSource) {
    let values = statics
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    let statics = StaticConfigs {
        values,
        ..StaticConfigs::default()
    };
    let configs = topic(&MetadataImage::default(), &statics, "t");
    let found = configs
        .into_iter()
        .find(|config| config.key.name == key)
        .unwrap();
    (found.value, found.source)
}

#[test]
fn a_topic_default_comes_from_the_strongest_synonym_in_its_own_unit() {
    let hours = ("log.retention.hours", "2");
    let unset = (Some("604800000".into()), ConfigSource::Default);
    assert_eq!(value(&[], "retention.ms"), unset);
    let fixed = |text: &str| (Some(text.into()), ConfigSource::StaticBroker);
    assert_eq!(value(&[hours], "retention.ms"), fixed("7200000"));
    let both = [hours, ("log.retention.ms", "5")];
    assert_eq!(value(&both, "retention.ms"), fixed("5"));
}

#[test]
fn the_topic_itself_beats_everything() {
    let own = BTreeMap::from([("retention.ms".to_owned(), "9".to_owned())]);
    let statics = StaticConfigs::default();
    let configs = topic_with(&MetadataImage::default(), &statics, &own);
    let found = configs
        .iter()
        .find(|config| config.key.name == "retention.ms")
        .unwrap();
    assert_eq!(found.value.as_deref(), Some("9"));
    assert_eq!(found.source, ConfigSource::Topic);
    assert_eq!(found.stated.len(), 1, "there is no default in this unit");
}

#[test]
fn a_default_is_shown_under_its_own_name_and_only_where_there_is_one() {
    let shown = |statics: &[(&str, &str)], key: &str| {
        let values = statics.iter();
        let values = values.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let statics = StaticConfigs {
            values: values.collect(),
            ..StaticConfigs::default()
        };
        let configs = topic(&MetadataImage::default(), &statics, "t");
        let config = configs.into_iter().find(|config| config.key.name == key);
        let stated = config.unwrap().stated.into_iter();
        stated
            .map(|found| (found.name, found.value))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&[], "retention.ms"), []);
    let hours = ("log.retention.hours", "2");
    let default = ("log.retention.hours", "168".to_owned());
    assert_eq!(
        shown(&[hours], "retention.ms"),
        [(hours.0, hours.1.to_owned()), default]
    );
    let bytes = ("log.retention.bytes", "-1".to_owned());
    assert_eq!(shown(&[], "retention.bytes"), [bytes]);
    assert_eq!(shown(&[], "remote.storage.enable"), []);
}

#[test]
fn what_only_the_file_may_say_is_not_taken_from_the_metadata() {
    let mut image = MetadataImage::default();
    let stored = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let of_one = stored(&[
        ("listeners", "PLAINTEXT://:1"),
        ("sasl.kerberos.service.name", "a"),
    ]);
    let of_all = stored(&[
        ("sasl.kerberos.service.name", "b"),
        ("log.retention.hours", "1"),
    ]);
    image
        .configs
        .insert(ConfigResource::broker(1), of_one.into_iter().collect());
    image
        .configs
        .insert(ConfigResource::cluster(), of_all.into_iter().collect());
    let statics = StaticConfigs {
        node: NodeId(1),
        values: stored(&[("node.id", "1"), ("listeners", "PLAINTEXT://:9092")]),
    };
    let configs = broker(&image, &statics);
    let value = |name: &str| {
        let config = configs.iter().find(|config| config.key.name == name);
        config.unwrap().value.clone().unwrap_or_default()
    };
    assert_eq!(value("listeners"), "PLAINTEXT://:9092");
    assert_eq!(value("sasl.kerberos.service.name"), "a");
    assert_eq!(value("log.retention.hours"), "168");
    assert_eq!(value("broker.id"), "1");
    assert!(cluster(&image).is_empty());
}

#[test]
fn a_group_takes_what_it_does_not_set_from_the_brokers() {
    let mut image = MetadataImage::default();
    let own = ("consumer.session.timeout.ms".to_owned(), "50000".to_owned());
    image
        .configs
        .insert(ConfigResource::group("g"), std::iter::once(own).collect());
    let statics = StaticConfigs {
        node: NodeId(1),
        values: BTreeMap::from([(
            "group.consumer.heartbeat.interval.ms".to_owned(),
            "6000".to_owned(),
        )]),
    };
    let configs = group(&image, &statics, "g");
    let of = |name: &str| {
        let config = configs.iter().find(|config| config.key.name == name);
        let config = config.unwrap();
        let names = config.stated.iter().map(|found| found.name);
        (
            config.value.clone(),
            config.source,
            names.collect::<Vec<_>>(),
        )
    };
    let session = [
        "consumer.session.timeout.ms",
        "group.consumer.session.timeout.ms",
    ];
    assert_eq!(
        of("consumer.session.timeout.ms"),
        (Some("50000".into()), ConfigSource::Group, session.to_vec())
    );
    let heartbeat = "group.consumer.heartbeat.interval.ms";
    assert_eq!(
        of("consumer.heartbeat.interval.ms"),
        (
            Some("6000".into()),
            ConfigSource::StaticBroker,
            vec![heartbeat, heartbeat]
        )
    );
    let reset = "share.auto.offset.reset";
    assert_eq!(
        of(reset),
        (Some("latest".into()), ConfigSource::Default, vec![reset])
    );
}

#[test]
fn a_stored_config_of_a_topic_that_nobody_knows_is_left_out() {
    let mut image = MetadataImage::default();
    let stored = [("message.format.version", "3.0"), ("retention.ms", "5")];
    let stored = stored.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let resource = ConfigResource::topic("t");
    image.configs.insert(resource, stored.into_iter().collect());
    let configs = topic(&image, &StaticConfigs::default(), "t");
    let own: Vec<_> = configs
        .iter()
        .filter(|config| config.source == ConfigSource::Topic)
        .map(|config| config.key.name)
        .collect();
    assert_eq!(own, ["retention.ms"]);
}
