//! Which value of a config counts: a topic's own, a broker's, the cluster's, the file's, or the default.
//!
//! Dynamic values come from the metadata image, static ones from the broker's own file. The order in which
//! synonyms are listed, and that some are left out, is what Kafka's DescribeConfigs shows.

use std::collections::BTreeMap;

use ottla_protocol::ids::NodeId;

use super::{ConfigKey, find};
use crate::{ConfigResource, MetadataImage, ResourceKind};

/// Where a value was set; the numbers are those of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// On the topic.
    Topic,
    /// On this broker, while it ran.
    Broker,
    /// On all brokers, while they ran.
    Cluster,
    /// In this broker's file or command line.
    File,
    /// Nowhere.
    Default,
    /// On the group.
    Group,
}

impl Source {
    /// The wire's number.
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Broker => 2,
            Self::Cluster => 3,
            Self::File => 4,
            Self::Default => 5,
            Self::Group => 8,
        }
    }
}

/// A value and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key it was set by; a synonym's name where that is what was set.
    pub name: &'static str,
    /// The value as it was set; `None` where there is none, not even a default.
    pub value: Option<String>,
    /// Where.
    pub source: Source,
}

/// Everything that gives a broker's configs their values.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// Holds what was set while brokers ran.
    pub image: &'a MetadataImage,
    /// This broker.
    pub node: NodeId,
    /// What its file and command line say.
    pub file: &'a BTreeMap<String, String>,
}

impl Layers<'_> {
    /// The value of a broker config that counts.
    pub fn broker(&self, key: &'static ConfigKey) -> Setting {
        [Source::Broker, Source::Cluster, Source::File]
            .into_iter()
            .find_map(|source| self.at(source, key))
            .unwrap_or_else(|| default(key))
    }

    /// Every value of a broker config, the one that counts first, with those of its synonyms.
    pub fn broker_synonyms(&self, key: &'static ConfigKey) -> Vec<Setting> {
        let keys = related(key);
        let mut settings = Vec::new();
        for source in [
            Source::Broker,
            Source::Cluster,
            Source::File,
            Source::Default,
        ] {
            settings.extend(keys.iter().filter_map(|key| self.at(source, key)));
        }
        let first = settings.iter().position(|setting| setting.name == key.name);
        settings.split_off(first.unwrap_or(settings.len()))
    }

    /// The value of a topic config that counts, in the topic config's unit; `own` is the topic's.
    pub fn topic(&self, key: &'static ConfigKey, own: Option<&str>) -> Setting {
        if let Some(own) = own {
            return Setting {
                name: key.name,
                value: Some(own.to_owned()),
                source: Source::Topic,
            };
        }
        for synonym in key.synonyms {
            let Some(broker) = find(ResourceKind::Broker, synonym.name) else {
                continue;
            };
            let setting = self.broker(broker);
            if setting.source != Source::Default {
                return Setting {
                    name: key.name,
                    value: setting.value.map(|value| synonym.unit.convert(&value)),
                    source: setting.source,
                };
            }
        }
        default(key)
    }

    /// Every value of a topic config, the one that counts first, with those of its broker configs.
    pub fn topic_synonyms(&self, key: &'static ConfigKey, own: Option<&str>) -> Vec<Setting> {
        let mut settings = Vec::new();
        if own.is_some() {
            settings.push(self.topic(key, own));
        }
        let broker = key
            .synonyms
            .first()
            .and_then(|synonym| find(ResourceKind::Broker, synonym.name));
        if let Some(broker) = broker {
            settings.extend(self.broker_synonyms(broker));
        }
        settings
    }

    fn at(&self, source: Source, key: &'static ConfigKey) -> Option<Setting> {
        let value = match source {
            Source::Broker => self
                .image
                .config(&ConfigResource::broker(self.node.0), key.name),
            Source::Cluster => self.image.config(&ConfigResource::cluster(), key.name),
            Source::File => self.file.get(key.name).map(String::as_str),
            Source::Default => key.default,
            Source::Topic | Source::Group => None,
        };
        value.map(|value| Setting {
            name: key.name,
            value: Some(value.to_owned()),
            source,
        })
    }
}

