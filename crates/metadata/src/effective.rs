//! What a config is worth where it counts: dynamic over static over default, with all that stood behind it.
//!
//! The order is Kafka's: the topic's own value, then this broker's dynamic value, the dynamic default of all
//! brokers, the file, and the built-in default; for each of the topic config's synonyms in turn.

use std::collections::BTreeMap;

use ottla_protocol::ids::NodeId;

use crate::config_keys::{self, ConfigKey};
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
            Self::Group => 8,
        }
    }
}

/// One place where a value for a config stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// The name it stands under there.
    pub name: &'static str,
    /// The value there, in the unit of that name; `None` where the default is "none".
    pub value: Option<String>,
    /// Where.
    pub source: ConfigSource,
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
    /// All that was stated, the strongest first, ending with the default.
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
    let mut stated = Vec::new();
    let mut worth = None;
    if let Some(value) = own {
        let source = ConfigSource::Topic;
        stated.push(Stated {
            name: key.name,
            value: Some(value.clone()),
            source,
        });
        worth = Some((value.clone(), source));
    }
    for synonym in key.synonyms {
        for found in broker_values(image, statics, synonym.name) {
            let value = found
                .value
                .as_deref()
                .map(|value| synonym.unit.convert(value));
            if let (None, Some(value)) = (&worth, value) {
                worth = Some((value, found.source));
            }
            stated.push(found);
        }
    }
    let name = key.synonyms.last().map_or(key.name, |synonym| synonym.name);
    finish(key, name, worth, stated)
}

/// The configs of a broker; internal keys only where they are set.
pub fn broker(image: &MetadataImage, statics: &StaticConfigs) -> Vec<EffectiveConfig> {
    config_keys::all(ResourceKind::Broker)
        .filter(|key| !key.internal || statics.values.contains_key(key.name))
        .map(|key| {
            let stated: Vec<Stated> = broker_values(image, statics, key.name).collect();
            let worth = stated
                .iter()
                .find_map(|found| Some((found.value.clone()?, found.source)));
            finish(key, key.name, worth, stated)
        })
        .collect()
}

/// The dynamic configs that all brokers take as their default, and nothing else.
pub fn cluster(image: &MetadataImage) -> Vec<EffectiveConfig> {
    config_keys::all(ResourceKind::Broker)
        .filter_map(|key| {
            let value = image
                .config(&ConfigResource::cluster(), key.name)?
                .to_owned();
            let source = ConfigSource::DynamicDefaultBroker;
            let stated = Stated {
                name: key.name,
                value: Some(value.clone()),
                source,
            };
            Some(EffectiveConfig {
                key,
                value: Some(value),
                source,
                stated: vec![stated],
            })
        })
        .collect()
}

fn broker_values<'a>(
    image: &'a MetadataImage,
    statics: &'a StaticConfigs,
    name: &'static str,
) -> impl Iterator<Item = Stated> + 'a {
    let dynamic = image.config(&ConfigResource::broker(statics.node.0), name);
    let default = image.config(&ConfigResource::cluster(), name);
    let fixed = statics.values.get(name).map(String::as_str);
    [
        (dynamic, ConfigSource::DynamicBroker),
        (default, ConfigSource::DynamicDefaultBroker),
        (fixed, ConfigSource::StaticBroker),
    ]
    .into_iter()
    .filter_map(move |(value, source)| {
        Some(Stated {
            name,
            value: Some(value?.to_owned()),
            source,
        })
    })
}

fn finish(
    key: &'static ConfigKey,
    default_name: &'static str,
    worth: Option<(String, ConfigSource)>,
    mut stated: Vec<Stated>,
) -> EffectiveConfig {
    let source = ConfigSource::Default;
    let default = config_keys::find(ResourceKind::Broker, default_name).unwrap_or(key);
    let in_its_unit = default.default.or(key.default);
    stated.push(Stated {
        name: default_name,
        value: in_its_unit.map(str::to_owned),
        source,
    });
    let (value, source) = match worth {
        Some((value, source)) => (Some(value), source),
        None => (key.default.map(str::to_owned), source),
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
    use super::{ConfigSource, StaticConfigs, topic, topic_with};
    use crate::MetadataImage;
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
        assert_eq!(found.stated.len(), 2);
    }
}
