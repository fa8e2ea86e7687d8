//! Logs changes of metadata: topics created, deleted and extended, configs changed.
//!
//! Each change is one line, whichever client caused it. The line of a new topic has its configs; those of a deleted
//! topic are not logged. Sensitive values, and values of unknown keys, are never logged.

use ottla_metadata::config_keys::find;
use ottla_metadata::{Changes, ConfigResource, MetadataImage, ResourceKind, Topic, ottla_configs};
use ottla_protocol::ids::Uuid;

/// Longer values are cut off in the log.
const MAX_VALUE: usize = 200;

/// One change, as the log shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    TopicCreated {
        topic: String,
        id: Uuid,
        partitions: usize,
        /// The number of replicas of its first partition.
        replication_factor: usize,
        /// Its own configs: `key=value`.
        configs: Vec<String>,
    },
    TopicDeleted {
        topic: String,
        id: Uuid,
    },
    PartitionsAdded {
        topic: String,
        /// How many there were.
        before: usize,
        /// How many there are.
        now: usize,
    },
    /// A config has another value, or none of its own any more.
    ConfigChanged {
        /// `topic orders`, `broker 1`, `all brokers`, …
        resource: String,
        key: String,
        /// The new value; `None` if the config was removed.
        value: Option<String>,
    },
}

impl Event {
    /// Writes the line.
    pub fn log(&self) {
        match self {
            Self::TopicCreated {
                topic,
                id,
                partitions,
                replication_factor,
                configs,
            } => {
                tracing::info!(topic, %id, partitions, replication_factor, ?configs, "topic created");
            }
            Self::TopicDeleted { topic, id } => tracing::info!(topic, %id, "topic deleted"),
            Self::PartitionsAdded { topic, before, now } => {
                tracing::info!(topic, before, now, "partitions added");
            }
            Self::ConfigChanged {
                resource,
                key,
                value: Some(value),
            } => tracing::info!(resource, key, value, "config set"),
            Self::ConfigChanged { resource, key, .. } => {
                tracing::info!(
                    resource,
                    key,
                    "config removed: the value of the next level, or the default, is in force"
                );
            }
        }
    }
}

/// The events to log for the step from one image to the next.
pub fn events(before: &MetadataImage, now: &MetadataImage, changes: &Changes) -> Vec<Event> {
    let mut events: Vec<Event> = changes
        .deleted_topics
        .iter()
        .map(|(id, topic)| Event::TopicDeleted {
            topic: topic.clone(),
            id: *id,
        })
        .collect();
    let mut touched: Vec<Uuid> = changes.partitions.iter().map(|(id, _)| *id).collect();
    touched.dedup();
    for id in touched {
        let Some(topic) = now.topics.get(&id) else {
            continue;
        };
        let count = topic.partitions.len();
        match before.topics.get(&id).map(|last| last.partitions.len()) {
            None => events.push(created(now, topic)),
            Some(last) if last < count => events.push(Event::PartitionsAdded {
                topic: topic.name.clone(),
                before: last,
                now: count,
            }),
            Some(_) => {}
        }
    }
    for resource in &changes.configs {
        events.extend(configs(before, now, resource));
    }
    events
}

fn created(image: &MetadataImage, topic: &Topic) -> Event {
    let own = image.configs.get(&ConfigResource::topic(&topic.name));
    let own = own.into_iter().flatten();
    let own = own.map(|(key, value)| (key.clone(), value.clone()));
    let configs = own.chain(ottla_configs::of_topic(image, topic.id));
    let first = topic.partitions.values().next();
    Event::TopicCreated {
        topic: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.len(),
        replication_factor: first.map_or(0, |partition| partition.replicas.len()),
        configs: configs
            .map(|(key, value)| format!("{key}={}", shown(ResourceKind::Topic, &key, &value)))
            .collect(),
    }
}

/// The configs of `resource` that differ. None for a topic that was created or deleted.
fn configs(before: &MetadataImage, now: &MetadataImage, resource: &ConfigResource) -> Vec<Event> {
    let is_topic = resource.kind == ResourceKind::Topic;
    let topic_in = |image: &MetadataImage| image.topic_ids.get(&resource.name).copied();
    if is_topic && (topic_in(before).is_none() || topic_in(before) != topic_in(now)) {
        return Vec::new();
    }
    let (last, next) = (before.configs.get(resource), now.configs.get(resource));
    let mut keys: Vec<&String> = last
        .into_iter()
        .chain(next)
        .flatten()
        .map(|(key, _)| key)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter_map(|key| {
            let value = next.and_then(|configs| configs.get(key));
            if last.and_then(|configs| configs.get(key)) == value {
                return None;
            }
            changed((before, now), resource, (key, value))
        })
        .collect()
}

/// A changed config under the name that users know. Ottla's settings of topics are stored among the cluster's configs.
fn changed(
    (before, now): (&MetadataImage, &MetadataImage),
    resource: &ConfigResource,
    (key, value): (&str, Option<&String>),
) -> Option<Event> {
    let (resource, kind, key) = match ottla_configs::setting_of(key) {
        Some((id, key)) if resource == &ConfigResource::cluster() => {
            // The line of a new topic has its settings; those of a deleted topic are not logged.
            before.topics.get(&id)?;
            let name = &now.topics.get(&id)?.name;
            (format!("topic {name}"), ResourceKind::Topic, key)
        }
        _ => (resource.to_string(), resource.kind, key.to_owned()),
    };
    let value = value.map(|value| shown(kind, &key, value));
    Some(Event::ConfigChanged {
        resource,
        key,
        value,
    })
}

