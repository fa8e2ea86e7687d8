//! DeleteTopics.

use ottla_metadata::{ConfigResource, Topic, ottla_configs};
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::{MetadataRecord, RemoveTopicRecord};

use crate::{Decision, Refusal, View};

/// How a caller names a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicReference {
    /// By name.
    Name(String),
    /// By id.
    Id(Uuid),
}

/// A topic's name and id.
pub type Deleted = (String, Uuid);

/// The reply for each topic, in the order of the request.
pub type Reply = Vec<(TopicReference, Result<Deleted, Refusal>)>;

/// Decides a DeleteTopics request.
pub fn decide(view: View<'_>, topics: &[TopicReference]) -> Decision<Reply> {
    let mut records: Vec<MetadataRecord> = Vec::new();
    let mut reply: Reply = Vec::new();
    for reference in topics {
        let seen = reply.iter().any(|(other, _)| other == reference);
        let result = if seen {
            Err(Refusal::InvalidRequest("duplicate topic".to_owned()))
        } else {
            find(view, reference)
        };
        let result = result.map(|topic| {
            records.extend(remove(view, topic));
            (topic.name.clone(), topic.id)
        });
        reply.push((reference.clone(), result));
    }
    Decision { records, reply }
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

/// The topic's own configs go with it on replay; Ottla's settings of it stand elsewhere and are taken back here.
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
