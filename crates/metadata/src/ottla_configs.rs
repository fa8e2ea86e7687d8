//! Ottla's own settings of topics, and how they are stored.
//!
//! Kafka 4.3 drops unknown topic configs on replay, so a snapshot by Kafka would lose these settings. They are stored as
//! configs of the default broker resource instead, with the topic's id in their names. Users see and set them as topic
//! configs.

use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::ConfigRecord;

use crate::{ConfigResource, MetadataImage};

/// The prefix of Ottla's own keys.
pub const PREFIX: &str = "ottla.";
/// The prefix of the stored names.
const STORED_PREFIX: &str = "ottla.topic.";

/// The name under which setting `key` (`ottla.…`) of a topic is stored.
pub fn stored_name(topic: Uuid, key: &str) -> String {
    let rest = key.strip_prefix(PREFIX).unwrap_or(key);
    format!("{STORED_PREFIX}{topic}.{rest}")
}

/// Whether a config of the default broker resource stores a setting of a topic.
pub fn is_stored(name: &str) -> bool {
    name.starts_with(STORED_PREFIX)
}

/// The records that bring the settings in order after another broker led the log. A setting that is stored as a topic
/// config is moved. Those of deleted topics are removed, because Kafka does not remove them with the topic.
pub fn settle(image: &MetadataImage) -> Vec<ConfigRecord> {
    let mut records = Vec::new();
    for topic in image.topics.values() {
        let resource = ConfigResource::topic(topic.name.clone());
        let configs = image.configs.get(&resource).into_iter().flatten();
        for (key, value) in configs.filter(|(key, _)| key.starts_with(PREFIX)) {
            let stored = stored_name(topic.id, key);
            if image.config(&ConfigResource::cluster(), &stored).is_none() {
                records.push(record(
                    &ConfigResource::cluster(),
                    stored,
                    Some(value.clone()),
                ));
            }
            records.push(record(&resource, key.clone(), None));
        }
    }
    let stored = image.configs.get(&ConfigResource::cluster());
    for (name, _) in stored.into_iter().flatten() {
        if topic_of(name).is_some_and(|id| !image.topics.contains_key(&id)) {
            records.push(record(&ConfigResource::cluster(), name.clone(), None));
        }
    }
    records
}

/// The topic whose setting is stored under this name.
fn topic_of(name: &str) -> Option<Uuid> {
    setting_of(name).map(|(topic, _)| topic)
}

/// The topic whose setting is stored under this name, and the key that users know (`ottla.…`).
pub fn setting_of(name: &str) -> Option<(Uuid, String)> {
    let (id, rest) = name.strip_prefix(STORED_PREFIX)?.split_once('.')?;
    let topic = Uuid::from_base64(id).ok()?;
    Some((topic, format!("{PREFIX}{rest}")))
}

/// The record that sets a config of `resource`, or deletes it if `value` is `None`.
pub fn record(resource: &ConfigResource, name: String, value: Option<String>) -> ConfigRecord {
    ConfigRecord {
        resource_type: resource.kind.code(),
        resource_name: resource.name.clone(),
        name,
        value,
        ..ConfigRecord::default()
    }
}

/// The settings of a topic: the keys that users know (`ottla.…`), and the values.
pub fn of_topic(image: &MetadataImage, topic: Uuid) -> Vec<(String, String)> {
    let prefix = stored_name(topic, "");
    let Some(configs) = image.configs.get(&ConfigResource::cluster()) else {
        return Vec::new();
    };
    configs
        .range(prefix.clone()..)
        .take_while(|(name, _)| name.starts_with(&prefix))
        .filter_map(|(name, value)| {
            let rest = name.strip_prefix(&prefix)?;
            Some((format!("{PREFIX}{rest}"), value.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{of_topic, record, settle, stored_name};
    use crate::{ConfigResource, MetadataDelta, MetadataImage};
    use ottla_protocol::ids::Uuid;
    use ottla_protocol::messages::metadata::TopicRecord;

    const KEY: &str = "ottla.ack.durability";

    /// Topic `t` of this id, with these configs besides.
    fn image(id: Uuid, configs: &[(ConfigResource, String)]) -> MetadataImage {
        let mut delta = MetadataDelta::new(MetadataImage::default());
        let topic = TopicRecord {
            name: "t".to_owned(),
            topic_id: id,
            ..TopicRecord::default()
        };
        delta.replay(&topic.into());
        for (resource, name) in configs {
            delta.replay(&record(resource, name.clone(), Some("page-cache".to_owned())).into());
        }
        delta.finish().0
    }

    fn settled(image: MetadataImage) -> MetadataImage {
        let mut delta = MetadataDelta::new(image);
        for record in settle(&delta.image().clone()) {
            delta.replay(&record.into());
        }
        delta.finish().0
    }

    #[test]
    fn settings_of_topics_that_are_gone_are_removed_and_others_stay() {
        let (here, gone) = (Uuid::from_parts(1, 1), Uuid::from_parts(2, 2));
        let cluster = ConfigResource::cluster();
        let configs = [
            (cluster.clone(), stored_name(here, KEY)),
            (cluster.clone(), stored_name(gone, KEY)),
            (cluster.clone(), "log.cleaner.threads".to_owned()),
        ];
        let after = settled(image(here, &configs));
        let kept: Vec<&String> = after.configs[&cluster].keys().collect();
        assert_eq!(kept, ["log.cleaner.threads", &stored_name(here, KEY)]);
        assert!(settle(&after).is_empty());
    }

    #[test]
    fn a_setting_that_stands_as_a_topic_config_is_moved() {
        let id = Uuid::from_parts(1, 1);
        let configs = [
            (ConfigResource::topic("t"), KEY.to_owned()),
            (ConfigResource::topic("t"), "retention.ms".to_owned()),
        ];
        let after = settled(image(id, &configs));
        assert_eq!(
            of_topic(&after, id),
            [(KEY.to_owned(), "page-cache".to_owned())]
        );
        let left: Vec<&String> = after.configs[&ConfigResource::topic("t")].keys().collect();
        assert_eq!(left, ["retention.ms"]);
        assert!(settle(&after).is_empty());
    }
}