/// A value as it may be logged.
fn shown(kind: ResourceKind, key: &str, value: &str) -> String {
    let is_open = find(kind, key).is_some_and(|key| !key.is_sensitive());
    if !is_open {
        return "[hidden]".to_owned();
    }
    match value.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ottla_metadata::{ConfigResource, Loader, MetadataImage, ResourceKind, ottla_configs};
    use ottla_protocol::ids::Uuid;
    use ottla_protocol::messages::metadata::{
        MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
    };

    use super::{Event, events};

    const ID: Uuid = Uuid::from_parts(1, 1);

    fn topic() -> MetadataRecord {
        TopicRecord {
            name: "orders".to_owned(),
            topic_id: ID,
            ..TopicRecord::default()
        }
        .into()
    }

    fn partition(index: i32) -> MetadataRecord {
        PartitionRecord {
            topic_id: ID,
            partition_id: index,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            ..PartitionRecord::default()
        }
        .into()
    }

    fn config(resource: &ConfigResource, key: &str, value: Option<&str>) -> MetadataRecord {
        ottla_configs::record(resource, key.to_owned(), value.map(str::to_owned)).into()
    }

    /// What each of these batches of records is to an operator.
    fn read(batches: &[&[MetadataRecord]]) -> Vec<Vec<Event>> {
        let mut loader = Loader::new(MetadataImage::default());
        let mut before = MetadataImage::default();
        let mut read = Vec::new();
        for batch in batches {
            let changes = loader.load(*batch);
            read.push(events(&before, loader.image(), &changes));
            before = loader.image().clone();
        }
        read
    }

    #[test]
    fn a_topic_comes_grows_and_goes_with_a_line_each() {
        let owner = ConfigResource::topic("orders");
        let stored = ottla_configs::stored_name(ID, "ottla.ack.durability");
        let gone = RemoveTopicRecord {
            topic_id: ID,
            ..RemoveTopicRecord::default()
        };
        let read = read(&[
            &[
                topic(),
                partition(0),
                partition(1),
                config(&owner, "retention.ms", Some("1000")),
                config(&ConfigResource::cluster(), &stored, Some("page-cache")),
            ],
            &[partition(2)],
            &[
                gone.into(),
                config(&ConfigResource::cluster(), &stored, None),
            ],
        ]);
        let created = Event::TopicCreated {
            topic: "orders".to_owned(),
            id: ID,
            partitions: 2,
            replication_factor: 1,
            configs: vec![
                "retention.ms=1000".to_owned(),
                "ottla.ack.durability=page-cache".to_owned(),
            ],
        };
        let grown = Event::PartitionsAdded {
            topic: "orders".to_owned(),
            before: 2,
            now: 3,
        };
        let deleted = Event::TopicDeleted {
            topic: "orders".to_owned(),
            id: ID,
        };
        assert_eq!(read, [vec![created], vec![grown], vec![deleted]]);
    }

    #[test]
    fn configs_are_logged_by_the_names_users_know_and_secrets_are_not() {
        let changed = |resource: &str, key: &str, value: Option<&str>| Event::ConfigChanged {
            resource: resource.to_owned(),
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        let stored = ottla_configs::stored_name(ID, "ottla.ack.durability");
        let cluster = ConfigResource::cluster();
        let broker = ConfigResource::broker(1);
        let subscription = ConfigResource {
            kind: ResourceKind::ClientMetrics,
            name: "m".to_owned(),
        };
        let read = read(&[
            &[topic(), partition(0)],
            &[
                config(&cluster, &stored, Some("page-cache")),
                config(&cluster, "log.retention.ms", Some("5")),
                config(&broker, "ssl.key.password", Some("secret")),
                config(&broker, "of.a.plugin", Some("secret, perhaps")),
            ],
            &[config(&cluster, "log.retention.ms", None)],
            &[config(&broker, "ssl.key.password", Some("secret"))],
            &[
                config(&subscription, "interval.ms", Some("1000")),
                config(&subscription, "of.a.plugin", Some("secret, perhaps")),
            ],
        ]);
        let set = vec![
            changed("all brokers", "log.retention.ms", Some("5")),
            changed("topic orders", "ottla.ack.durability", Some("page-cache")),
            changed("broker 1", "of.a.plugin", Some("[hidden]")),
            changed("broker 1", "ssl.key.password", Some("[hidden]")),
        ];
        assert_eq!(read[1], set);
        assert_eq!(read[2], [changed("all brokers", "log.retention.ms", None)]);
        assert_eq!(read[3], []);
        let of_subscription = [
            changed("client metrics m", "interval.ms", Some("1000")),
            changed("client metrics m", "of.a.plugin", Some("[hidden]")),
        ];
        assert_eq!(read[4], of_subscription);
    }
}
