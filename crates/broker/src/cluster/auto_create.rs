//! Creates topics without a CreateTopics request: on first use, and internal ones.

use ottla_controller::create_topics::NewTopic;
use ottla_controller::request::CreateTopics;
use ottla_controller::topic_names;
use ottla_metadata::MetadataImage;
use ottla_protocol::messages::ErrorCode;

use crate::broker::Broker;
use crate::cluster::channel::NoController;
use crate::internal_topics::{CONSUMER_OFFSETS, is_internal};
use crate::process::random::random_id;

/// Creates those of `names` that do not exist. Returns those that could not be created, with their errors.
///
/// The topics of transactions and of share groups are not created, as their coordinators are not served yet.
pub async fn create_missing(
    broker: &Broker,
    names: Vec<String>,
) -> Result<Vec<(String, ErrorCode)>, NoController> {
    let mut new = Vec::new();
    let mut refused = Vec::new();
    for name in names {
        // In Kafka the controller refuses this name, and the client learns only that the topic does not exist.
        if name == topic_names::CLUSTER_METADATA {
            continue;
        }
        match new_topic(broker, &name) {
            Some(topic) => new.push(topic),
            None => refused.push((name, ErrorCode::InvalidTopicException)),
        }
    }
    if new.is_empty() {
        return Ok(refused);
    }
    let asked = CreateTopics {
        topics: new,
        validate_only: false,
    };
    let reply = broker.controller.ask(asked).await?;
    for (name, result) in reply {
        match result.map_err(|refusal| refusal.code()) {
            // Another request has created it meanwhile.
            Ok(_) | Err(ErrorCode::TopicAlreadyExists) => {}
            Err(code) => refused.push((name, code)),
        }
    }
    Ok(refused)
}

fn new_topic(broker: &Broker, name: &str) -> Option<NewTopic> {
    topic_names::check(name).ok()?;
    let offsets = name == CONSUMER_OFFSETS;
    if is_internal(name) && !offsets {
        return None;
    }
    let (partitions, replication_factor, configs) = if offsets {
        offsets_topic(broker)
    } else {
        (-1, -1, Vec::new())
    };
    Some(NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor,
        assignments: Vec::new(),
        configs,
        id: random_id(),
    })
}

/// Partitions, replication factor and configs of `__consumer_offsets`, from `offsets.topic.*`.
fn offsets_topic(broker: &Broker) -> (i32, i16, Vec<(String, Option<String>)>) {
    let groups = &broker.config.groups;
    let config = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let configs = vec![
        config("cleanup.policy", "compact"),
        config("compression.type", "producer"),
        config("segment.bytes", &groups.offsets_segment_bytes.to_string()),
    ];
    (
        groups.offsets_partitions,
        groups.offsets_replication_factor,
        configs,
    )
}

/// The names in `wanted` of topics that do not exist.
pub fn missing<'a>(image: &MetadataImage, wanted: impl Iterator<Item = &'a str>) -> Vec<String> {
    wanted
        .filter(|name| !image.topic_ids.contains_key(*name))
        .map(str::to_owned)
        .collect()
}
