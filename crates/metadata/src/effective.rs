//! What a config is worth where it counts: dynamic over static over default, with all that stood behind it.
//!
//! The order is Kafka's: the topic's own value, then this broker's dynamic value, the dynamic default of all
//! brokers, the file, and the built-in default; for each of the topic config's synonyms in turn.

use std::collections::BTreeMap;

use ottla_protocol::ids::NodeId;

use crate::config_keys::{self, ConfigKey, Update, WhenChanged};
use crate::{ConfigResource, MetadataImage, ResourceKind, ottla_configs};

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker while it ran.
    DynamicBroker,
    /// Set on all brokers while they ran.
    DynamicDefaultBroker,
    /// In the file, or on the command line.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// Set on the group.
    Group,
    /// Set on the subscription to client metrics.
    ClientMetrics,
}

impl ConfigSource {
    /// The number in DescribeConfigs.
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::ClientMetrics => 7,
            Self::Group => 8,
        }
    }
}

/// One place where a value for a config stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// The name it stands under there.
    pub name: &'static str,
    /// The value there, in the unit of that name.
    pub value: String,
    /// Where.
    pub source: ConfigSource,
}

impl Stated {
    const fn new(name: &'static str, value: String, source: ConfigSource) -> Self {
        Self {
            name,
            value,
            source,
        }
    }
}

/// A config's value, and everything that was stated for it, the strongest first.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveConfig {
    /// The key.
    pub key: &'static ConfigKey,
    /// The value that counts, in the key's own unit.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// All that was stated, the strongest first, ending with the default where there is one.
    pub stated: Vec<Stated>,
}

/// What decides configs besides the image: this node and what its file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaticConfigs {
    /// This node.
    pub node: NodeId,
    /// The keys set in the file or on the command line, and the embedded defaults where there is no file.
    pub values: BTreeMap<String, String>,
}

impl StaticConfigs {
    /// What the file says of a key. `broker.id` is an older name of `node.id`: who sets one sets both.
    pub fn get(&self, name: &str) -> Option<&str> {
        let other = match name {
            "broker.id" => "node.id",
            "node.id" => "broker.id",
            _ => name,
        };
        let value = self.values.get(name).or_else(|| self.values.get(other));
        value.map(String::as_str)
    }
}

/// The configs of a topic, whether it exists or not (then those it would be created with).
pub fn topic(image: &MetadataImage, statics: &StaticConfigs, name: &str) -> Vec<EffectiveConfig> {
    let own = topic_overrides(image, name);
    topic_with(image, statics, &own)
}

/// The configs of a topic with these of its own.
pub fn topic_with(
    image: &MetadataImage,
    statics: &StaticConfigs,
    own: &BTreeMap<String, String>,
) -> Vec<EffectiveConfig> {
    config_keys::all(ResourceKind::Topic)
        .filter(|key| !key.internal || own.contains_key(key.name))
        .map(|key| topic_key(image, statics, key, own.get(key.name)))
        .collect()
}

/// What a topic sets itself, Ottla's own settings among it.
pub fn topic_overrides(image: &MetadataImage, name: &str) -> BTreeMap<String, String> {
    let mut own: BTreeMap<String, String> = image
        .configs
        .get(&ConfigResource::topic(name))
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(id) = image.topic_ids.get(name) {
        own.extend(ottla_configs::of_topic(image, *id));
    }
    own
}

fn topic_key(
    image: &MetadataImage,
    statics: &StaticConfigs,
    key: &'static ConfigKey,
    own: Option<&String>,
) -> EffectiveConfig {
    inherited(
        (image, statics),
        key,
        own.map(|own| (own, ConfigSource::Topic)),
    )
}

/// A config that is set itself, or takes its value from its synonyms among the brokers' configs.
fn inherited(
    (image, statics): (&MetadataImage, &StaticConfigs),
    key: &'static ConfigKey,
    own: Option<(&String, ConfigSource)>,
) -> EffectiveConfig {
    let names: Vec<&'static str> = key.synonyms.iter().map(|synonym| synonym.name).collect();
    let mut stated = stated(image, statics, &names);
    let is_set = |found: &&Stated| found.source != ConfigSource::Default;
    let worth = stated.iter().find(is_set).and_then(|found| {
        let synonym = key.synonyms.iter().find(|known| known.name == found.name)?;
        Some((synonym.unit.convert(&found.value), found.source))
    });
    // Where nobody set anything, Kafka begins with the default of the strongest synonym, even if that has none.
    let of_others = |found: &Stated| {
        found.source == ConfigSource::Default && Some(&found.name) != names.first()
    };
    let skipped = stated.iter().take_while(|found| of_others(found)).count();
    stated.drain(..skipped);
    let worth = match own {
        Some((value, source)) => {
            let value = value.clone();
            stated.insert(0, Stated::new(key.name, value.clone(), source));
            Some((value, source))
        }
        None => worth,
    };
    finish(key, worth, stated)
}

/// The configs of a broker; internal keys, and those that Kafka knows as dynamic ones alone, only where they are set.
pub fn broker(image: &MetadataImage, statics: &StaticConfigs) -> Vec<EffectiveConfig> {
    config_keys::all(ResourceKind::Broker)
        .map(|key| broker_key(image, statics, key))
        .filter(|config| {
            let is_hidden = config.key.internal || config.key.only_where_set;
            !is_hidden || config.source != ConfigSource::Default
        })
        .collect()
}

