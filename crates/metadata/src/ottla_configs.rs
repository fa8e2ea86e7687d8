//! Ottla's own per-topic settings, and where they stand.
//!
//! Kafka 4.3 drops topic configs that it does not know when it replays, so that a snapshot by Kafka would forget
//! them. They stand as configs of the default broker resource instead, named by the topic's id, and are shown
//! and set as topic configs.

use ottla_protocol::ids::Uuid;

use crate::{ConfigResource, MetadataImage};

/// How Ottla's own keys begin.
pub const PREFIX: &str = "ottla.";

/// The stored name of topic setting `key` (`ottla.…`) of the topic with this id.
pub fn stored_name(topic: Uuid, key: &str) -> String {
    let rest = key.strip_prefix(PREFIX).unwrap_or(key);
    format!("ottla.topic.{topic}.{rest}")
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