fn default(key: &'static ConfigKey) -> Setting {
    Setting {
        name: key.name,
        value: key.default.map(str::to_owned),
        source: Source::Default,
    }
}

/// The broker configs that mean the same in another unit, `key` among them, the strongest first.
fn related(key: &'static ConfigKey) -> Vec<&'static ConfigKey> {
    let family = super::all(ResourceKind::Topic)
        .map(|topic| topic.synonyms)
        .find(|synonyms| {
            let position = synonyms.iter().position(|one| one.name == key.name);
            // The scheduler's interval is a fallback of the flush interval, not the other way round.
            position.is_some_and(|position| {
                position == 0 || key.name != "log.flush.scheduler.interval.ms"
            })
        });
    match family {
        Some(synonyms) => synonyms
            .iter()
            .filter_map(|one| find(ResourceKind::Broker, one.name))
            .collect(),
        None => vec![key],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ottla_protocol::ids::NodeId;

    use super::{Layers, Setting, Source};
    use crate::config_keys::find;
    use crate::{ConfigResource, MetadataImage, ResourceKind};

    fn file(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn topic(layers: &Layers<'_>, name: &str, own: Option<&str>) -> (String, Source) {
        let setting = layers.topic(find(ResourceKind::Topic, name).unwrap(), own);
        (setting.value.unwrap(), setting.source)
    }

    #[test]
    fn the_strongest_layer_gives_the_value_in_the_topics_unit() {
        let mut image = MetadataImage::default();
        let file = file(&[("log.retention.hours", "2"), ("log.roll.hours", "1")]);
        let set = |image: &mut MetadataImage, resource: ConfigResource, value: &str| {
            let configs = [("log.retention.ms".to_owned(), value.to_owned())];
            image
                .configs
                .insert(resource, configs.into_iter().collect());
        };
        let get = |image: &MetadataImage, own| {
            let layers = Layers {
                image,
                node: NodeId(1),
                file: &file,
            };
            topic(&layers, "retention.ms", own)
        };
        assert_eq!(get(&image, None), ("7200000".to_owned(), Source::File));
        set(&mut image, ConfigResource::cluster(), "5");
        assert_eq!(get(&image, None), ("5".to_owned(), Source::Cluster));
        set(&mut image, ConfigResource::broker(2), "6");
        assert_eq!(get(&image, None), ("5".to_owned(), Source::Cluster));
        set(&mut image, ConfigResource::broker(1), "7");
        assert_eq!(get(&image, None), ("7".to_owned(), Source::Broker));
        assert_eq!(get(&image, Some("8")), ("8".to_owned(), Source::Topic));
    }

    #[test]
    fn synonyms_are_listed_as_kafka_lists_them() {
        let image = MetadataImage::default();
        let file = file(&[
            ("log.retention.hours", "2"),
            ("log.segment.bytes", "2000000"),
        ]);
        let layers = Layers {
            image: &image,
            node: NodeId(1),
            file: &file,
        };
        let key = |name| find(ResourceKind::Topic, name).unwrap();
        let listed = layers.topic_synonyms(key("segment.bytes"), Some("3000000"));
        let setting = |name, value: &str, source| Setting {
            name,
            value: Some(value.to_owned()),
            source,
        };
        assert_eq!(
            listed,
            [
                setting("segment.bytes", "3000000", Source::Topic),
                setting("log.segment.bytes", "2000000", Source::File),
                setting("log.segment.bytes", "1073741824", Source::Default),
            ]
        );
        // Kafka drops what stands before the strongest synonym's own name, here everything.
        assert_eq!(layers.topic_synonyms(key("retention.ms"), None), []);
    }
}