/// One config of a broker.
pub fn broker_key(
    image: &MetadataImage,
    statics: &StaticConfigs,
    key: &'static ConfigKey,
) -> EffectiveConfig {
    // Of what states the same thing in other units, Kafka shows what is weaker than the key itself.
    let mut stated = stated(image, statics, &config_keys::family(key));
    let stronger = stated.iter().take_while(|found| found.name != key.name);
    stated.drain(..stronger.count());
    let worth = stated.iter().find(|found| found.name == key.name);
    let worth = worth.map(|found| (found.value.clone(), found.source));
    finish(key, worth, stated)
}

/// The configs of a group, whether it exists or not; internal keys only where they are set.
pub fn group(image: &MetadataImage, statics: &StaticConfigs, name: &str) -> Vec<EffectiveConfig> {
    let own = image.configs.get(&ConfigResource::group(name));
    let own = own.into_iter().flatten();
    let own = own.map(|(name, value)| (name.clone(), value.clone()));
    group_with(image, statics, &own.collect())
}

/// The configs of a group with these of its own.
pub fn group_with(
    image: &MetadataImage,
    statics: &StaticConfigs,
    own: &BTreeMap<String, String>,
) -> Vec<EffectiveConfig> {
    config_keys::all(ResourceKind::Group)
        .filter(|key| !key.internal || own.contains_key(key.name))
        .map(|key| {
            let set = own.get(key.name).map(|own| (own, ConfigSource::Group));
            let mut config = inherited((image, statics), key, set);
            if let (true, Some(default)) = (key.synonyms.is_empty(), key.default) {
                let default = Stated::new(key.name, default.to_owned(), ConfigSource::Default);
                config.stated.push(default);
            }
            config
        })
        .collect()
}

/// The configs of a subscription to client metrics, whether it exists or not.
pub fn client_metrics(image: &MetadataImage, name: &str) -> Vec<EffectiveConfig> {
    let resource = ConfigResource {
        kind: ResourceKind::ClientMetrics,
        name: name.to_owned(),
    };
    let keys = config_keys::all(ResourceKind::ClientMetrics);
    keys.map(|key| {
        let own = image.config(&resource, key.name).map(str::to_owned);
        let worth = own.map(|value| (value, ConfigSource::ClientMetrics));
        let stated = worth.iter();
        let stated = stated.map(|(value, source)| Stated::new(key.name, value.clone(), *source));
        let stated = stated.collect();
        finish(key, worth, stated)
    })
    .collect()
}

/// The dynamic configs that all brokers take as their default, and nothing else.
pub fn cluster(image: &MetadataImage) -> Vec<EffectiveConfig> {
    config_keys::all(ResourceKind::Broker)
        .filter_map(|key| {
            let value = dynamic(image, &ConfigResource::cluster(), key)?.to_owned();
            let source = ConfigSource::DynamicDefaultBroker;
            let stated = vec![Stated::new(key.name, value.clone(), source)];
            Some(finish(key, Some((value, source)), stated))
        })
        .collect()
}

/// What was set under these names: on this broker while it ran, on all, in the file; and what they are by default.
fn stated(image: &MetadataImage, statics: &StaticConfigs, names: &[&'static str]) -> Vec<Stated> {
    let (broker, cluster) = (
        ConfigResource::broker(statics.node.0),
        ConfigResource::cluster(),
    );
    let keys: Vec<&'static ConfigKey> = names
        .iter()
        .filter_map(|name| config_keys::find(ResourceKind::Broker, name))
        .collect();
    let mut all = Vec::new();
    for source in [
        ConfigSource::DynamicBroker,
        ConfigSource::DynamicDefaultBroker,
        ConfigSource::StaticBroker,
        ConfigSource::Default,
    ] {
        all.extend(keys.iter().filter_map(|key| {
            let value = match source {
                ConfigSource::DynamicBroker => dynamic(image, &broker, key),
                ConfigSource::DynamicDefaultBroker => dynamic(image, &cluster, key),
                ConfigSource::StaticBroker => statics.get(key.name),
                _ => key.default,
            };
            Some(Stated::new(key.name, value?.to_owned(), source))
        }));
    }
    all
}

/// What is stored for a broker or for all, unless it does not count: Kafka, or an older release, may have stored what
/// can only be set in the file, or only for one broker.
fn dynamic<'a>(
    image: &'a MetadataImage,
    resource: &ConfigResource,
    key: &ConfigKey,
) -> Option<&'a str> {
    let counts = match key.update {
        Update::ReadOnly | Update::PerListener => false,
        Update::PerBroker => !resource.name.is_empty(),
        Update::ClusterWide => true,
    };
    let counts = counts && key.when_changed() != WhenChanged::Refused;
    image.config(resource, key.name).filter(|_| counts)
}

fn finish(
    key: &'static ConfigKey,
    worth: Option<(String, ConfigSource)>,
    stated: Vec<Stated>,
) -> EffectiveConfig {
    let (value, source) = match worth {
        Some((value, source)) => (Some(value), source),
        None => (key.default.map(str::to_owned), ConfigSource::Default),
    };
    EffectiveConfig {
        key,
        value,
        source,
        stated,
    }
}

#[cfg(test)]
mod tests {
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
}
