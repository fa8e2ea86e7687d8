//! The effective value of a config: the strongest of the values that were set for it, or its default.
//!
//! The order is Kafka's: the topic's own value, then this broker's dynamic value, the dynamic default of all brokers, the
//! file, and the built-in default. A topic config takes the broker values of its synonyms.

use std::collections::BTreeMap;

use ottla_protocol::ids::NodeId;

use crate::config_keys::{self, ConfigKey, Update, WhenChanged};
use crate::{ConfigResource, MetadataImage, ResourceKind, ottla_configs};

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker by AlterConfigs.
    DynamicBroker,
    /// Set on all brokers by AlterConfigs.
    DynamicDefaultBroker,
    /// In the file, or on the command line.
    StaticBroker,
    /// It is not set.
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

/// One value that a config has in one place. DescribeConfigs calls these the synonyms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// The config's name in that place.
    pub name: &'static str,
    /// The value, in the unit of `name`.
    pub value: String,
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

/// The effective value of a config, and all its values.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveConfig {
    pub key: &'static ConfigKey,
    /// The effective value, in the unit of `key`.
    pub value: Option<String>,
    pub source: ConfigSource,
    /// All values, the strongest first; the default comes last, if there is one.
    pub stated: Vec<Stated>,
}

/// The inputs of effective values besides the image: this node, and its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaticConfigs {
    pub node: NodeId,
    /// The values of the file and the command line; without a file, the embedded ones.
    pub values: BTreeMap<String, String>,
}

impl StaticConfigs {
    /// The value of a key. `broker.id` is an older name of `node.id`: each gives the value of the other.
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

/// The configs of a topic. If it does not exist, those that it would be created with.
pub fn topic(image: &MetadataImage, statics: &StaticConfigs, name: &str) -> Vec<EffectiveConfig> {
    let own = topic_overrides(image, name);
    topic_with(image, statics, &own)
}

/// The configs of a topic that has set `own`.
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

/// The configs that are set on a topic, Ottla's own settings included.
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

/// The effective value of one config of a topic.
pub fn topic_value(
    image: &MetadataImage,
    statics: &StaticConfigs,
    (topic, key): (&str, &str),
) -> Option<String> {
    let key = config_keys::find(ResourceKind::Topic, key)?;
    let own = image.config(&ConfigResource::topic(topic), key.name);
    let own = own.map(str::to_owned);
    topic_key(image, statics, key, own.as_ref()).value
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

/// A config with a value of its own, or else with that of its synonyms among the broker configs.
fn inherited(
    (image, statics): (&MetadataImage, &StaticConfigs),
    key: &'static ConfigKey,
    own: Option<(&String, ConfigSource)>,
) -> EffectiveConfig {
    let names: Vec<&'static str> = key.synonyms.iter().map(|synonym| synonym.name).collect();
    let mut stated = stated(image, statics, &names);
    let is_set = |found: &&Stated| found.source != ConfigSource::Default;
    let effective = stated.iter().find(is_set).and_then(|found| {
        let synonym = key.synonyms.iter().find(|known| known.name == found.name)?;
        Some((synonym.unit.convert(&found.value), found.source))
    });
    // If no synonym is set, Kafka begins with the default of the strongest one, even if that has none.
    let of_others = |found: &Stated| {
        found.source == ConfigSource::Default && Some(&found.name) != names.first()
    };
    let skipped = stated.iter().take_while(|found| of_others(found)).count();
    stated.drain(..skipped);
    let effective = match own {
        Some((value, source)) => {
            let value = value.clone();
            stated.insert(0, Stated::new(key.name, value.clone(), source));
            Some((value, source))
        }
        None => effective,
    };
    finish(key, effective, stated)
}

/// The configs of a broker. Internal keys, and those that Kafka has only as dynamic configs, are shown only if set.
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
    // Of the same config in other units, Kafka shows the values that are weaker than the key's own.
    let mut stated = stated(image, statics, &config_keys::family(key));
    let stronger = stated.iter().take_while(|found| found.name != key.name);
    stated.drain(..stronger.count());
    let effective = stated.iter().find(|found| found.name == key.name);
    let effective = effective.map(|found| (found.value.clone(), found.source));
    finish(key, effective, stated)
}

/// The configs of a group, whether it exists or not. Internal keys are shown only if set.
pub fn group(image: &MetadataImage, statics: &StaticConfigs, name: &str) -> Vec<EffectiveConfig> {
    let own = image.configs.get(&ConfigResource::group(name));
    let own = own.into_iter().flatten();
    let own = own.map(|(name, value)| (name.clone(), value.clone()));
    group_with(image, statics, &own.collect())
}

/// The configs of a group that has set `own`.
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
        let effective = own.map(|value| (value, ConfigSource::ClientMetrics));
        let stated = effective.iter();
        let stated = stated.map(|(value, source)| Stated::new(key.name, value.clone(), *source));
        let stated = stated.collect();
        finish(key, effective, stated)
    })
    .collect()
}

/// The dynamic configs that are the default of all brokers.
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

/// The values of the broker configs with these names, the strongest first: dynamic ones of this broker, dynamic ones of
/// all brokers, those of the file, and defaults.
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

/// The stored value of a broker or of all brokers, unless it has no effect: Kafka, or an older release, may have stored a
/// config that is read only from the file, or only for one broker.
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
    effective: Option<(String, ConfigSource)>,
    stated: Vec<Stated>,
) -> EffectiveConfig {
    let (value, source) = match effective {
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
mod tests;
