//! Ottla's own per-topic settings, and where they stand.
//!
//! Kafka 4.3 drops topic configs that it does not know when it replays, so that a snapshot by Kafka would forget
//! them. They stand as configs of the default broker resource instead, named by the topic's id, and are shown
//! and set as topic configs.

use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::ConfigRecord;

use crate::{ConfigResource, MetadataImage};

/// How Ottla's own keys begin.
pub const PREFIX: &str = "ottla.";
/// How the stored names begin.
const STORED_PREFIX: &str = "ottla.topic.";

/// The stored name of topic setting `key` (`ottla.…`) of the topic with this id.
pub fn stored_name(topic: Uuid, key: &str) -> String {
    let rest = key.strip_prefix(PREFIX).unwrap_or(key);
    format!("{STORED_PREFIX}{topic}.{rest}")
}

/// Whether this is the name of a topic's setting among the configs of the default broker resource.
pub fn is_stored(name: &str) -> bool {
    name.starts_with(STORED_PREFIX)
}

/// The records that put every setting where it belongs, after others have written: one that stands as a topic config is
/// moved, and those of a topic that is gone are removed, because Kafka does not remove them along with it.
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

/// The topic whose setting is stored under this name, and the key as a user knows it (`ottla.…`).
pub fn setting_of(name: &str) -> Option<(Uuid, String)> {
    let (id, rest) = name.strip_prefix(STORED_PREFIX)?.split_once('.')?;
    let topic = Uuid::from_base64(id).ok()?;
    Some((topic, format!("{PREFIX}{rest}")))
}

/// The record by which `resource` has `value` under `name`, or no longer has one.
pub fn record(resource: &ConfigResource, name: String, value: Option<String>) -> ConfigRecord {
    ConfigRecord {
        resource_type: resource.kind.code(),
        resource_name: resource.name.clone(),
        name,
        value,
        ..ConfigRecord::default()
    }
}

/// The Ottla settings of a topic: key as a user knows it (`ottla.…`) and value.
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
