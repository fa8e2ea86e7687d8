//! DeleteTopics.
//!
//! As in Kafka, a topic that a request names twice, by the same name or id or by both, is not deleted and gets one error.

use std::collections::{BTreeMap, BTreeSet};

use ottla_metadata::{ConfigResource, Topic, ottla_configs};
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::{MetadataRecord, RemoveTopicRecord};

use crate::{Decision, Refusal, View};

/// How a caller names a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicReference {
    /// By name.
    Name(String),
    /// By id.
    Id(Uuid),
}

/// How a reply names a topic: both fields for a topic that was found, else what the request named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    pub name: Option<String>,
    pub id: Option<Uuid>,
}

/// The reply for each topic, in the order in which the request names them first.
pub type Reply = Vec<(Named, Result<(), Refusal>)>;

/// Decides a DeleteTopics request.
pub fn decide(view: View<'_>, topics: &[TopicReference]) -> Decision<Reply> {
    let mut times: BTreeMap<&TopicReference, usize> = BTreeMap::new();
    for reference in topics {
        *times.entry(reference).or_default() += 1;
    }
    let mut records: Vec<MetadataRecord> = Vec::new();
    let mut reply: Reply = Vec::new();
    let mut seen = BTreeSet::new();
    for reference in topics.iter().filter(|reference| seen.insert(*reference)) {
        if times.get(reference) > Some(&1) {
            reply.push((reference.into(), Err(Refusal::TopicNamedTwice)));
            continue;
        }
        let topic = match find(view, reference) {
            Ok(topic) => topic,
            Err(refusal) => {
                reply.push((reference.into(), Err(refusal)));
                continue;
            }
        };
        let named = Named {
            name: Some(topic.name.clone()),
            id: Some(topic.id),
        };
        let other = match reference {
            TopicReference::Name(_) => times.get(&TopicReference::Id(topic.id)),
            TopicReference::Id(_) => times.get(&TopicReference::Name(topic.name.clone())),
        };
        match (reference, other) {
            (TopicReference::Name(_), Some(_)) => {
                reply.push((named, Err(Refusal::TopicNamedByNameAndId)));
            }
            // The reference by name answers for both.
            (TopicReference::Id(_), Some(1)) => {}
            _ => {
                records.extend(remove(view, topic));
                reply.push((named, Ok(())));
            }
        }
    }
    Decision::new(records, reply)
}

impl From<&TopicReference> for Named {
    fn from(reference: &TopicReference) -> Self {
        match reference.clone() {
            TopicReference::Name(name) => Self {
                name: Some(name),
                id: None,
            },
            TopicReference::Id(id) => Self {
                name: None,
                id: Some(id),
            },
        }
    }
}

fn find<'a>(view: View<'a>, reference: &TopicReference) -> Result<&'a Topic, Refusal> {
    if !view.settings.delete_topics {
        return Err(Refusal::TopicDeletionDisabled);
    }
    match reference {
        TopicReference::Name(name) => view.image.topic(name).ok_or(Refusal::UnknownTopic),
        TopicReference::Id(id) => view
            .image
            .topics
            .get(id)
            .ok_or(Refusal::UnknownTopicId(*id)),
    }
    .map(AsRef::as_ref)
}

/// RemoveTopic deletes the topic's configs on replay. Ottla's own settings of the topic are stored as configs of the
/// cluster, so each needs a record that deletes it.
fn remove(view: View<'_>, topic: &Topic) -> Vec<MetadataRecord> {
    let cluster = ConfigResource::cluster();
    let mut records: Vec<MetadataRecord> = ottla_configs::of_topic(view.image, topic.id)
        .into_iter()
        .map(|(key, _)| {
            let stored = ottla_configs::stored_name(topic.id, &key);
            ottla_configs::record(&cluster, stored, None).into()
        })
        .collect();
    records.push(
        RemoveTopicRecord {
            topic_id: topic.id,
            ..RemoveTopicRecord::default()
        }
        .into(),
    );
    records
}
